package pool

// Reason says why a server must stay with its client. The zero value is a reason.
type Reason uint8

// Reasons. Only Nothing lets a server go.
const (
	Unknown   Reason = iota // a statement that is not understood
	Nothing                 // nothing lasts
	Setting                 // SET, set_config and the like of a parameter that is not tracked
	Listening               // LISTEN
	Lock                    // advisory lock of the session
	Temporary               // temporary table, view or sequence
	Held                    // cursor WITH HOLD
	Prepared                // PREPARE in SQL
	Sequence                // currval, lastval: what a sequence gave this session
	Code                    // DO, CALL, LOAD and functions that are known to leave something
	Large                   // a statement too large to be looked at
	Direct                  // the function call message
	Whole                   // session mode: the server is the client's as long as it is there
)

// String names a reason as status shows it.
func (r Reason) String() string {
	return [...]string{"statement not understood", "", "setting", "listen", "advisory lock", "temporary object", "held cursor",
		"prepared in SQL", "sequence", "code", "large statement", "function call", "session"}[r]
}

// tracked are the parameters whose value the server reports and the pool can set again, so
// that changing them keeps no server. Their order gives the bits of Shape.Sets.
var tracked = [...]string{"client_encoding", "DateStyle", "TimeZone", "IntervalStyle", "standard_conforming_strings",
	"application_name", "default_transaction_read_only", "search_path"}

// trackedBit returns a tracked parameter's bit by its lower-case name; 0 for others.
func trackedBit(name []byte) uint16 {
	switch string(name) {
	case "client_encoding":
		return 1 << 0
	case "datestyle":
		return 1 << 1
	case "timezone":
		return 1 << 2
	case "intervalstyle":
		return 1 << 3
	case "standard_conforming_strings":
		return 1 << 4
	case "application_name":
		return 1 << 5
	case "default_transaction_read_only":
		return 1 << 6
	case "search_path":
		return 1 << 7
	}
	return 0
}

// leaves says what a function of this name leaves in a session, wherever it is called.
func leaves(name []byte) Reason {
	switch string(name) {
	case "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared":
		return Lock
	case "currval", "lastval":
		return Sequence
	case "setseed", "set_limit", "http_set_curlopt", "pg_replication_origin_session_setup", "http_reset_curlopt":
		return Setting
	case "dblink_connect", "dblink_connect_u", "dblink_send_query", "dblink_open", "pg_backup_start", "pg_start_backup",
		"pg_create_physical_replication_slot", "pg_create_logical_replication_slot", "pg_copy_physical_replication_slot",
		"pg_copy_logical_replication_slot":
		return Code
	}
	if len(name) >= 7 && string(name[:7]) == "pg_temp" {
		return Temporary
	}
	return Nothing
}

// plainFirst reports whether a statement that begins with this word leaves nothing by itself
// (what its functions do is looked at everywhere).
func plainFirst(word []byte) bool {
	switch string(word) {
	case "select", "with", "insert", "update", "delete", "merge", "values", "table", "explain", "copy",
		"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "show",
		"analyze", "analyse", "vacuum", "truncate", "lock", "grant", "revoke", "comment", "reindex", "cluster",
		"refresh", "notify", "checkpoint", "fetch", "move", "close", "alter", "drop", "create", "import",
		"security", "reassign", "unlisten", "execute", "reset":
		return true
	}
	return false
}
