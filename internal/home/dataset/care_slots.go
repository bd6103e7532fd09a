package dataset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// Tidied is a slot that Tidy removed.
type Tidied struct {
	Dataset string
	Source  string
	Slot    string
	Bytes   int64 // of its log that the source kept for it
}

// Tidy removes the slots of datasets that nobody follows any more: those that left the file
// while they stand in one of our clusters, which are marked stale, and those that are defined
// and do not stand, or were not built to follow. A slot of which it is not certain that it is
// ours stays; trefoil check lists it. It goes on after a fault, and returns all of them.
func (b *Builder) Tidy(ctx context.Context) ([]Tidied, error) {
	left, errs := b.leftBehind(ctx)
	var out []Tidied
	for _, source := range slices.Sorted(maps.Keys(b.cfg.Sources)) {
		done, err := b.tidySource(ctx, source, left)
		out = append(out, done...)
		if err = errors.Join(err, b.disuse(ctx, source)); err != nil {
			errs = append(errs, fmt.Errorf("source %s: %w", source, err))
		}
	}
	return out, errors.Join(errs...)
}

// behind is a dataset that stands and is not defined any more.
type behind struct {
	name, dsn, slot, system string
}

// leftBehind lists, by slot, the datasets of our clusters that no file and no case names.
func (b *Builder) leftBehind(ctx context.Context) (map[string]behind, []error) {
	out := map[string]behind{}
	var errs []error
	for _, cluster := range slices.Sorted(maps.Keys(b.cfg.Clusters)) {
		dsn := b.cfg.Clusters[cluster]
		names, err := databases(ctx, dsn)
		if err != nil {
			errs = append(errs, fmt.Errorf("cluster %s: %w", cluster, err))
		}
		for _, name := range names {
			if slices.Contains(b.Names(), name) || flow.OfCase(flow.SlotName(name)) {
				continue
			}
			s, err := flowAt(ctx, dsn, name)
			if err != nil {
				errs = append(errs, fmt.Errorf("database %s of cluster %s: %w", name, cluster, err))
			} else if s != nil && s.Slot == flow.SlotName(name) { // one that others share is theirs to keep
				out[s.Slot] = behind{name: name, dsn: dsn, slot: s.Slot, system: s.system}
			}
		}
	}
	return out, errs
}

func databases(ctx context.Context, dsn string) ([]string, error) {
	conn, err := connect(ctx, dsn, "")
	if err != nil {
		return nil, fmt.Errorf("connect to the dataset cluster: %w", err)
	}
	defer closeConn(conn)
	rows, err := conn.Query(ctx, `SELECT d.datname::text FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
		WHERE NOT d.datistemplate AND d.datallowconn AND r.rolname = $1 ORDER BY 1`, postgres.OwnerRole)
	if err != nil {
		return nil, safe(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, safe(err)
}

func flowAt(ctx context.Context, dsn, name string) (*FlowState, error) {
	conn, err := connectTo(ctx, dsn, name, "; SET ROLE "+postgres.OwnerRole)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	return readFlow(ctx, conn)
}

// tidySource removes the slots of one source that are ours and that nobody follows.
func (b *Builder) tidySource(ctx context.Context, source string, left map[string]behind) ([]Tidied, error) {
	conn, err := connect(ctx, b.cfg.Sources[source], "")
	if err != nil {
		return nil, fmt.Errorf("connect to it: %w", err)
	}
	defer closeConn(conn)
	var system string
	if err := conn.QueryRow(ctx, "SELECT system_identifier::text FROM pg_catalog.pg_control_system()").Scan(&system); err != nil {
		return nil, fmt.Errorf("identify it: %w", safe(err))
	}
	found, err := flow.Slots(ctx, conn)
	if err != nil {
		return nil, err
	}
	var out []Tidied
	var errs []error
	for _, s := range found {
		name, err := b.forsaken(ctx, source, system, s, left)
		if err == nil && name != "" {
			if err = flow.DropSlot(ctx, conn, s.Name); err == nil {
				out = append(out, Tidied{Dataset: name, Source: source, Slot: s.Name, Bytes: s.Retained})
			}
		}
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// forsaken names the dataset of a slot that is ours and that nobody follows; "" for any other.
func (b *Builder) forsaken(ctx context.Context, source, system string, s flow.Named, left map[string]behind) (string, error) {
	if s.Active {
		return "", nil
	}
	if l, ok := left[s.Name]; ok {
		if l.system != system {
			return "", nil
		}
		t, err := openTarget(ctx, l.dsn, l.name)
		if errors.Is(err, ErrBusy) { // somebody with another file follows it
			return "", nil
		}
		if err != nil {
			return "", err
		}
		defer t.close()
		return l.name, t.setStale(ctx, "it is not defined any more", nil)
	}
	for _, ds := range b.all() {
		if ds.Source != source || flow.SlotName(ds.Name) != s.Name {
			continue
		}
		dsn, err := b.clusterDSN(ds)
		if err != nil {
			return "", err
		}
		t, err := openTarget(ctx, dsn, ds.Name)
		if errors.Is(err, ErrBusy) { // it is being built, with the slot at rest
			return "", nil
		}
		if err != nil {
			return "", err
		}
		defer t.close()
		if there, err := t.exists(ctx); err != nil || !there {
			return ds.Name, err
		}
		state, err := flowAt(ctx, dsn, ds.Name)
		if err != nil || state != nil {
			return "", err
		}
		return ds.Name, nil
	}
	return "", nil
}
