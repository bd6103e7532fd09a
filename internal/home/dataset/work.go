package dataset

import (
	"context"
	"fmt"
	"sort"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// read reads one table to its sorter.
func (r *work) read(ctx context.Context, t *table) (*heldTable, error) {
	key, err := r.orderKey(t)
	if err != nil {
		return nil, err
	}
	h := &heldTable{digest: newTableDigest(r.b.digest, r.p.ds.Name+"\x00"+t.name)}
	if t.person && t.held && r.p.def.K > 0 {
		h.cells = newCells(r.p.def.K, t.cellColumns())
	}
	var into sink
	if t.held {
		into = h.digest
		if r.t != nil || h.cells != nil {
			h.sorter = newSorter(r.b.cfg.SpillDir, &r.memory)
			into = h.sorter
		}
	}
	r.mu.Lock()
	r.held[t] = h
	r.mu.Unlock()
	var tap *lineTap
	if r.tap != nil && t.held {
		tap = r.tap(t)
	}
	if tap != nil && tap.early {
		tap.next, tap.cells = into, h.cells
		into = tap
	} else {
		h.digest.tap = tap
	}
	rows := t.newReader(into, key)
	if tap != nil {
		tap.rows = rows
	}
	rows.cells = h.cells
	rows.report = func(n, bytes int64) { r.b.cfg.Progress.Advance(t.name, n, bytes) }
	if err := r.p.copyOut(ctx, r.s, t, rows, nil); err != nil {
		return nil, err
	}
	h.counts, h.nulls = rows.counts, rows.nulls
	if t.choose != nil {
		h.counts.Undecided = t.choose.Undecided
	}
	if h.cells == nil {
		return h, nil
	}
	if r.smallest, r.suppressed, err = h.cells.settle(); err != nil {
		return nil, err
	}
	if r.suppressed > 0 {
		for _, i := range h.cells.columns {
			h.nulls[i] += r.suppressed
		}
	}
	return h, nil
}

// cellColumns are the columns of a table that stand together in a cell.
func (t *table) cellColumns() []int {
	var out []int
	for i, c := range t.out {
		if c.cell {
			out = append(out, i)
		}
	}
	return out
}

// load gives what was read to the cluster, or only digests it.
func (r *work) load(ctx context.Context, conns chan *pgx.Conn, t *table, h *heldTable) error {
	if !t.held || h.sorter == nil {
		return nil
	}
	it, err := h.sorter.iterate()
	if err != nil {
		return err
	}
	f := &feeder{it: it, cells: h.cells, digest: h.digest, report: func(int64) {}}
	if h.cells != nil && len(h.cells.hidden) == 0 {
		f.cells = nil
	}
	if r.t == nil {
		err = drain(ctx, f)
	} else {
		err = r.loadInto(ctx, conns, t, h, f)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	h.sorter.close()
	r.b.cfg.Progress.Done(t.name, f.rows)
	return nil
}

func (r *work) loadInto(ctx context.Context, conns chan *pgx.Conn, t *table, h *heldTable, f *feeder) error {
	select {
	case c := <-conns:
		defer func() { conns <- c }()
		return r.t.loadTable(ctx, c, r.p, t, f, h.nulls)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain digests what a feeder gives.
func drain(ctx context.Context, f *feeder) error {
	for {
		if _, err := f.line(); err != nil {
			if f.it.err() == nil {
				return ctx.Err()
			}
			return err
		}
	}
}

// foreignKeys adds all foreign keys, then validates them side by side: validation locks
// little.
func (r *work) foreignKeys(ctx context.Context, conns chan *pgx.Conn) error {
	var validate []string
	c := <-conns
	for _, t := range r.p.tables {
		add, check := r.p.foreignKeys(t)
		validate = append(validate, check...)
		for _, sql := range add {
			if _, err := c.Exec(ctx, sql); err != nil {
				conns <- c
				return fmt.Errorf("add foreign key to %s: %w", t.name, safe(err))
			}
		}
	}
	conns <- c
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.b.cfg.Workers)
	for _, sql := range validate {
		g.Go(func() error {
			c := <-conns
			defer func() { conns <- c }()
			if _, err := c.Exec(ctx, sql); err != nil {
				return fmt.Errorf("validate foreign key: %w", safe(err))
			}
			return nil
		})
	}
	return g.Wait()
}

// report sums up.
func (r *work) report() *Report {
	out := &Report{Definition: r.p.def, Hash: r.p.hash, SnapshotAt: r.s.at, BuiltAt: r.b.cfg.Now().UTC(), Notes: r.p.notes}
	digests := map[string]multiset{}
	m := &out.Measured
	for _, t := range r.p.tables {
		h := r.held[t]
		if t.person {
			m.Subjects = h.counts.Rows
			out.Undecided = h.counts.Undecided
		}
		if !t.held {
			continue
		}
		total := h.digest.total()
		digests[t.name] = total
		m.BadValues += h.counts.Bad
		m.LeftOut += h.counts.LeftOut
		m.Orphans += h.counts.Orphans
		m.Rows += h.counts.Rows
		out.Tables = append(out.Tables, TableReport{Table: t.name, Rows: h.counts.Rows, LeftOut: h.counts.LeftOut, Orphans: h.counts.Orphans,
			Cut: h.counts.Cut, Bad: h.counts.Bad, Digest: total.String(), multiset: total})
	}
	m.SmallestCell, m.Suppressed = r.smallest, r.suppressed
	m.Digest = datasetDigest(digests)
	sort.Slice(out.Tables, func(i, j int) bool { return out.Tables[i].Table < out.Tables[j].Table })
	return out
}
