// Package splice moves the bytes of many connections with few threads: a Loop owns its
// connections' sockets and tells a Handler what arrives; the Handler, free of I/O, says what
// is sent where.
//
//	Received(client, bytes) ─▶ handler: frame, count, choose ─▶ server.Send(bytes)
//	Received(server, bytes) ─▶ handler: frame, count         ─▶ client.Send(bytes)
//
// On Linux a Loop is one thread on epoll (NewLoop); elsewhere, and for connections that have
// no socket of their own, two goroutines a connection drive the same handlers (NewPortable).
//
// The invariant it keeps: all calls to handlers of one Loop happen one after the other, so a
// handler needs no lock and two connections of one loop can never be mixed up by timing;
// bytes are sent in the order they were given and never twice; what a socket does not take
// is kept, and bounded by its reader being paused (the handler's duty: Blocked, Drained).
//
// It knows no PostgreSQL and no policy, and it opens no connections: start-up, TLS handshakes
// and logins happen in goroutines before a connection is adopted.
package splice
