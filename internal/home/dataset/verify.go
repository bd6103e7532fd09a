package dataset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// Verification compares a dataset with what a fresh build would give.
type Verification struct {
	Dataset  string
	Equal    bool
	Digest   string // of what a fresh build would give
	Measured trefoil.Measured
	Tables   []TableVerification
	Extra    []string  // tables and columns that the definition does not have
	Stale    bool      // it was built from another definition
	AsOf     time.Time // the source's clock at the snapshot that it was compared with
	Position string    // of the source's log, where a flow brought the dataset to exactly that snapshot
	Note     string    // how far the comparison goes, where that needs saying
}

// TableVerification compares one table.
type TableVerification struct {
	Table   string
	Equal   bool
	Fresh   int64  // rows that a fresh build would hold
	Held    int64  // rows that are there
	Ranges  []int  // which of the 4096 key ranges differ
	Problem string // why the table could not be compared, "" when it was

	Rows    []RowDifference // the first rows that differ
	More    int             // how many more that were looked at differ
	Unnamed int             // ranges that differ and whose rows were not looked at

	Withheld   int64 // rows of a dataset that follows whose cell's columns are withheld though a fresh build would hold them
	SmallCells int64 // cells that hold fewer persons than they must
}

// RowDifference names one row that differs, by its key as the dataset holds it: pseudonyms as
// they are, any other key by a digest of this run. It holds no other value.
type RowDifference struct {
	Kind    string   // missing, extra, changed, doubled
	Key     []string // column=value, or column#digest
	Columns []string `json:",omitempty"` // changed: which
	Place   string   `json:",omitempty"` // where the dataset keeps it (ctid)
}

// Verify reads the source again, transforms it, and compares it with the dataset by keyed
// digests of rows: a changed, doubled, missing, added or swapped row is found and named.
// Nothing is written to the dataset's tables.
//
// A dataset that is being followed is compared as of one snapshot of the source to which its
// flow was brought, whatever is written meanwhile. One that nobody follows is compared with
// the source as it is now: a source that moved on since differs, which is what it should say.
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
	m, err := b.meet(ctx, clusterDSN, name)
	if err != nil {
		return nil, err
	}
	defer m.part()
	s, err := openSourceAt(ctx, sourceDSN, b.cfg.Workers, m.snapshot, m.at)
	if err != nil {
		return nil, err
	}
	defer s.close()
	conn, err := connectTo(ctx, clusterDSN, name, "; SET ROLE "+postgres.OwnerRole)
	if err != nil {
		return nil, fmt.Errorf("connect to the dataset's database: %w", err)
	}
	defer closeConn(conn)
	if err := fix(ctx, conn); err != nil {
		return nil, err
	}
	m.part()
	p, err := b.makePlan(name, s.schema)
	if err != nil {
		return nil, err
	}
	v, err := b.compare(ctx, p, s, conn, compareOptions{live: m.follows})
	if err != nil {
		return nil, err
	}
	v.Stale = info.DefinitionHash != p.hash
	v.Equal = v.Equal && !v.Stale
	v.Position, v.Note = m.position, m.note
	return v, nil
}

// fix begins a transaction whose one snapshot all later statements see.
func fix(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.PgConn().Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_catalog.pg_current_snapshot()").ReadAll(); err != nil {
		return fmt.Errorf("open the dataset: %w", safe(err))
	}
	return nil
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
