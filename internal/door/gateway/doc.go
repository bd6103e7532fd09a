// Package gateway is the door: listeners, start-up, authentication, and the two paths behind
// it.
//
//	client ── start-up ─ TLS ─ SCRAM ─▶ Authorise ─┬─ Deny    → refusal, recorded
//	                                               ├─ Service → log in to the source, splice
//	                                               └─ Release → log in to the dataset, ReleaseRunner
//
// The invariant it keeps: nobody reaches a database without a decision that says Service or
// Release; the zero Decision denies. On the service path it frames and counts, off the hot
// path, and never waits for the monitor. On the release path it writes nothing after
// authentication: internal/door/release does.
//
// Specification: PostgreSQL's frontend/backend protocol 3.0 and 3.2; RFC 5802, 7677, 5929
// for SCRAM and its channel binding. It parses no SQL and knows no policy.
package gateway
