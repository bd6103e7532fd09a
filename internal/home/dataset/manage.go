package dataset

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// Info reads what a dataset says of itself. ErrNotBuilt when it has no database yet.
func (b *Builder) Info(ctx context.Context, name string) (*Info, error) {
	i, _, err := b.Standing(ctx, name)
	return i, err
}

// open connects to a dataset as its owner. ErrNotBuilt when it has no database yet.
func (b *Builder) open(ctx context.Context, name string) (*pgx.Conn, error) {
	_, dsn, err := b.find(name)
	if err != nil {
		return nil, err
	}
	conn, err := connectTo(ctx, dsn, name, "; SET ROLE "+postgres.OwnerRole)
	switch {
	case sqlState(err) == "3D000": // there is no such database
		return nil, fmt.Errorf("dataset %s: %w", name, ErrNotBuilt)
	case err != nil:
		return nil, fmt.Errorf("read dataset %s: %w", name, err)
	}
	return conn, nil
}

// Standing is Info and Flow by one connection.
func (b *Builder) Standing(ctx context.Context, name string) (*Info, *FlowState, error) {
	conn, err := b.open(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer closeConn(conn)
	i, err := readInfo(ctx, conn, name)
	if err != nil {
		return nil, nil, err
	}
	s, err := readFlow(ctx, conn)
	return i, s, err
}

func readInfo(ctx context.Context, conn *pgx.Conn, name string) (*Info, error) {
	var i Info
	m := &i.Measured
	err := conn.QueryRow(ctx, `SELECT name, cluster, purpose, definition_hash, built_at, snapshot_at, rows, subjects, smallest_cell,
		suppressed, bad_values, left_out, orphans, digest FROM trefoil_info.dataset`).Scan(&i.Name, &i.Cluster, &i.Purpose, &i.DefinitionHash,
		&i.BuiltAt, &i.FreshAsOf, &m.Rows, &m.Subjects, &m.SmallestCell, &m.Suppressed, &m.BadValues, &m.LeftOut, &m.Orphans, &m.Digest)
	switch {
	case sqlState(err) == "42P01" || sqlState(err) == "3F000" || errors.Is(err, pgx.ErrNoRows): // no such table or schema
		return nil, fmt.Errorf("dataset %s: %w", name, ErrNotBuilt)
	case err != nil:
		return nil, fmt.Errorf("read dataset %s: %w", name, safe(err))
	}
	i.BuiltAt, i.FreshAsOf = i.BuiltAt.UTC(), i.FreshAsOf.UTC()
	return &i, nil
}

// Sweep drops the tables of former builds that no session uses any more; it returns how
// many schemas are left. It takes no lock: it may run beside a build.
func (b *Builder) Sweep(ctx context.Context, name string) (int, error) {
	_, dsn, err := b.find(name)
	if err != nil {
		return 0, err
	}
	t := &target{dsn: dsn, name: name}
	left, err := t.sweep(ctx, b.cfg.SweepWait)
	if sqlState(err) == "3D000" { // there is no such database
		return 0, nil
	}
	return left, err
}

// Dropped counts what Drop took away.
type Dropped struct {
	Tables int64
	Rows   int64 // as the dataset counted them when it was built
	Bytes  int64 // of the database
	Roles  int64
	Slot   bool // it had a slot at the source, which is gone too
}

// Drop removes a dataset: its database with every session in it, and its group. It fails
// unless the cluster then has neither.
func (b *Builder) Drop(ctx context.Context, name string) (*Dropped, error) {
	d, err := b.drop(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("drop dataset %s: %w", name, err)
	}
	def, hash, err := b.Define(name)
	if err != nil {
		return nil, err
	}
	var m *trefoil.Measured
	if c := b.caseNamed(name); c != nil {
		m = &trefoil.Measured{Rows: d.Rows, Subjects: int64(len(c.Subjects))}
	}
	if err := b.record(ctx, "dropped", def, hash, m); err != nil {
		return d, err
	}
	if d.Slot, err = b.dropSlot(ctx, name); err != nil {
		return d, fmt.Errorf("dataset %s is dropped, but its slot at the source is not: %w", name, err)
	}
	return d, nil
}

// dropSlot removes the slot of a dataset that followed its source, so that the source keeps
// no log for it. It says whether there was one.
func (b *Builder) dropSlot(ctx context.Context, name string) (bool, error) {
	ds, _, err := b.find(name)
	if err != nil {
		return false, err
	}
	dsn, err := b.sourceDSN(ds)
	if err != nil {
		return false, err
	}
	conn, err := connect(ctx, dsn, "")
	if err != nil {
		return false, fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(conn)
	slot, err := flow.FindSlot(ctx, conn, flow.SlotName(name))
	if err != nil || slot == nil {
		return false, errors.Join(err, b.disuse(ctx, ds.Source))
	}
	return true, errors.Join(flow.DropSlot(ctx, conn, flow.SlotName(name)), b.disuse(ctx, ds.Source))
}

func (b *Builder) drop(ctx context.Context, name string) (*Dropped, error) {
	_, dsn, err := b.find(name)
	if err != nil {
		return nil, err
	}
	t, err := openTarget(ctx, dsn, name)
	if err != nil {
		return nil, err
	}
	defer t.close()
	there, err := t.exists(ctx)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, ErrNotBuilt
	}
	out := &Dropped{Roles: 1}
	if err := t.measure(ctx, out); err != nil {
		return nil, err
	}
	role := postgres.Quote(group(name))
	for _, sql := range []string{
		// As the steward, who owns it by membership and may end the sessions in it.
		"DROP DATABASE " + postgres.Quote(name) + " WITH (FORCE)",
		"DROP ROLE IF EXISTS " + role,
	} {
		if _, err := t.admin.Exec(ctx, sql); err != nil {
			return nil, safe(err)
		}
	}
	var left int64
	err = t.admin.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_catalog.pg_database WHERE datname = $1)
		+ (SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = $2)`, name, group(name)).Scan(&left)
	if err != nil {
		return nil, safe(err)
	}
	if left != 0 {
		return nil, errors.New("the cluster still has its database or role")
	}
	return out, nil
}

func (t *target) measure(ctx context.Context, d *Dropped) error {
	if err := t.admin.QueryRow(ctx, "SELECT pg_catalog.pg_database_size($1::name)", t.name).Scan(&d.Bytes); err != nil {
		return safe(err)
	}
	conn, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	err = conn.QueryRow(ctx, "SELECT count(*), coalesce(sum(rows), 0)::bigint FROM trefoil_info.tables").Scan(&d.Tables, &d.Rows)
	if sqlState(err) == "42P01" || sqlState(err) == "3F000" {
		return nil // a build never finished here
	}
	return safe(err)
}

// principalRole is what a principal's role may be called; it is the caller's to choose.
var principalRole = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// Names lists the datasets that are defined, in the order of their file, and then the cases.
func (b *Builder) Names() []string {
	var out []string
	for _, d := range b.all() {
		out = append(out, d.Name)
	}
	return out
}

// Admit lets a principal's role open a dataset; it makes the role when it is not there. Who
// may is for policy to say; the cluster only does what it is told.
func (b *Builder) Admit(ctx context.Context, role, dataset string) error {
	return b.member(ctx, role, dataset, func(t *target, role, group string) error {
		var there bool
		if err := t.admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)", role).Scan(&there); err != nil {
			return err
		}
		q := postgres.Quote(role)
		statements := []string{"GRANT " + postgres.PrincipalsRole + " TO " + q, "GRANT " + postgres.Quote(group) + " TO " + q}
		if !there {
			statements = append([]string{"CREATE ROLE " + q + " LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"}, statements...)
		}
		for _, s := range statements {
			if _, err := t.admin.Exec(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// Expel takes a dataset from a principal's role and ends its sessions there.
func (b *Builder) Expel(ctx context.Context, role, dataset string) error {
	return b.member(ctx, role, dataset, func(t *target, role, group string) error {
		if _, err := t.admin.Exec(ctx, "REVOKE "+postgres.Quote(group)+" FROM "+postgres.Quote(role)); err != nil {
			return err
		}
		_, err := t.admin.Exec(ctx, "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = $1 AND datname = $2",
			role, dataset)
		return err
	})
}

// reserved are roles that no principal may have.
var reserved = map[string]bool{postgres.OwnerRole: true, postgres.StewardRole: true, postgres.PrincipalsRole: true, "postgres": true}

func (b *Builder) member(ctx context.Context, role, dataset string, f func(t *target, role, group string) error) error {
	_, dsn, err := b.find(dataset)
	if err != nil {
		return err
	}
	if !principalRole.MatchString(role) || reserved[role] {
		return fmt.Errorf("%q is no name for a principal's role", role)
	}
	admin, err := connect(ctx, dsn, "")
	if err != nil {
		return fmt.Errorf("connect to the dataset cluster: %w", err)
	}
	t := &target{dsn: dsn, name: dataset, admin: admin}
	defer t.close()
	if err := f(t, role, group(dataset)); err != nil {
		return fmt.Errorf("change who may open dataset %s: %w", dataset, safe(err))
	}
	return nil
}
