package dataset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// careSchema holds, in the dataset's database and beyond its builds, which columns of the
// source names stood for, and what drifted. Nobody but the owner of datasets may use it.
const careSchema = "trefoil_care"

// driftKept is how many drifts a dataset remembers.
const driftKept = 1000

// ErrReview says that a name at the source has come to mean another column. Look at it, then
// accept it (Builder.AcceptDrift).
var ErrReview = errors.New("a column of the dataset is another one than was catalogued, and waits for review")

const makeCare = `CREATE SCHEMA IF NOT EXISTS trefoil_care;
	CREATE TABLE IF NOT EXISTS trefoil_care.place (table_name text NOT NULL, table_oid bigint NOT NULL, column_name text NOT NULL,
		number int NOT NULL, type text NOT NULL, needed boolean NOT NULL);
	CREATE TABLE IF NOT EXISTS trefoil_care.drift (id bigint NOT NULL, at timestamptz NOT NULL, kind text NOT NULL, table_name text NOT NULL,
		column_name text NOT NULL, what text NOT NULL, done text NOT NULL, advice text NOT NULL);
	CREATE TABLE IF NOT EXISTS trefoil_care.marker (word text NOT NULL, before pg_lsn NOT NULL, after pg_lsn NOT NULL);
	INSERT INTO trefoil_care.marker SELECT '', '0/0', '0/0' WHERE NOT EXISTS (SELECT FROM trefoil_care.marker)`

// queries are what a connection and a transaction have in common.
type queries interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// readPlaces reads what names stood for when the dataset was built; none when it never was.
func readPlaces(ctx context.Context, conn queries) ([]place, error) {
	rows, err := conn.Query(ctx, "SELECT table_name, table_oid, column_name, number, type, needed FROM trefoil_care.place ORDER BY table_name, number")
	if err != nil {
		return nil, fmt.Errorf("read what columns were: %w", safe(err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (place, error) {
		var p place
		var oid int64
		err := r.Scan(&p.Table, &oid, &p.Column, &p.Number, &p.Type, &p.Needed)
		p.OID = uint32(oid)
		return p, err
	})
	if code := sqlState(err); code == "42P01" || code == "3F000" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what columns were: %w", safe(err))
	}
	return out, nil
}

// writePlaces remembers what names stand for.
func writePlaces(ctx context.Context, tx pgx.Tx, places []place) error {
	if _, err := tx.Exec(ctx, "DELETE FROM trefoil_care.place"); err != nil {
		return fmt.Errorf("remember what columns are: %w", safe(err))
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{careSchema, "place"}, []string{"table_name", "table_oid", "column_name", "number", "type", "needed"},
		pgx.CopyFromSlice(len(places), func(i int) ([]any, error) {
			p := places[i]
			return []any{p.Table, int64(p.OID), p.Column, int32(p.Number), p.Type, p.Needed}, nil
		}))
	if err != nil {
		return fmt.Errorf("remember what columns are: %w", safe(err))
	}
	return nil
}

// writeDrift remembers drifts, each once between two builds.
func writeDrift(ctx context.Context, tx pgx.Tx, drifts []Drift) error {
	for _, d := range drifts {
		_, err := tx.Exec(ctx, `INSERT INTO trefoil_care.drift (id, at, kind, table_name, column_name, what, done, advice)
			SELECT coalesce((SELECT max(id) FROM trefoil_care.drift), 0) + 1, pg_catalog.clock_timestamp(), $1::text, $2::text, $3::text, $4::text, $5::text, $6::text WHERE NOT EXISTS (SELECT FROM trefoil_care.drift d
				WHERE (d.kind, d.table_name, d.column_name, d.what, d.done) = ($1::text, $2::text, $3::text, $4::text, $5::text)
				AND d.id > coalesce((SELECT max(id) FROM trefoil_care.drift WHERE kind IN ('rebuilt', 'resynchronised')), 0))`,
			string(d.Kind), d.Table, d.Column, d.What, d.Done, d.Advice)
		if err != nil {
			return fmt.Errorf("write the drift report: %w", safe(err))
		}
	}
	_, err := tx.Exec(ctx, "DELETE FROM trefoil_care.drift WHERE id <= (SELECT max(id) FROM trefoil_care.drift) - $1", driftKept)
	if err != nil {
		return fmt.Errorf("write the drift report: %w", safe(err))
	}
	return nil
}

// note writes drifts on a connection of its own.
func (t *target) note(ctx context.Context, drifts ...Drift) error {
	if len(drifts) == 0 {
		return nil
	}
	conn, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		if err := makeCareSchema(ctx, tx); err != nil {
			return err
		}
		return writeDrift(ctx, tx, drifts)
	})
}

func makeCareSchema(ctx context.Context, tx pgx.Tx) error {
	if err := execAll(ctx, tx, statements(makeCare)...); err != nil {
		return fmt.Errorf("prepare the drift report: %w", safe(err))
	}
	return nil
}

func statements(sql string) []string { return strings.Split(sql, ";") }

// sameColumns refuses a plan in which a name means another column than it did when the
// dataset was built last, before any row is read. What drifted otherwise is written down.
func (t *target) sameColumns(ctx context.Context, tx pgx.Tx, p *plan) error {
	if err := makeCareSchema(ctx, tx); err != nil {
		return err
	}
	was, err := readPlaces(ctx, tx)
	if err != nil {
		return err
	}
	for i := range was { // by what this plan reads, whatever the last one did
		read := p.byName[was[i].Table]
		was[i].Needed = read != nil && slices.Contains(read.read, was[i].Column)
	}
	var names []string
	for _, d := range held(comparePlaces(was, p.schema, p.catalogued)) {
		names = append(names, d.What)
	}
	if len(names) > 0 {
		return fmt.Errorf("%w: %s (look at it, then trefoil dataset drift --accept %s)", ErrReview, strings.Join(names, "; "), t.name)
	}
	return nil
}

// catalogued says whether the catalog knows a column; of column "", a table.
func (p *plan) catalogued(table, column string) bool {
	t := p.cat.TableOf(table)
	return t != nil && (column == "" || t.Column(column) != nil)
}

// Drift is what drifted at a dataset's source since it was first built, oldest first: at most
// 1000 lines. None when the dataset does not stand.
func (b *Builder) Drift(ctx context.Context, name string) ([]Drift, error) {
	conn, err := b.open(ctx, name)
	if errors.Is(err, ErrNotBuilt) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	rows, err := conn.Query(ctx, "SELECT at, kind, table_name, column_name, what, done, advice FROM trefoil_care.drift ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("read the drift report of %s: %w", name, safe(err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Drift, error) {
		var d Drift
		var kind string
		err := r.Scan(&d.At, &kind, &d.Table, &d.Column, &d.What, &d.Done, &d.Advice)
		d.At, d.Kind = d.At.UTC(), DriftKind(kind)
		return d, err
	})
	if code := sqlState(err); code == "42P01" || code == "3F000" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the drift report of %s: %w", name, safe(err))
	}
	return out, nil
}

// AcceptDrift says that somebody looked at the columns whose names mean something else, and
// that they are what the catalog says. It returns what was accepted; what drifts after this
// look is held again.
func (b *Builder) AcceptDrift(ctx context.Context, name string) ([]Drift, error) {
	ds, dsn, err := b.find(name)
	if err != nil {
		return nil, err
	}
	sourceDSN, err := b.sourceDSN(ds)
	if err != nil {
		return nil, err
	}
	src, err := connect(ctx, sourceDSN, "")
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(src)
	live, err := postgres.Inspect(ctx, src)
	if err != nil {
		return nil, safe(err)
	}
	conn, err := connectTo(ctx, dsn, name, buildSettings)
	if err != nil {
		return nil, fmt.Errorf("read dataset %s: %w", name, err)
	}
	defer closeConn(conn)
	var accepted []Drift
	err = inTx(ctx, conn, func(tx pgx.Tx) error {
		was, err := readPlaces(ctx, tx)
		if err != nil {
			return err
		}
		accepted = held(comparePlaces(was, live, func(string, string) bool { return true }))
		for i := range was {
			if slices.ContainsFunc(accepted, func(d Drift) bool { return d.Table == was[i].Table && d.Column == was[i].Column }) {
				t := live.Table(was[i].Table)
				was[i].OID, was[i].Number = t.OID, t.Column(was[i].Column).Number
			}
		}
		for i := range accepted {
			accepted[i].Done, accepted[i].Advice = "accepted: the dataset is built again from it", ""
		}
		if len(accepted) == 0 {
			return nil
		}
		return errors.Join(writePlaces(ctx, tx, was), writeDrift(ctx, tx, accepted))
	})
	if err != nil {
		return nil, fmt.Errorf("accept the drift of %s: %w", name, err)
	}
	return accepted, nil
}

// remember writes down what names stand for as a build is swapped in, and that it is not the
// first.
func (t *target) remember(ctx context.Context, tx pgx.Tx, p *plan) error {
	was, err := readPlaces(ctx, tx)
	if err != nil {
		return err
	}
	var notes []Drift
	if len(was) > 0 {
		for _, d := range comparePlaces(was, p.schema, p.catalogued) {
			if d.Kind == DriftNewColumn || d.Kind == DriftRetyped {
				notes = append(notes, d)
			}
		}
		notes = append(notes, Drift{Kind: DriftRebuilt, What: "the dataset was built again", Done: "swapped in"})
	}
	return errors.Join(writePlaces(ctx, tx, placesOf(p)), writeDrift(ctx, tx, notes))
}
