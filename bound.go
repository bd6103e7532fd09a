package trefoil

import "slices"

// accompany are the kinds of statement that go beside any other: they read no table, and their
// answer holds nothing but their name.
var accompany = []string{"begin", "commit", "rollback", "savepoint", "set", "deallocate", "discard", "close", "empty"}

// KeepTo reports whether statements are all of one keyed fingerprint, but for those that begin
// and end transactions, set settings or let go of names, and that name no table. Of no
// statement at all, and of no fingerprint, it says no. A grant can be bound to a statement so:
// gateway and monitor both ask this of each release.
func KeepTo(fingerprint string, statements []Statement) bool {
	for _, s := range statements {
		if s.Fingerprint != fingerprint && (len(s.Tables) > 0 || !slices.Contains(accompany, s.Kind)) {
			return false
		}
	}
	return fingerprint != "" && len(statements) > 0
}
