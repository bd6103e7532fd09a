// Package pool lets many clients of the service path share few database sessions.
//
//	client ─▶ Mux ─┬─ transaction ends ─▶ server back to its lane ─▶ next client that waits
//	               └─ lasting state ────▶ the server is kept (pinned) until reset
//
// A Pool serves one role on one database; a lane is the part of it whose servers were started
// with the same parameters. A Mux, free of I/O, follows one client's stream and its server's
// answers: it knows what is owed, maps prepared statements, and says when a server is free.
//
// The invariant it keeps: a server goes to another client only when nothing is owed on it, it
// is outside a transaction, and nothing that the last client did to the session is left.
// Whatever is not understood keeps the server (a Shape's zero value does), and a server that
// says what nobody asked for is closed, together with its client.
//
// Specification: PostgreSQL's frontend/backend protocol 3.0, message flow; the behaviour of
// PgBouncer's pool modes where there is no reason to differ. It decides nothing about access,
// and counts no statements: the gateway does both.
package pool
