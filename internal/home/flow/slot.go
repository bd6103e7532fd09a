package flow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Slot is what the source says of a slot.
type Slot struct {
	Active    bool
	WALStatus string // reserved, extended, unreserved, lost
	Confirmed LSN
	Retained  int64 // bytes of the log that it keeps from being removed
}

// SlotName is the slot of a dataset: letters, digits and underscores alone, at most 63, and
// different for names that only look alike once cleaned.
func SlotName(dataset string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, dataset)
	sum := sha256.Sum256([]byte(dataset))
	return "trefoil_" + clean[:min(len(clean), 40)] + "_" + hex.EncodeToString(sum[:4])
}

// FindSlot reads a slot of the database that conn is connected to; nil when it has none.
func FindSlot(ctx context.Context, conn *pgx.Conn, name string) (*Slot, error) {
	var s Slot
	var confirmed string
	err := conn.QueryRow(ctx, `SELECT active, coalesce(wal_status, ''), coalesce(confirmed_flush_lsn, '0/0')::text,
		coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
			ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn), 0)::bigint
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND plugin = 'pgoutput' AND database = pg_catalog.current_database()`, name).
		Scan(&s.Active, &s.WALStatus, &confirmed, &s.Retained)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for slot %s: %w", name, safe(err))
	}
	s.Confirmed, err = ParseLSN(confirmed)
	return &s, err
}

// CreateSlot makes a slot that sends every transaction that commits from now on. From
// PostgreSQL 17 on it is a failover slot: standbys with sync_replication_slots have it too.
func CreateSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	sql := "SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')"
	var version int
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("create slot %s: %w", name, safe(err))
	}
	if version >= 170000 {
		sql = "SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput', false, false, true)"
	}
	if _, err := conn.Exec(ctx, sql, name); err != nil {
		return fmt.Errorf("create slot %s: %w", name, safe(err))
	}
	return nil
}

// CopySlot makes a slot that sends what another one would. Like those that CreateSlot makes
// it is a failover slot from PostgreSQL 17 on, which a copy is not by itself.
func CopySlot(ctx context.Context, conn *pgx.Conn, dsn, from, to string) error {
	var version int
	err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('server_version_num')::int").Scan(&version)
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT pg_catalog.pg_copy_logical_replication_slot($1, $2)", from, to)
	}
	if err != nil {
		return fmt.Errorf("copy slot %s to %s: %w", from, to, safe(err))
	}
	if version < 170000 {
		return nil
	}
	c, err := connect(ctx, dsn)
	if err == nil {
		_, err = c.Exec(ctx, "ALTER_REPLICATION_SLOT "+quote(to)+" (FAILOVER true)").ReadAll()
		quit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, c.Close(quit))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy slot %s to %s: %w", from, to, safe(err)), DropSlot(context.WithoutCancel(ctx), conn, to))
	}
	return nil
}

// How often, and after which pause, a slot is tried that is in use: a server notices the end
// of its reader when it next writes or looks.
const (
	slotTries = 100
	slotPause = 100 * time.Millisecond
)

// DropSlot removes a slot, also one that a process which has just ended still seems to use.
// A slot that is not there is no error.
func DropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	for try := 0; ; try++ {
		_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
			WHERE slot_name = $1 AND database = pg_catalog.current_database()`, name)
		if err == nil {
			return nil
		}
		if err = safe(err); try >= slotTries || !strings.Contains(err.Error(), InUse) {
			return fmt.Errorf("drop slot %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(slotPause):
		}
	}
}
