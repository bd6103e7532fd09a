// Package transform turns a column's values into the form a dataset holds them in.
//
// The invariant it keeps: every function is total. A value that does not fit its transform
// becomes NULL and is counted; nothing raises, and no error names a value. NULL stays NULL
// and never reaches a function. Pseudonyms of integers, UUIDs and addresses are
// permutations, so keys never collide; those of texts are keyed hashes. Keys are derived
// per purpose, domain and epoch from one root key, which stays in the enclave.
//
// Values are in PostgreSQL's text output format (client_encoding UTF8, DateStyle ISO,
// TimeZone UTC), and what a function appends is canonical: PostgreSQL would print the
// stored value with the same bytes. That is what lets digests compare.
//
// Construction: balanced Feistel network of 10 rounds over AES-256 (after Luby and Rackoff;
// NIST SP 800-38G uses 8 or 10 rounds); HMAC-SHA256; HKDF-SHA256 (RFC 5869). It is pure but
// for key files. What it does not do: decide which form a column may have.
package transform

// Func appends the form of src to dst. It returns false, and dst as it was, when src does
// not fit: the value becomes NULL. A Func owns scratch space: it is for one goroutine.
type Func func(dst, src []byte) ([]byte, bool)
