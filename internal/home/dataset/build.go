package dataset

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/trefoil-eu/trefoil"
)

// Report is what a build did.
type Report struct {
	Definition *trefoil.Definition
	Hash       string
	Measured   trefoil.Measured
	SnapshotAt time.Time // the source's clock
	BuiltAt    time.Time
	Took       time.Duration
	Tables     []TableReport
	Undecided  int64    // persons for whom the condition had no answer: not chosen
	Notes      []string // keys, indexes and the like that the dataset does not have, and why
	OldSchemas int      // schemas of former builds that sessions still use
}

// TableReport counts one table.
type TableReport struct {
	Table    string
	Rows     int64
	LeftOut  int64
	Orphans  int64
	Cut      int64
	Bad      int64
	Digest   string
	multiset multiset
}

// Build builds a dataset beside what is there, and swaps it in. When it fails nothing has
// changed for anyone. It returns the definition it built and what it measured.
func (b *Builder) Build(ctx context.Context, name string) (*trefoil.Definition, *trefoil.Measured, error) {
	r, err := b.BuildReport(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	return r.Definition, &r.Measured, nil
}

// BuildReport is Build with all that there is to say.
func (b *Builder) BuildReport(ctx context.Context, name string) (*Report, error) {
	start := time.Now()
	ds, clusterDSN, err := b.find(name)
	if err != nil {
		return nil, err
	}
	def, hash, err := b.Define(name)
	if err != nil {
		return nil, err
	}
	if err := b.allowed(def); err != nil {
		return nil, err
	}
	sourceDSN, err := b.sourceDSN(ds)
	if err != nil {
		return nil, err
	}
	if err := b.record(ctx, "defined", def, hash, nil); err != nil {
		return nil, err
	}
	report, err := b.build(ctx, name, sourceDSN, clusterDSN)
	if err != nil {
		return nil, fmt.Errorf("build dataset %s: %w", name, err)
	}
	report.Took = time.Since(start)
	b.cfg.Logger.Info("dataset built", "dataset", name, "rows", report.Measured.Rows, "took", report.Took.Round(time.Millisecond))
	if err := b.record(ctx, "built", def, hash, &report.Measured); err != nil {
		return nil, err
	}
	return report, nil
}

func (b *Builder) build(ctx context.Context, name, sourceDSN, clusterDSN string) (*Report, error) {
	t, err := openTarget(ctx, clusterDSN, name)
	if err != nil {
		return nil, err
	}
	defer t.close()
	s, err := openSource(ctx, sourceDSN, b.cfg.Workers)
	if err != nil {
		return nil, err
	}
	defer s.close()
	p, err := b.makePlan(name, s.schema)
	if err != nil {
		return nil, err
	}
	if err := t.prepare(ctx); err != nil {
		return nil, err
	}
	if err := t.begin(ctx, p); err != nil {
		return nil, err
	}
	w := &work{b: b, p: p, s: s, t: t, held: map[*table]*heldTable{}}
	if err := w.all(ctx); err != nil {
		return nil, err
	}
	report := w.report()
	b.cfg.Progress.Stage("swap", 0)
	if err := t.publish(ctx, p, report); err != nil {
		return nil, err
	}
	if report.OldSchemas, err = t.sweep(ctx, b.cfg.SweepWait); err != nil {
		// The new dataset stands; the old one's tables go at the next build.
		b.cfg.Logger.Warn("old tables are not dropped yet", "dataset", name, "error", err)
	}
	return report, nil
}

// work is one build, or one verification, in progress.
type work struct {
	b      *Builder
	p      *plan
	s      *source
	t      *target // nil: nothing is loaded, rows are digested only
	memory atomic.Int64
	mu     sync.Mutex
	held   map[*table]*heldTable

	smallest, suppressed int64
}

// heldTable is one table between reading and loading.
type heldTable struct {
	counts counts
	nulls  []int64
	sorter *sorter
	cells  *cells
	digest *tableDigest
}

// all reads, loads and keys every table. Tables are read once those they refer to are
// known; loading overlaps with reading the next.
func (r *work) all(ctx context.Context) error {
	r.memory.Store(r.b.cfg.MemoryBytes)
	r.b.cfg.Progress.Stage("tables", len(r.p.tables))
	for _, t := range r.p.tables {
		if t.choose != nil {
			t.choose.at = r.s.at
		}
		r.b.cfg.Progress.Expect(t.name, t.src.Rows, t.src.Bytes)
	}
	defer func() {
		for _, h := range r.held {
			if h.sorter != nil {
				h.sorter.close()
			}
		}
	}()
	conns, err := r.sessions(ctx)
	if err != nil {
		return err
	}
	defer func() {
		close(conns)
		for c := range conns {
			closeConn(c)
		}
	}()
	if err := r.tables(ctx, conns); err != nil {
		return err
	}
	if r.t == nil {
		return nil
	}
	r.b.cfg.Progress.Stage("foreign keys", 0)
	return r.foreignKeys(ctx, conns)
}

// sessions opens the loading sessions.
func (r *work) sessions(ctx context.Context) (chan *pgx.Conn, error) {
	conns := make(chan *pgx.Conn, r.b.cfg.Workers)
	if r.t == nil {
		return conns, nil
	}
	for range r.b.cfg.Workers {
		c, err := r.t.session(ctx)
		if err != nil {
			close(conns)
			for c := range conns {
				closeConn(c)
			}
			return nil, err
		}
		conns <- c
	}
	return conns, nil
}

func (r *work) tables(ctx context.Context, conns chan *pgx.Conn) error {
	g, ctx := errgroup.WithContext(ctx)
	read := map[*table]chan struct{}{}
	circles := map[int]*sync.Once{}
	failed := map[int]*error{}
	for _, t := range r.p.tables {
		read[t] = make(chan struct{})
		if t.circle > 0 && circles[t.circle] == nil {
			circles[t.circle], failed[t.circle] = &sync.Once{}, new(error)
		}
	}
	order := append([]*table(nil), r.p.tables...)
	sort.SliceStable(order, func(i, j int) bool { return order[i].src.Bytes > order[j].src.Bytes })
	for _, t := range order {
		g.Go(func() error {
			for _, ref := range t.refs {
				if t.circle > 0 && ref.to.circle == t.circle {
					continue
				}
				select {
				case <-read[ref.to]:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if t.circle > 0 {
				if err := r.settle(ctx, t, circles[t.circle], failed[t.circle], read); err != nil {
					return err
				}
			}
			h, err := r.read(ctx, t)
			if err != nil {
				return err
			}
			close(read[t])
			return r.load(ctx, conns, t, h)
		})
	}
	return g.Wait()
}

// settle settles t's circle once, when all that the circle refers to outside is read.
func (r *work) settle(ctx context.Context, t *table, once *sync.Once, failed *error, read map[*table]chan struct{}) error {
	once.Do(func() {
		var members []*table
		for _, m := range r.p.tables {
			if m.circle != t.circle {
				continue
			}
			members = append(members, m)
			for _, ref := range m.refs {
				if ref.to.circle == t.circle {
					continue
				}
				select {
				case <-read[ref.to]:
				case <-ctx.Done():
					*failed = ctx.Err()
					return
				}
			}
		}
		key, err := r.orderKey(t)
		if err == nil {
			err = r.p.settleCircle(ctx, r.s, members, key)
		}
		*failed = err
	})
	return *failed
}

func (r *work) orderKey(t *table) ([]byte, error) {
	return r.b.keys.Order(r.p.purpose.Name, t.name, r.p.purpose.Epoch)
}

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
	rows := t.newReader(into, key)
	rows.cells = h.cells
	rows.report = func(n, bytes int64) { r.b.cfg.Progress.Advance(t.name, n, bytes) }
	if err := r.s.copyOut(ctx, t, rows, nil); err != nil {
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
