package dataset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// publication is the one that the tables' owner makes for the flow.
const publication = "trefoil"

// start brings the follower to a dataset that can be followed: it is planned against the
// source, and built where it must be.
func (f *follower) start(ctx context.Context) error {
	conn, err := connect(ctx, f.sourceDSN, "")
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(conn)
	if err := f.present(ctx); err != nil {
		return err
	}
	if err := f.plan(ctx, conn); err != nil {
		var passing *passingError
		if errors.As(err, &passing) {
			return err
		}
		if f.state == nil {
			return &neverError{err}
		}
		return errors.Join(err, f.t.setStale(ctx, err.Error(), nil))
	}
	why, err := f.mustBuild(ctx, conn)
	if err != nil || why == "" {
		return err
	}
	if done, err := f.resync(ctx, conn, why); done || err != nil {
		return err
	}
	f.b.cfg.Logger.Info("dataset is built to follow its source", "dataset", f.name, "why", why)
	if err = f.build(ctx, conn); errors.Is(err, ErrReview) {
		return f.hold(ctx, err)
	}
	return err
}

// passingError says that the source could not be read, which tells nothing of its shape: what
// stands goes on standing, and the reading is tried again.
type passingError struct{ error }

func (e *passingError) Unwrap() error { return e.error }

// present reads the state of the dataset that stands, nil when it has none.
func (f *follower) present(ctx context.Context) error {
	there, err := f.t.exists(ctx)
	if err != nil || !there {
		return err
	}
	conn, err := f.t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	f.state, err = readFlow(ctx, conn)
	return err
}

func (f *follower) plan(ctx context.Context, conn *pgx.Conn) error {
	var level string
	var unbounded, may, standby bool
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('wal_level'), pg_catalog.current_setting('max_slot_wal_keep_size') = '-1',
		(SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), pg_catalog.pg_is_in_recovery()`).
		Scan(&level, &unbounded, &may, &standby); err != nil {
		return &passingError{fmt.Errorf("read the source's settings: %w", safe(err))}
	}
	if standby {
		return errors.New("the source is a standby: following needs the primary")
	}
	if !may {
		return errors.New("the source's reader may not read its change stream: ALTER ROLE it REPLICATION, as a superuser")
	}
	if unbounded {
		f.b.cfg.Logger.Warn("the source keeps its log without bound for a dataset that is not followed: set max_slot_wal_keep_size", "dataset", f.name)
	}
	if level != "logical" {
		return fmt.Errorf("the source has wal_level = %s: following needs logical", level)
	}
	schema, err := postgres.Inspect(ctx, conn)
	if err != nil {
		return &passingError{safe(err)}
	}
	p, err := f.b.makePlan(f.name, schema)
	if err != nil {
		return err
	}
	if f.p, err = f.b.follow(p); err != nil {
		return err
	}
	return f.published(ctx, conn)
}

// published checks the publication, and says how to make one that does.
func (f *follower) published(ctx context.Context, conn *pgx.Conn) error {
	var missing, bad []string
	for _, t := range f.p.all {
		var listed, whole, rooted bool
		err := conn.QueryRow(ctx, `SELECT p.puballtables OR r.oid IS NOT NULL,
			p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND pg_catalog.to_jsonb(r)->>'prqual' IS NULL, p.pubviaroot
			FROM pg_catalog.pg_publication p LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = $2
			WHERE p.pubname = $1`, publication, t.src.OID).Scan(&listed, &whole, &rooted)
		switch {
		case errors.Is(err, pgx.ErrNoRows) || err == nil && !listed:
			missing = append(missing, t.quoted())
		case err != nil:
			return &passingError{fmt.Errorf("read the publication: %w", safe(err))}
		case !whole || t.src.Kind == postgres.Partitioned && !rooted:
			bad = append(bad, t.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the source's publication %s does not have every table: as their owner, CREATE PUBLICATION %s FOR TABLE %s WITH (publish_via_partition_root = true)",
			publication, publication, strings.Join(missing, ", "))
	}
	if len(bad) > 0 {
		return fmt.Errorf("the source's publication %s must publish every insert, update, delete and truncate of %s, without a row filter, and partitions via their root",
			publication, strings.Join(bad, ", "))
	}
	return nil
}

// mustBuild says why following cannot go on from what stands; "" when it can.
func (f *follower) mustBuild(ctx context.Context, conn *pgx.Conn) (string, error) {
	var system, at string
	if err := conn.QueryRow(ctx, "SELECT system_identifier::text, pg_catalog.pg_current_wal_insert_lsn()::text FROM pg_catalog.pg_control_system()").
		Scan(&system, &at); err != nil {
		return "", fmt.Errorf("identify the source: %w", safe(err))
	}
	now, err := flow.ParseLSN(at)
	if err != nil {
		return "", err
	}
	if f.state == nil {
		f.state = &FlowState{system: system}
		return "it was not built to follow", nil
	}
	position, err := flow.ParseLSN(f.state.Position)
	if err != nil {
		return "", err
	}
	slot, err := f.slot(ctx, conn, position)
	if err != nil {
		return "", err
	}
	was := f.state.system
	f.state.system = system
	switch {
	case f.state.State != following:
		return f.state.Reason, nil
	case f.state.hash != f.p.hash:
		return "its definition changed", nil
	case was != system:
		return "the source is another system", nil
	case now < position:
		return "the source went back in time", nil
	case unfit(slot, position) != "":
		return unfit(slot, position), nil
	case slot.Retained > f.b.retain(f.source):
		return "it fell too far behind", nil
	}
	if f.state.Slot == f.hub.slot { // others may be reading it: it is looked at on joining them
		return "", nil
	}
	return f.divergent(ctx, conn, slot)
}

// build makes a slot and then the dataset from a later snapshot. What the stream says of the
// time between is looked at again, which changes nothing: there is no gap, and an overlap does
// no harm.
func (f *follower) build(ctx context.Context, conn *pgx.Conn) (err error) {
	slot, undo, err := f.remake(ctx, conn)
	if err != nil {
		return err
	}
	handed := false
	defer func() {
		if err != nil && !handed {
			err = errors.Join(err, undo())
		}
	}()
	before, err := shapeOf(ctx, conn, f.p)
	if err != nil {
		return err
	}
	if err := sabotage.Point("flow-slot"); err != nil {
		return err
	}
	if _, err := f.b.buildOn(ctx, f.name, func(context.Context) (*target, func(), error) { return f.t, func() {}, nil }); err != nil {
		return err
	}
	after, err := shapeOf(ctx, conn, f.p)
	if err := errors.Join(err, sabotage.Point("flow-built")); err != nil {
		return err
	}
	if !maps.Equal(before, after) {
		return errors.New("tables changed at the source while the dataset was built")
	}
	h, err := flow.Look(ctx, conn)
	if err != nil {
		return err
	}
	f.state.Slot, f.state.shape = flow.SlotName(f.name), before
	if err := f.t.hand(ctx, f.p, f.state, slot.Confirmed, h.At); err != nil {
		return err
	}
	handed = true
	return f.present(ctx)
}

// protectionWindow is when a person must have left the region for their protection to have
// run out between two times, with a day to spare on both sides: time zones, and clocks that
// do not agree.
func protectionWindow(last, now time.Time) (from, to time.Time) {
	months := law.Current().ProtectionMonths()
	return last.AddDate(0, -months, -2), now.AddDate(0, -months, 1)
}
