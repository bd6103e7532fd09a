// Package audit opens the ciphertext that the monitor's valve kept of a session, with the
// session's TLS secrets, and compares the bytes with the session's records.
//
// The invariant it keeps: what it reports as matching was authenticated by TLS under the
// secrets given, and its digest is the one in a record that was logged, witnessed and
// permitted. Every byte it could not match is counted.
//
// It implements docs/design/valve.md (audit) for TLS 1.3 (RFC 8446). It runs in the region: what
// it opens is what the client read. It does not judge whether the recorded bytes were an honest
// answer to the statement.
package audit
