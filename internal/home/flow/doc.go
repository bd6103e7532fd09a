// Package flow tells which rows of a PostgreSQL database changed: it reads the change
// stream of a logical replication slot (pgoutput over the streaming replication protocol)
// and keeps, per transaction, the keys of the rows that were touched.
//
// The invariants it keeps: a position is confirmed to the source only after its owner says
// that everything before it is durable; a transaction is handed out whole or not at all;
// every length and count that the source sends is checked against the bytes that are there;
// keepalives are answered whatever the owner is doing; what is held is bounded.
//
// It implements "Logical Streaming Replication Protocol" and "Logical Replication Message
// Formats" of the PostgreSQL documentation, protocol versions 1 to 4. It does not read
// values of columns that are no key, and it applies nothing: owners read rows as of a
// snapshot of their own (docs/design/flow.md).
package flow
