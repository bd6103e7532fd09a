// Package wire frames the PostgreSQL protocol, version 3: it cuts a stream of bytes into
// messages, parses the few messages the gateway must understand, and builds those it says
// itself.
//
// The invariant it keeps: nothing here reads, writes, waits or allocates by what a peer
// announces. A length is checked against the bound of its message's type before any of its
// payload is looked at, and a type that its direction does not know is an error.
//
// Specification: PostgreSQL documentation, "Frontend/Backend Protocol", message formats of
// 3.0 and 3.2. It does no I/O, so that a goroutine and an event loop can share it, and it
// does not interpret SQL.
package wire
