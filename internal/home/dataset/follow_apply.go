package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// applier writes to the dataset, in one transaction a batch. Foreign keys are checked by the
// server itself when the transaction commits.
type applier struct {
	conn  *pgx.Conn
	tx    pgx.Tx
	cells *liveCells

	rows, subjects int64 // by how much the dataset grew
	written        int64
	planned        int64    // rows written since statements were planned
	at             [2]tally // of the transaction's start, and of its newest part's
	marked         bool
}

// applySettings find rows by key, and make a commit durable before it is confirmed.
const applySettings = `SET synchronous_commit = on; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
	SET plan_cache_mode = force_generic_plan`

// openApplier opens the session that applies, with a place for the rows of each table.
func openApplier(ctx context.Context, t *target, p *followPlan) (*applier, error) {
	conn, err := t.session(ctx)
	if err != nil {
		return nil, err
	}
	a := &applier{conn: conn}
	if err := a.prepare(ctx, p); err != nil {
		closeConn(conn)
		return nil, err
	}
	return a, nil
}

func (a *applier) prepare(ctx context.Context, p *followPlan) error {
	if _, err := a.conn.PgConn().Exec(ctx, applySettings+"; "+meetTable).ReadAll(); err != nil {
		return fmt.Errorf("prepare to apply: %w", safe(err))
	}
	for _, f := range p.all {
		if !f.held {
			continue
		}
		if err := a.describe(ctx, f); err != nil {
			return fmt.Errorf("read the columns of %s in the dataset: %w", f.name, safe(err))
		}
		sql := fmt.Sprintf("CREATE TEMP TABLE %s ON COMMIT DELETE ROWS AS SELECT %s FROM %s WHERE false", f.stage, f.columnList(), f.quoted())
		if _, err := a.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("prepare to apply to %s: %w", f.name, safe(err))
		}
	}
	if p.person == nil || !p.person.held || p.def.K == 0 {
		return nil
	}
	a.cells = newLiveCells(p.def.K, p.person)
	return a.cells.load(ctx, a.conn)
}

func (a *applier) begin(ctx context.Context) error {
	tx, err := a.conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin to apply: %w", safe(err))
	}
	// A plan that was made for a small table goes through all of it for each row that is looked
	// for, and stays when the table has grown: nobody need have analysed it.
	again := "SET CONSTRAINTS ALL DEFERRED"
	if a.planned += a.written; a.planned >= planRows {
		again, a.planned = again+"; DISCARD PLANS", 0
	}
	a.tx, a.rows, a.subjects, a.written = tx, 0, 0, 0
	a.at, a.marked = [2]tally{a.keep()}, false
	if _, err := a.conn.PgConn().Exec(ctx, again).ReadAll(); err != nil {
		return fmt.Errorf("begin to apply: %w", safe(err))
	}
	return nil
}

// planRows is after how many rows statements are planned again.
const planRows = 1000

// tally is what an applier counts of what it wrote.
type tally struct {
	rows, subjects, written int64
	cells                   map[string]int64
}

func (a *applier) keep() tally {
	t := tally{rows: a.rows, subjects: a.subjects, written: a.written}
	if a.cells != nil {
		t.cells = maps.Clone(a.cells.counts)
	}
	return t
}

func (a *applier) restore(t tally) {
	a.rows, a.subjects, a.written = t.rows, t.subjects, t.written
	if a.cells != nil {
		a.cells.counts = maps.Clone(t.cells)
	}
}

// rollback takes the transaction back, and the counts with it.
func (a *applier) rollback(ctx context.Context) {
	_ = a.tx.Rollback(ctx) // where the connection is gone, the server rolls back by itself
	a.restore(a.at[0])
}

// mark is a place within the transaction that back returns to.
func (a *applier) mark(ctx context.Context) error {
	a.at[1] = a.keep()
	sql := "SAVEPOINT part"
	if a.marked {
		sql = "RELEASE SAVEPOINT part; SAVEPOINT part"
	}
	a.marked = true
	if _, err := a.conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("mark a part: %w", safe(err))
	}
	return nil
}

func (a *applier) back(ctx context.Context) error {
	a.restore(a.at[1])
	_, err := a.tx.Exec(ctx, "ROLLBACK TO SAVEPOINT part")
	return safe(err)
}

// empty takes all rows of a table away, for a TRUNCATE at the source.
func (a *applier) empty(ctx context.Context, f *followed) error {
	tag, err := a.tx.Exec(ctx, "DELETE FROM "+f.quoted())
	if err != nil {
		return fmt.Errorf("empty %s: %w", f.name, safe(err))
	}
	a.rows -= tag.RowsAffected()
	if f.person {
		a.subjects -= tag.RowsAffected()
		if a.cells != nil {
			clear(a.cells.counts)
		}
	}
	return nil
}

// present finds which rows the dataset holds. A key that does not fit its form is in none.
func (a *applier) present(ctx context.Context, f *followed, rows []*changed) error {
	var keys [][]string
	var asked []*changed
	for _, r := range rows {
		if r.heldKey == nil {
			k, err := f.heldKey(f.fieldsOf(r.key))
			if errors.Is(err, errKeyForm) {
				continue
			}
			r.heldKey = k
		}
		keys, asked = append(keys, r.heldKey), append(asked, r)
	}
	for start := 0; start < len(keys); start += chunkRows {
		end := min(start+chunkRows, len(keys))
		sql := fmt.Sprintf("SELECT k.o FROM %s k JOIN %s t ON %s", ordered(f.heldPK), f.quoted(), joined(f.pk))
		err := a.each(ctx, sql, arrays(keys[start:end], len(f.pk)), func(v [][]byte) error {
			n, err := strconv.Atoi(string(v[0]))
			if err == nil {
				asked[start+n-1].present = true
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("look up rows of %s: %w", f.name, err)
		}
	}
	return nil
}

// ordered is unnest with the place of each key as column o.
func ordered(types []string) string {
	u := unnest(types)
	u = strings.Replace(u, ") u(", ") WITH ORDINALITY u(", 1)
	return "(SELECT * FROM " + strings.TrimSuffix(u, ")") + ", o))"
}

func (a *applier) each(ctx context.Context, sql string, params [][]byte, row func([][]byte) error) error {
	rr := a.conn.PgConn().ExecParams(ctx, sql, params, nil, nil, nil)
	var failed error
	for rr.NextRow() {
		if failed == nil {
			failed = row(rr.Values())
		}
	}
	if _, err := rr.Close(); err != nil {
		return safe(err)
	}
	return failed
}

// apply makes the dataset hold the rows that belong, and no other of these keys.
func (a *applier) apply(ctx context.Context, f *followed, rows []*changed) error {
	var gone [][]string
	var stay []*changed
	for _, r := range rows {
		switch {
		case r.alive && r.heldKey == nil:
			return &staleError{"table " + f.name + ": a key does not fit its form"}
		case r.alive:
			stay = append(stay, r)
		case r.present:
			gone = append(gone, r.heldKey)
		}
		a.count(f, r)
	}
	sort.Slice(stay, func(i, j int) bool { return before(stay[i], stay[j]) })
	hide := a.cells != nil && f.person
	if hide {
		if err := a.cells.move(ctx, a, rows, stay); err != nil {
			return err
		}
	}
	if err := a.remove(ctx, f, gone); err != nil {
		return err
	}
	if err := a.upsert(ctx, f, stay); err != nil {
		return err
	}
	if hide {
		return a.cells.settle(ctx, a)
	}
	return nil
}

func (a *applier) count(f *followed, r *changed) {
	d := int64(0)
	if r.alive {
		d++
	}
	if r.present {
		d--
	}
	a.rows += d
	if f.person {
		a.subjects += d
	}
	a.written++
}

// before orders rows as a build does, so that neighbours in the index are written together.
func before(a, b *changed) bool {
	if a.hi != b.hi {
		return a.hi < b.hi
	}
	if a.lo != b.lo {
		return a.lo < b.lo
	}
	return bytes.Compare(a.outcome, b.outcome) < 0
}

func (a *applier) remove(ctx context.Context, f *followed, keys [][]string) error {
	return inParts(keys, func(part [][]string) error {
		sql := fmt.Sprintf("DELETE FROM %s t USING (SELECT * FROM %s) k WHERE %s", f.quoted(), unnest(f.heldPK), joined(f.pk))
		if _, err := a.conn.PgConn().ExecParams(ctx, sql, arrays(part, len(f.pk)), nil, nil, nil).Close(); err != nil {
			return fmt.Errorf("delete from %s: %w", f.name, safe(err))
		}
		return nil
	})
}

// upsert writes rows. Where rows exchange values of another unique key, they go first and
// come again.
func (a *applier) upsert(ctx context.Context, f *followed, rows []*changed) error {
	if len(rows) == 0 {
		return nil
	}
	var lines []io.Reader
	for _, r := range rows {
		lines = append(lines, bytes.NewReader(r.outcome))
	}
	if _, err := a.conn.PgConn().CopyFrom(ctx, io.MultiReader(lines...), "COPY "+f.stage+" FROM STDIN"); err != nil {
		return fmt.Errorf("write to %s: %w", f.name, safe(err))
	}
	err := attempt(ctx, a.tx, f.upsertSQL())
	if sqlState(err) == uniqueViolation {
		if err = a.remove(ctx, f, heldKeys(rows)); err == nil {
			err = attempt(ctx, a.tx, f.upsertSQL())
		}
	}
	if sqlState(err) == uniqueViolation {
		if err = a.displace(ctx, f); err == nil {
			err = attempt(ctx, a.tx, f.upsertSQL())
		}
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w", f.name, err)
	}
	if _, err := a.tx.Exec(ctx, "TRUNCATE "+f.stage); err != nil {
		return fmt.Errorf("write to %s: %w", f.name, safe(err))
	}
	return nil
}

const uniqueViolation = "23505"

func heldKeys(rows []*changed) [][]string {
	out := make([][]string, len(rows))
	for i, r := range rows {
		out[i] = r.heldKey
	}
	return out
}

func (f *followed) upsertSQL() string {
	var set []string
	for _, c := range f.out {
		if !slices.Contains(f.pk, c.name) {
			q := postgres.Quote(c.name)
			set = append(set, q+" = EXCLUDED."+q)
		}
	}
	action := "NOTHING"
	if len(set) > 0 {
		action = "UPDATE SET " + strings.Join(set, ", ")
	}
	return fmt.Sprintf("INSERT INTO %s (%s) SELECT * FROM %s ON CONFLICT (%s) DO %s", f.quoted(), f.columnList(), f.stage,
		postgres.QuoteAll(f.pk), action)
}
