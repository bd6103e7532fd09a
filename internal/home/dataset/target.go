package dataset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
)

// ErrBusy says that another build of the same dataset runs, or that it is being followed:
// wait for it, or stop it.
var ErrBusy = errors.New("another build or flow of this dataset is running")

// ErrNotBuilt says that a dataset has no database yet: build it.
var ErrNotBuilt = errors.New("the dataset is not built")

// buildSettings are those of a session that loads and indexes; everything it makes belongs
// to the owner of datasets.
const buildSettings = `; SET ROLE ` + postgres.OwnerRole + `; SET maintenance_work_mem = '256MB'; SET synchronous_commit = off;
	SET work_mem = '128MB'; SET default_statistics_target = 100`

// target is the cluster of one dataset, with this build's lock on it.
type target struct {
	dsn   string
	name  string // of the dataset and its database
	admin *pgx.Conn
}

// openTarget connects to the cluster as its steward and takes the dataset's lock, which the
// server frees when this process dies.
func openTarget(ctx context.Context, dsn, name string) (*target, error) {
	admin, err := connect(ctx, dsn, "")
	if err != nil {
		return nil, fmt.Errorf("connect to the dataset cluster: %w", err)
	}
	t := &target{dsn: dsn, name: name, admin: admin}
	var ok bool
	err = admin.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock(1953654118, pg_catalog.hashtext($1))", name).Scan(&ok)
	if err == nil && !ok {
		err = ErrBusy
	}
	if err != nil {
		t.close()
		return nil, safe(err)
	}
	return t, nil
}

// close gives the lock back in so many words: the server frees a closed session's locks only
// when its process gets to it, and the next build may be faster.
func (t *target) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, _ = t.admin.Exec(ctx, "SELECT pg_catalog.pg_advisory_unlock_all()") // closing does it too, later
	closeConn(t.admin)
}

// exists says whether the dataset has a database.
func (t *target) exists(ctx context.Context) (bool, error) {
	var there bool
	err := t.admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)", t.name).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("look for the dataset's database: %w", safe(err))
	}
	return there, nil
}

// session opens a session in the dataset's database.
func (t *target) session(ctx context.Context) (*pgx.Conn, error) {
	conn, err := connectTo(ctx, t.dsn, t.name, buildSettings+"; SET application_name = "+literal(t.application()))
	if err != nil {
		return nil, fmt.Errorf("connect to the dataset's database: %w", err)
	}
	return conn, nil
}

// application marks this build's sessions, so that the next build finds those that a killed
// one left at work.
func (t *target) application() string { return clip("trefoil build " + t.name) }

// group is the role that may read a dataset.
func group(name string) string { return clip("dataset_" + name) }

// prepare makes the database and its group when they are not there, ends what a killed
// build left running, and drops its shadow schemas.
func (t *target) prepare(ctx context.Context) error {
	there, err := t.exists(ctx)
	if err != nil {
		return err
	}
	if !there {
		if err := postgres.CreateDatasetDatabase(ctx, t.admin, t.name); err != nil {
			return safe(err)
		}
	}
	if _, err := t.admin.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
		WHERE datname = $1 AND application_name = $2 AND pid <> pg_catalog.pg_backend_pid()`, t.name, t.application()); err != nil {
		return fmt.Errorf("end sessions of a former build: %w", safe(err))
	}
	if err := t.makeGroup(ctx); err != nil {
		return err
	}
	conn, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	shadows, err := schemasLike(ctx, conn, shadowPrefix)
	if err != nil {
		return err
	}
	for _, s := range shadows {
		if _, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+postgres.Quote(s)+" CASCADE"); err != nil {
			return fmt.Errorf("drop what a former build left: %w", safe(err))
		}
	}
	return nil
}

func (t *target) makeGroup(ctx context.Context) error {
	var there, probed bool
	if err := t.admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1), EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $2)`,
		group(t.name), install.Role).Scan(&there, &probed); err != nil {
		return fmt.Errorf("look for the dataset's group: %w", safe(err))
	}
	role, database := postgres.Quote(group(t.name)), postgres.Quote(t.name)
	statements := []string{
		"SET ROLE " + postgres.OwnerRole,
		"REVOKE ALL ON DATABASE " + database + " FROM PUBLIC",
		"GRANT CONNECT, TEMPORARY ON DATABASE " + database + " TO " + role,
	}
	if probed { // the monitor's probe sees the catalogs of each dataset, and no table
		statements = append(statements, install.Enter(t.name))
	}
	statements = append(statements, "RESET ROLE")
	if !there {
		statements = append([]string{"CREATE ROLE " + role + " NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"}, statements...)
	}
	for _, s := range statements {
		if _, err := t.admin.Exec(ctx, s); err != nil {
			return fmt.Errorf("prepare the dataset's group: %w", safe(err))
		}
	}
	return nil
}

func schemasLike(ctx context.Context, conn *pgx.Conn, prefix string) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT nspname::text FROM pg_catalog.pg_namespace WHERE pg_catalog.starts_with(nspname::text, $1) ORDER BY 1", prefix)
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", safe(err))
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", safe(err))
	}
	return names, nil
}

// begin makes the shadow schemas and the types in them.
func (t *target) begin(ctx context.Context, p *plan) error {
	conn, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		for _, s := range append(p.schemas(), infoSchema) {
			if _, err := tx.Exec(ctx, "CREATE SCHEMA "+postgres.Quote(shadow(s))); err != nil {
				return fmt.Errorf("create shadow schema: %w", safe(err))
			}
		}
		if err := t.sameColumns(ctx, tx, p); err != nil {
			return err
		}
		return p.types.create(ctx, tx)
	})
}

// inTx runs f in a transaction.
func inTx(ctx context.Context, conn *pgx.Conn, f func(pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", safe(err))
	}
	if err := f(tx); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = tx.Rollback(undo) // where the connection is gone, the server rolls back by itself
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", safe(err))
	}
	return nil
}

// sweep drops schemas of former generations as soon as no session uses their tables. It
// gives up after wait; the next build or sweep tries again.
func (t *target) sweep(ctx context.Context, wait time.Duration) (left int, err error) {
	conn, err := t.session(ctx)
	if err != nil {
		return 0, err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "SET lock_timeout = '50ms'"); err != nil {
		return 0, fmt.Errorf("sweep: %w", safe(err))
	}
	deadline := time.Now().Add(wait)
	for {
		old, err := schemasLike(ctx, conn, oldPrefix)
		if err != nil || len(old) == 0 {
			return 0, err
		}
		left = 0
		for _, s := range old {
			if _, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+postgres.Quote(s)+" CASCADE"); err != nil {
				if code := sqlState(err); code != lockNotAvailable && code != deadlockDetected {
					return 0, fmt.Errorf("drop old schema: %w", safe(err))
				}
				left++
			}
		}
		if left == 0 || time.Now().After(deadline) {
			return left, nil
		}
		select {
		case <-ctx.Done():
			return left, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// SQLSTATEs that sweep waits out.
const (
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
)
