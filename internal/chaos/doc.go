// Package chaos holds tests of a whole enclave on one machine whose parts are killed and whose
// disks fill while releases are in flight. It has no code of its own.
//
// The invariant they guard is "no receipt, no row", seen from both ends: what the test's own
// clients count at their sockets after TLS, against the records in the monitor's mirror, session
// by session. And what must outlive any crash: the log verifies and only grows, writes that a
// service was told of are there, no held byte stays on disk.
//
// Parts are killed by SIGKILL, at random or at a failpoint of internal/sabotage, which only
// the binary that the tests build has. `make test` runs a short form; `make chaos` many rounds
// (TREFOIL_CHAOS=N). Loss of power (what was not synced is gone) is not played here: the
// packages that write to disk test it themselves.
package chaos
