// Package trefoil is what an outsider needs to check a Trefoil enclave: the format of its
// records, its receipts, and their offline verification.
//
// The invariant it keeps: nothing here trusts the operator. A receipt verifies, or the
// error names the first thing that does not.
//
// Formats: docs/record-format.md; C2SP tlog-checkpoint, tlog-cosignature, tlog-proof,
// tlog-tiles and signed-note; RFC 6962 section 2.1 for the tree.
package trefoil
