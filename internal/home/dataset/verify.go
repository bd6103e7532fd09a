package dataset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
)

// Verification compares a dataset with what a fresh build would give.
type Verification struct {
	Dataset  string
	Equal    bool
	Digest   string // of what a fresh build would give
	Measured trefoil.Measured
	Tables   []TableVerification
	Extra    []string // tables and columns that the definition does not have
	Stale    bool     // it was built from another definition
}

// TableVerification compares one table.
type TableVerification struct {
	Table   string
	Equal   bool
	Fresh   int64  // rows that a fresh build would hold
	Held    int64  // rows that are there
	Ranges  []int  // which of the 256 ranges of the sort key differ
	Problem string // why the table could not be compared, "" when it was
}

// Verify reads the source again, transforms it, and compares it with the dataset by keyed
// digests of rows: a changed, doubled, missing, added or swapped row is found. A source that
// changed since the build differs too. Nothing is written to the cluster.
func (b *Builder) Verify(ctx context.Context, name string) (*Verification, error) {
	v, err := b.verify(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("verify dataset %s: %w", name, err)
	}
	def, hash, err := b.Define(name)
	if err != nil {
		return nil, err
	}
	if v.Equal {
		if err := b.record(ctx, "verified", def, hash, &v.Measured); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (b *Builder) verify(ctx context.Context, name string) (*Verification, error) {
	ds, clusterDSN, err := b.find(name)
	if err != nil {
		return nil, err
	}
	sourceDSN, err := b.sourceDSN(ds)
	if err != nil {
		return nil, err
	}
	info, err := b.Info(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := openSource(ctx, sourceDSN, b.cfg.Workers)
	if err != nil {
		return nil, err
	}
	defer s.close()
	p, err := b.makePlan(name, s.schema)
	if err != nil {
		return nil, err
	}
	w := &work{b: b, p: p, s: s, held: map[*table]*heldTable{}}
	if err := w.all(ctx); err != nil {
		return nil, err
	}
	fresh := w.report()
	conn, err := connectTo(ctx, clusterDSN, name, "; SET ROLE "+postgres.OwnerRole)
	if err != nil {
		return nil, fmt.Errorf("connect to the dataset's database: %w", err)
	}
	defer closeConn(conn)
	out := &Verification{Dataset: name, Equal: true, Digest: fresh.Measured.Digest, Measured: fresh.Measured, Stale: info.DefinitionHash != p.hash}
	if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return nil, safe(err)
	}
	for _, t := range p.tables {
		if !t.held {
			continue
		}
		tv, err := w.compare(ctx, conn, t)
		if err != nil {
			return nil, err
		}
		out.Equal = out.Equal && tv.Equal
		out.Tables = append(out.Tables, *tv)
	}
	if out.Extra, err = p.extra(ctx, conn); err != nil {
		return nil, err
	}
	out.Equal = out.Equal && len(out.Extra) == 0 && !out.Stale
	sort.Slice(out.Tables, func(i, j int) bool { return out.Tables[i].Table < out.Tables[j].Table })
	return out, nil
}

// compare digests one table of the dataset and sets it beside the fresh digest.
func (w *work) compare(ctx context.Context, conn *pgx.Conn, t *table) (*TableVerification, error) {
	fresh := w.held[t].digest
	total := fresh.total()
	out := &TableVerification{Table: t.name, Fresh: total.n}
	key, err := w.orderKey(t)
	if err != nil {
		return nil, err
	}
	held := newTableDigest(w.b.digest, w.p.ds.Name+"\x00"+t.name)
	rows := t.heldReader(held, key)
	sub, err := conn.Begin(ctx) // inside the transaction: a savepoint
	if err != nil {
		return nil, safe(err)
	}
	sql := fmt.Sprintf("COPY (SELECT %s FROM %s) TO STDOUT", t.columnList(), t.src.Name.Quoted())
	if _, err := conn.PgConn().CopyTo(ctx, rows, sql); err != nil {
		if sqlState(err) == "" {
			return nil, fmt.Errorf("read %s of the dataset: %w", t.name, safe(err))
		}
		out.Problem = safe(err).Error()
		return out, rollback(ctx, sub)
	}
	if err := sub.Commit(ctx); err != nil {
		return nil, safe(err)
	}
	out.Held = held.total().n
	out.Equal = held.total() == total
	for i := range fresh.ranges {
		if !out.Equal && fresh.ranges[i] != held.ranges[i] {
			out.Ranges = append(out.Ranges, i)
		}
	}
	return out, nil
}

func rollback(ctx context.Context, tx pgx.Tx) error {
	if err := tx.Rollback(ctx); err != nil {
		return safe(err)
	}
	return nil
}

// heldReader reads lines of the dataset itself: every column as it is.
func (t *table) heldReader(d *tableDigest, orderKey []byte) *rowReader {
	as := &table{name: t.name, src: t.src, held: true, order: t.order, lead: t.lead, whole: t.whole}
	for i, c := range t.out {
		as.out = append(as.out, &outColumn{name: c.name, read: i, sqlType: c.sqlType, tr: &transform.Transform{Clear: true}})
		as.read = append(as.read, c.name)
	}
	return as.newReader(d, orderKey)
}

// extra lists what is in the dataset's database and not in its definition.
func (p *plan) extra(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT n.nspname::text, c.relname::text, coalesce((SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attnum)
			FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r','p','v','m','f','S') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'trefoil_care')
		AND n.nspname <> $1 AND NOT pg_catalog.starts_with(n.nspname::text, $2) AND NOT pg_catalog.starts_with(n.nspname::text, $3)
		ORDER BY 1, 2`, infoSchema, shadowPrefix, oldPrefix)
	if err != nil {
		return nil, fmt.Errorf("list the dataset's tables: %w", safe(err))
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var n postgres.Name
		var columns []string
		if err := rows.Scan(&n.Schema, &n.Name, &columns); err != nil {
			return nil, fmt.Errorf("list the dataset's tables: %w", safe(err))
		}
		t := p.byName[n.String()]
		if t == nil || !t.held {
			out = append(out, n.String())
			continue
		}
		for _, c := range columns {
			if !slices.ContainsFunc(t.out, func(o *outColumn) bool { return o.name == c }) {
				out = append(out, n.String()+"."+c)
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, errors.Join(errors.New("list the dataset's tables"), safe(err))
	}
	return out, nil
}
