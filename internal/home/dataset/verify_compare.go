package dataset

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/trefoil-eu/trefoil/internal/home/ranges"
)

// compareOptions say how a dataset is compared.
type compareOptions struct {
	// live: it follows its source, so the columns of small cells may be withheld in more rows
	// than a fresh build would choose.
	live bool

	// each is told of every row that differs, and all ranges are looked at; nil names the first
	// rows only. A difference that is not Extra has the row's primary key at the source, where
	// the dataset follows: it is personal data, and for mending alone.
	each func(d rowDifference) error
}

// rowDifference is a row that differs, for whoever mends it.
type rowDifference struct {
	table  *table
	kind   string
	source []string   // the row's primary key at the source; nil where the source has no such row
	held   [][]byte   // its key as the dataset holds it
	more   [][]string // further source keys, where the source has several rows of one held key
}

// comparison is one comparison in progress.
type comparison struct {
	b    *Builder
	p    *plan
	s    *source
	conn *pgx.Conn // of the dataset, in a transaction with one snapshot
	w    *work
	o    compareOptions
	key  *ranges.Key
	side *ranges.Side
	of   map[*table]*compared
}

// compared is one table of a comparison.
type compared struct {
	t      *table
	as     *ranges.Table
	fresh  *ranges.Digest
	held   *ranges.Digest
	live   bool
	source []int // of the source's primary key, in what is read

	hidden      map[uint64]struct{} // rows whose cell's columns the dataset withholds (live)
	hiddenCells map[key]int64       // such rows by the cell they are of at the source
	small       int64
	problem     string
}

// compare compares the dataset that conn sees with what a build from s would give. conn is in
// a transaction with one snapshot (fix), and p was made for s.
func (b *Builder) compare(ctx context.Context, p *plan, s *source, conn *pgx.Conn, o compareOptions) (*Verification, error) {
	key, err := ranges.Draw()
	if err != nil {
		return nil, err
	}
	c := &comparison{b: b, p: p, s: s, conn: conn, o: o, key: key, side: &ranges.Side{Conn: conn, Key: key}, of: map[*table]*compared{}}
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	before, err := c.identities(ctx)
	if err != nil {
		return nil, err
	}
	c.w = &work{b: b, p: p, s: s, held: map[*table]*heldTable{}, tap: c.digestFresh}
	g, both := errgroup.WithContext(ctx)
	g.Go(func() error { return c.w.all(both) })
	g.Go(func() error { return c.digestHeld(both) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out, err := c.report(ctx)
	if err != nil {
		return nil, err
	}
	after, err := c.identities(ctx)
	if err != nil {
		return nil, err
	}
	if before != after {
		return nil, errors.New("the dataset was built again while it was compared: verify it again")
	}
	return out, nil
}

// prepare says what is compared of each table, and reads which rows the dataset hides.
func (c *comparison) prepare(ctx context.Context) error {
	for _, t := range c.p.tables {
		if !t.held {
			continue
		}
		as := &ranges.Table{Name: c.p.ds.Name + "\x00" + t.name, From: t.src.Name.Quoted()}
		for _, o := range t.out {
			as.Columns = append(as.Columns, o.name)
		}
		as.Key = t.order
		d := &compared{t: t, as: as, fresh: &ranges.Digest{}, hiddenCells: map[key]int64{}}
		c.of[t] = d
		if t.rowKey() != nil && c.o.live {
			d.live, d.source = true, t.askAll(t.rowKey().Columns)
		}
		if c.p.def.K == 0 || !t.person {
			continue
		}
		if err := c.cells(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// cells checks that no cell that stands is too small, and, where the dataset follows, reads
// whose columns it withholds.
func (c *comparison) cells(ctx context.Context, d *compared) error {
	var names, null []string
	for _, i := range d.t.cellColumns() {
		q := quotedList("t.", []string{d.t.out[i].name})
		names, null = append(names, q), append(null, q+" IS NULL")
	}
	return c.save(ctx, d, func() error {
		sql := fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s t GROUP BY (ROW(%s)::text) HAVING count(*) < $1) s", d.as.From, strings.Join(names, ", "))
		if err := c.conn.QueryRow(ctx, sql, c.p.def.K).Scan(&d.small); err != nil || !d.live || len(names) == 0 {
			return err
		}
		d.hidden = map[uint64]struct{}{}
		return c.side.Keys(ctx, d.as, strings.Join(null, " AND "), func(k uint64) { d.hidden[k] = struct{}{} })
	})
}

// save runs f in a savepoint: a table that is not as it should be is a finding, not an error.
func (c *comparison) save(ctx context.Context, d *compared, f func() error) error {
	if d.problem != "" {
		return nil
	}
	if _, err := c.conn.Exec(ctx, "SAVEPOINT one"); err != nil {
		return safe(err)
	}
	err := f()
	if err != nil && sqlState(err) == "" {
		return fmt.Errorf("read %s of the dataset: %w", d.t.name, err)
	}
	if err != nil {
		d.problem = safe(err).Error()
		_, err = c.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT one")
		return safe(err)
	}
	_, err = c.conn.Exec(ctx, "RELEASE SAVEPOINT one")
	return safe(err)
}

// identities names the tables that stand, as the server knows them now.
func (c *comparison) identities(ctx context.Context) (string, error) {
	all := ""
	for _, t := range c.p.tables {
		if !t.held {
			continue
		}
		var oid *string
		if err := c.conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass($1)::oid::text", t.src.Name.Quoted()).Scan(&oid); err != nil {
			return "", fmt.Errorf("look for %s in the dataset: %w", t.name, safe(err))
		}
		if oid != nil {
			all += *oid
		}
		all += " "
	}
	return all, nil
}

// digestFresh is the tap of the first pass.
func (c *comparison) digestFresh(t *table) *lineTap {
	d := c.of[t]
	return &lineTap{c: d, early: d.live, hash: c.key.Hasher(d.as), to: func(h ranges.Hashed, _ [][]byte) { d.fresh.Add(h) }}
}

// digestHeld has the dataset's cluster digest what it holds.
func (c *comparison) digestHeld(ctx context.Context) error {
	for _, t := range c.p.tables {
		d := c.of[t]
		if d == nil {
			continue
		}
		if err := c.save(ctx, d, func() (err error) {
			d.held, err = c.side.Digest(ctx, d.as)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// report sums up, and names rows.
func (c *comparison) report(ctx context.Context) (*Verification, error) {
	fresh := c.w.report()
	out := &Verification{Dataset: c.p.ds.Name, Equal: true, Digest: fresh.Measured.Digest, Measured: fresh.Measured, AsOf: c.s.at}
	for _, t := range c.p.tables {
		d := c.of[t]
		if d == nil {
			continue
		}
		tv := TableVerification{Table: t.name, Fresh: c.w.held[t].counts.Rows, Problem: d.problem, SmallCells: d.small}
		if d.held != nil {
			tv.Held, tv.Ranges = d.held.Rows(), ranges.Differ(d.fresh, d.held)
		}
		tv.Equal = d.held != nil && len(tv.Ranges) == 0 && d.small == 0
		tv.Withheld = c.withheld(d)
		if d.held != nil && len(tv.Ranges) > 0 {
			if err := c.name(ctx, d, &tv); err != nil {
				return nil, err
			}
		}
		out.Equal = out.Equal && tv.Equal
		out.Tables = append(out.Tables, tv)
	}
	var err error
	if out.Extra, err = c.p.extra(ctx, c.conn); err != nil {
		return nil, err
	}
	out.Equal = out.Equal && len(out.Extra) == 0
	sort.Slice(out.Tables, func(i, j int) bool { return out.Tables[i].Table < out.Tables[j].Table })
	return out, nil
}

// withheld counts rows without their cell's columns that would have them in a fresh build.
func (c *comparison) withheld(d *compared) int64 {
	cells := c.w.held[d.t].cells
	if cells == nil {
		return 0
	}
	var n int64
	for cell, rows := range d.hiddenCells {
		if cell != cells.null && !cells.hidden[cell] {
			n += rows
		}
	}
	return n
}
