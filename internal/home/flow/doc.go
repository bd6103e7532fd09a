// Package flow tells what changed in a PostgreSQL database: it reads the change stream of a
// logical replication slot (pgoutput over the streaming replication protocol) and collects it
// into batches that hold each changed row once, as it is after the batch.
//
// The invariants it keeps: a position is confirmed to the source only after its owner says
// that everything before it is durable; a transaction is handed out whole, or in parts that
// say so; a row is called known only when every column that is wanted was sent; every length
// and count that the source sends is checked against the bytes that are there; keepalives are
// answered whatever the owner is doing; what is held is bounded, at any size of transaction.
//
// It implements "Logical Streaming Replication Protocol" and "Logical Replication Message
// Formats" of the PostgreSQL documentation, protocol versions 1 to 4. It applies nothing, and
// decides nothing about rows (docs/design/flow.md).
package flow
