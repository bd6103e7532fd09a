package trefoil

// RefusalReasons is the closed set of RefusalBody.Reason (docs/record-format.md).
func RefusalReasons() []string {
	return []string{
		"malformed", "version", "tls-required", "password", "rate-limited", "replication", "parameter", "limit",
		"unknown-dataset", "policy", "floor", "dataset-not-acknowledged", "dataset-not-built", "dataset-away",
		"database", "configuration", "unrecorded", "ended", "monitor",
	}
}
