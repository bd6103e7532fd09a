package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// watchEvery is how often the source's catalogue is looked at for what the flow itself need
// not notice: new columns and tables, names that left.
const watchEvery = 30 * time.Second

// changedShape says what changed since the dataset was built, nil when nothing did that
// matters. Partitions that came and are empty as of the snapshot are taken up without a
// build: their rows will come by the stream, through their root.
func (f *follower) changedShape(ctx context.Context, now map[string]string) error {
	var drifts []Drift
	for _, table := range slices.Sorted(maps.Keys(f.state.shape)) {
		was := f.state.shape[table]
		if now[table] == was {
			continue
		}
		if table == basisOf {
			return &staleError{"the pseudonym key or its epoch, the list of subjects or the law's data changed"}
		}
		more, taken, err := f.onlyEmptyPartitions(ctx, was, now[table])
		if err != nil {
			return err
		}
		if taken {
			f.state.shape[table] = now[table]
			f.reshaped = append(f.reshaped, more)
			continue
		}
		d := compareShapes(table, was, now[table])
		if len(d) == 0 { // what columns are, which is compared by their places
			d = []Drift{{Kind: DriftGone, Table: table, What: "table " + table + " changed its columns, types, keys or partitions at the source", Done: doneStale}}
		}
		drifts = append(drifts, d...)
	}
	if len(drifts) == 0 {
		return f.reshape(ctx)
	}
	f.noticed = drifts
	words := make([]string, len(drifts))
	for i, d := range drifts {
		words[i] = d.What
	}
	return &staleError{strings.Join(words, "; ")}
}

// reshape keeps a shape that was taken up. Whether the batch in progress is written then does
// not matter: the rows of what came are still in the stream.
func (f *follower) reshape(ctx context.Context) error {
	if len(f.reshaped) == 0 {
		return nil
	}
	text, err := json.Marshal(f.state.shape)
	if err != nil {
		return fmt.Errorf("keep the new shape: %w", err)
	}
	conn, err := f.t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "SET lock_timeout = '5s'"); err != nil {
		return fmt.Errorf("keep the new shape: %w", safe(err))
	}
	err = inTx(ctx, conn, func(tx pgx.Tx) error {
		for _, p := range f.partitions {
			if err := f.partition(ctx, tx, p); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "UPDATE trefoil_info.flow SET shape = $1::text::jsonb", string(text)); err != nil {
			return fmt.Errorf("keep the new shape: %w", safe(err))
		}
		return nil
	})
	drifts := f.reshaped
	f.reshaped, f.partitions = nil, nil
	if err != nil {
		return err
	}
	return f.t.note(ctx, drifts...)
}

// newPartition is an empty partition that came at the source.
type newPartition struct{ table, name, sql string }

// partition makes a new partition in the dataset too, where its table has partitions there.
func (f *follower) partition(ctx context.Context, tx pgx.Tx, p newPartition) error {
	t := f.p.byName[p.table]
	if t == nil || !t.held {
		return nil
	}
	var kind string
	if err := tx.QueryRow(ctx, "SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = $1::text::pg_catalog.regclass", t.src.Name.Quoted()).Scan(&kind); err != nil {
		return fmt.Errorf("look for the partitions of %s: %w", p.table, safe(err))
	}
	if kind != "p" {
		return nil // its key is not held as it is: one table holds all
	}
	if _, err := tx.Exec(ctx, p.sql); err != nil {
		if sqlState(err) == lockNotAvailable {
			return fmt.Errorf("make a partition of %s: %w", p.table, safe(err)) // tried again
		}
		return &staleError{"partitions of " + p.table + " changed at the source, and cannot be made alike: " + safe(err).Error()}
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(p.sql, "CREATE TABLE "), " PARTITION OF ")
	if _, err := tx.Exec(ctx, "GRANT SELECT ON "+name+" TO "+postgres.Quote(group(f.name))); err != nil {
		return fmt.Errorf("make a partition of %s: %w", p.table, safe(err))
	}
	return nil
}

// onlyEmptyPartitions says whether all that changed is that partitions came, and no row is
// in them as of the batch's snapshot.
func (f *follower) onlyEmptyPartitions(ctx context.Context, was, now string) (d Drift, ok bool, err error) {
	a, b, same := shapesBut(was, now)
	if !same || len(b.Parts) <= len(a.Parts) {
		return d, false, nil
	}
	var came []string
	for name, v := range b.Parts {
		switch old, there := a.Parts[name]; {
		case there && old != v:
			return d, false, nil
		case !there:
			came = append(came, name)
		}
	}
	if len(came) != len(b.Parts)-len(a.Parts) { // one went
		return d, false, nil
	}
	slices.Sort(came)
	for _, name := range came {
		var oid uint32
		if _, err := fmt.Sscanf(b.Parts[name], "%d:", &oid); err != nil {
			return d, false, nil
		}
		sql, empty, err := f.v.emptyPartition(ctx, oid)
		if err != nil || !empty {
			return d, false, err
		}
		f.partitions = append(f.partitions, newPartition{table: b.Name, name: name, sql: sql})
	}
	return Drift{Kind: DriftPartitions, Table: b.Name, What: fmt.Sprintf("empty partitions of %s came: %s", b.Name, strings.Join(came, ", ")),
		Done: "taken up: their rows come by the change stream"}, true, nil
}

// emptyPartition looks at a partition that came: whether it has no row as of the snapshot, and
// the statement that makes it in the dataset. One that went meanwhile, that has partitions of
// its own, or that may not be read by itself, is not known to be empty.
func (v *sight) emptyPartition(ctx context.Context, oid uint32) (sql string, empty bool, err error) {
	var name, parent, bound string
	err = v.guard.QueryRow(ctx, `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.format('%I.%I', pn.nspname, p.relname),
			pg_catalog.pg_get_expr(c.relpartbound, c.oid)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
			JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
		WHERE c.oid = $1 AND c.relkind = 'r' AND c.relpartbound IS NOT NULL AND pg_catalog.has_table_privilege(c.oid, 'SELECT')`, oid).Scan(&name, &parent, &bound)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("look at a new partition: %w", safe(err))
	}
	var some bool
	if err := v.conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+name+")").Scan(&some); err != nil {
		return "", false, fmt.Errorf("look at a new partition: %w", safe(err))
	}
	return fmt.Sprintf("CREATE TABLE %s PARTITION OF %s %s", name, parent, bound), !some, nil
}

// tell writes the drift report of a dataset that became stale: what was noticed, and all that
// a look at the source's catalogue adds. The report must not stop what follows from it.
func (f *follower) tell(ctx context.Context, why error) {
	drifts := f.noticed
	f.noticed = nil
	more, err := f.observe(ctx)
	for _, d := range more {
		if d.Kind != DriftNewColumn && d.Kind != DriftNewTable {
			drifts = slices.DeleteFunc(drifts, func(o Drift) bool { return o.Kind == DriftGone && o.Table == d.Table && o.Column == "" })
		}
	}
	drifts = append(drifts, more...)
	if len(drifts) == 0 {
		drifts = []Drift{{Kind: DriftSource, What: why.Error(), Done: doneStale}}
	}
	if err = errors.Join(err, f.t.note(ctx, drifts...)); err != nil && ctx.Err() == nil {
		f.b.cfg.Logger.Warn("the drift report is not complete", "dataset", f.name, "error", err)
	}
}

// observe compares the source's catalogue with what names stood for when the dataset was built.
func (f *follower) observe(ctx context.Context) ([]Drift, error) {
	conn, err := f.t.session(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	was, err := readPlaces(ctx, conn)
	if err != nil || len(was) == 0 {
		return nil, err
	}
	src, err := connect(ctx, f.sourceDSN, "; SET application_name = 'trefoil drift'")
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(src)
	live, err := postgres.Inspect(ctx, src)
	if err != nil {
		return nil, safe(err)
	}
	return comparePlaces(was, live, f.b.catalogued(f.name)), nil
}

// catalogued is plan.catalogued without a plan.
func (b *Builder) catalogued(name string) func(table, column string) bool {
	ds := b.dataset(name)
	for _, c := range b.cfg.Catalogs {
		if ds != nil && c.Database == ds.Source {
			return (&plan{cat: c}).catalogued
		}
	}
	return func(string, string) bool { return false }
}

// watch looks at the source's catalogue now and then, and writes what is new there into the
// drift report, until stop is called.
func (f *follower) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(f.b.watchEvery())
		defer tick.Stop()
		for {
			drifts, err := f.observe(ctx)
			if err == nil {
				err = f.t.note(ctx, drifts...)
			}
			if err != nil && ctx.Err() == nil {
				f.b.cfg.Logger.Warn("the source's catalogue could not be compared", "dataset", f.name, "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

func (b *Builder) watchEvery() time.Duration {
	if b.cfg.WatchEvery > 0 {
		return b.cfg.WatchEvery
	}
	return watchEvery
}

// hold marks a dataset whose build waits for review. What it holds stands as it was.
func (f *follower) hold(ctx context.Context, why error) error {
	if f.state == nil || f.state.Slot == "" { // nothing stands that follows
		return why
	}
	f.tell(ctx, why)
	return errors.Join(why, f.t.setStale(ctx, why.Error(), nil))
}
