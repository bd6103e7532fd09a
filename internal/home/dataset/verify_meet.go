package dataset

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// host is the verification's part in a meeting with a flow (meet.go). Without a flow it holds
// nothing, and part does nothing.
type host struct {
	conn    *pgx.Conn
	id      string
	follows bool // the dataset was built to follow

	snapshot string // at the source, "" when nobody follows
	at       time.Time
	position string
	note     string
}

// meetWait is how long a flow may take to come to a meeting: it may have a large batch to end.
const meetWait = 2 * time.Minute

// ErrNoMeeting says that a flow runs and did not come to one snapshot with the verification in
// time: it is behind, or building. Verify again when trefoil dataset status shows no lag.
var ErrNoMeeting = errors.New("the dataset's flow is behind or building, and did not come to one snapshot in time")

// meet brings a running flow to one snapshot and holds it there until part.
func (b *Builder) meet(ctx context.Context, clusterDSN, name string) (_ *host, err error) {
	m := &host{id: rand.Text()}
	if m.conn, err = connectTo(ctx, clusterDSN, name, "; SET ROLE "+postgres.OwnerRole); err != nil {
		return nil, fmt.Errorf("connect to the dataset's database: %w", err)
	}
	defer func() {
		if err != nil {
			m.part()
		}
	}()
	state, err := readFlow(ctx, m.conn)
	if err != nil || state == nil {
		m.close()
		return m, err
	}
	m.follows = true
	alone, err := m.alone(ctx, name)
	if err != nil {
		return nil, err
	}
	if alone || state.State != following {
		m.note = "nobody follows the source now: rows written there since " + state.FreshAsOf.Format(time.RFC3339) + " differ"
		m.close()
		return m, nil
	}
	if _, err := m.conn.Exec(ctx, "INSERT INTO trefoil_info.meeting (id, asked_at) VALUES ($1, pg_catalog.clock_timestamp())", m.id); err != nil {
		return nil, fmt.Errorf("ask the flow to one snapshot: %w", safe(err))
	}
	return m, m.await(ctx, name)
}

// await waits until the flow says where it stands.
func (m *host) await(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, meetWait, ErrNoMeeting)
	defer cancel()
	for {
		var snapshot, position *string
		var at *time.Time
		err := m.conn.QueryRow(ctx, `UPDATE trefoil_info.meeting SET asked_at = pg_catalog.clock_timestamp() WHERE id = $1
			RETURNING snapshot, at, position::text`, m.id).Scan(&snapshot, &at, &position)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("wait for the flow: %w: it ended, or the dataset was built again", ErrNoMeeting)
		case snapshot != nil && at != nil && position != nil:
			m.snapshot, m.at, m.position = *snapshot, *at, *position
			return nil
		}
		alone, err := m.alone(ctx, name)
		if err == nil && alone {
			err = fmt.Errorf("wait for the flow: %w: it ended", ErrNoMeeting)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(4 * meetPoll):
		}
	}
}

// alone says that neither a flow nor a build holds the dataset's lock (openTarget).
func (m *host) alone(ctx context.Context, name string) (bool, error) {
	var held bool
	err := m.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted
		AND classid = 1953654118 AND objid = ((pg_catalog.hashtext($1)::bigint & 4294967295)::text)::oid AND objsubid = 2)`, name).Scan(&held)
	if err != nil {
		return false, fmt.Errorf("look for the dataset's flow: %w", safe(err))
	}
	return !held, nil
}

// part lets the flow go on. It may be called again.
func (m *host) part() {
	if m.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	// Where this fails the flow goes on by itself after meetHold.
	_, _ = m.conn.Exec(ctx, "DELETE FROM trefoil_info.meeting WHERE id = $1", m.id)
	m.close()
}

func (m *host) close() {
	closeConn(m.conn)
	m.conn = nil
}
