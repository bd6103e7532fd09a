// Package route knows which server of a PostgreSQL cluster takes writes now, and which replicas
// are near and fresh enough for read-only sessions.
//
// It asks every member at an interval: Patroni's REST API where a member has one (a member is the
// primary only while it holds the leader's lock), the server itself otherwise (pg_is_in_recovery).
//
// The invariant it keeps: a session is sent to at most one primary. Two members that both take
// writes on one timeline mean no primary at all, and a member on an older timeline than one seen
// before is not the primary again, whatever it says of itself.
//
// It does not promote, demote or fence anything: that is the cluster manager's.
package route
