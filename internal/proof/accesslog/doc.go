// Package accesslog keeps one site's access log: a Tessera log of salted commitments, the
// store of bodies and salts beside it, and what of both is served over HTTP.
//
// The invariant it keeps: Append returns only once body, salt and opening are on disk and
// the leaf is queued; Witnessed returns only a checkpoint that this package itself has
// verified, with the quorum of cosignatures, and that includes the record. An error or a
// full queue denies. Bodies, salts and openings can be deleted for good; the tree verifies
// without them. Openings are never served.
//
// Formats: C2SP tlog-tiles, tlog-checkpoint, tlog-proof; docs/record-format.md for bodies.
// It does not decide what is recorded, and it does not judge a record.
package accesslog
