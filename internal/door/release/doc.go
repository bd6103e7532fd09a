// Package release is the only way by which bytes that a dataset's server originated reach
// a release-path client: hold, record, cosign, permit, release.
//
//	client            release                      server        log         monitor
//	  |                  | session record (start) ─────────────────▶|            |
//	  |                  |◀──────────── proof, cosigned ────────────|            |
//	  |                  | permit request ──────────────────────────────────────▶|
//	  |◀─ AuthenticationOk, ParameterStatus, …, ReadyForQuery                    |
//	  |─ Query ─────────▶|─ Query ────────────────▶|             |            |
//	  |                  |◀─ everything it says ───| held, counted, digested  |
//	  |                  | release record ──────────────────────────▶|            |
//	  |                  |◀──────────── proof, cosigned ────────────|            |
//	  |                  | permit request ──────────────────────────────────────▶|
//	  |◀─ the held bytes (letOut)                                                |
//	  |                  | session record (end): released, covered, fixed ─────▶|
//
// The invariant it keeps (no receipt, no row): the client's connection is written by one
// function, letOut, which takes a cleared value; a cleared value is made only from a record
// whose proof and permit verified, from the session's own permit for statements that read
// nothing but catalogs, or from the gateway's own constant messages. Every byte is counted:
// bytes at the client's socket = released + covered + fixed.
//
// It frames the PostgreSQL protocol, version 3 (PostgreSQL documentation, "Frontend/Backend
// Protocol"). It never changes a statement and never decides what may be seen: the dataset
// holds nothing else. It does not authenticate, listen or cancel on a client's behalf; the
// gateway does.
package release
