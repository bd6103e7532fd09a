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
	_, clusterDSN, err := b.find(name)
	if err != nil {
		return nil, err
	}
	r, err := b.buildOn(ctx, name, func(ctx context.Context) (*target, func(), error) {
		t, err := openTarget(ctx, clusterDSN, name)
		if err != nil {
			return nil, nil, err
		}
		return t, t.close, nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := b.dropSlot(ctx, name); err != nil { // it followed before: what it was built to is over
		b.cfg.Logger.Warn("the slot at the source is not dropped yet", "dataset", name, "error", err)
	}
	return r, nil
}

// buildOn is BuildReport on a target that open gives, with the dataset's lock.
func (b *Builder) buildOn(ctx context.Context, name string, open func(context.Context) (*target, func(), error)) (*Report, error) {
	start := time.Now()
	ds, _, err := b.find(name)
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
	report, err := b.build(ctx, name, sourceDSN, open)
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

func (b *Builder) build(ctx context.Context, name, sourceDSN string, open func(context.Context) (*target, func(), error)) (*Report, error) {
	t, done, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
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
	t      *target               // nil: nothing is loaded, rows are digested only
	tap    func(*table) *lineTap // set to compare rows with those that stand
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
	read := r.tables
	if r.p.narrow != nil {
		read = r.narrowTables
	}
	if err := read(ctx, conns); err != nil {
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
