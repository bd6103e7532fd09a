package dataset

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"strconv"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// This file writes tables that are in no circle of references and have no cells to keep: a
// whole batch at once, without asking first what the dataset holds. Writing tells it: what an
// UPDATE did not find is new, what a DELETE took was there.

// plain says that a table can be written without asking first what the dataset holds of it.
func (s *settler) plain(f *followed) bool {
	return f.held && f.circle == 0 && (s.a.cells == nil || !f.person)
}

// fast decides and writes the rows of a plain table.
func (s *settler) fast(ctx context.Context, f *followed, rows []*changed) error {
	if f.loose && s.v != nil { // a second row of one key would look like a change of the first
		for _, r := range rows {
			r.known = r.known && r.touch&flow.Inserted == 0
			if !r.known {
				r.line = nil
			}
		}
	}
	if err := s.read(ctx, f, rows); err != nil {
		return err
	}
	c := newCircleOf(s)
	there := make([]*changed, 0, len(rows))
	for _, r := range rows {
		if r.line != nil {
			there = append(there, r)
		}
	}
	if err := c.references(ctx, f, there, false); err != nil {
		return err
	}
	if err := s.make(f, there); err != nil {
		return err
	}
	if err := s.write(ctx, f, rows); err != nil {
		return err
	}
	s.a.written += int64(len(rows))
	return s.pass(ctx, f, rows)
}

// make transforms the rows that belong.
func (s *settler) make(f *followed, rows []*changed) error {
	f.settled = false // what they are is remembered for those that refer to them
	defer func() { f.settled = true }()
	before := f.rows.counts.Orphans
	for _, r := range rows {
		f.caught.got = false
		if _, err := f.rows.Write(r.line); err != nil {
			return err
		}
		if r.alive = f.caught.got; !r.alive {
			continue
		}
		r.outcome, r.hi, r.lo = f.caught.line, f.caught.hi, f.caught.lo
		for _, i := range f.to.pk {
			if isNull(f.rows.heldField(i)) {
				return &staleError{"table " + f.name + ": a key does not fit its form"}
			}
		}
	}
	s.orphans += f.rows.counts.Orphans - before
	return nil
}

// write makes the dataset hold the rows that belong and no other of these keys, and finds
// out which of them it held before.
func (s *settler) write(ctx context.Context, f *followed, rows []*changed) error {
	var gone, old, fresh []*changed
	for _, r := range rows {
		switch {
		case r.alive && r.touch&flow.Inserted != 0 && r.touch&flow.Deleted == 0:
			fresh = append(fresh, r)
		case r.alive:
			old = append(old, r)
		case r.touch != flow.Inserted || s.thorough || s.away != nil: // else it never belonged
			gone = append(gone, r)
		}
	}
	if s.thorough || s.away != nil { // what is there is not what the touches say
		if err := s.a.present(ctx, f, fresh); err != nil {
			return err
		}
		some := fresh
		fresh = nil
		for _, r := range some {
			if r.present {
				old = append(old, r)
			} else {
				fresh = append(fresh, r)
			}
		}
	}
	for _, part := range [][]*changed{old, fresh} {
		sort.Slice(part, func(i, j int) bool { return before(part[i], part[j]) })
	}
	if err := s.a.take(ctx, f, gone); err != nil {
		return err
	}
	if f.to.uniques {
		done, err := s.a.careful(ctx, func() error { return s.put(ctx, f, old, fresh) })
		if err != nil || done {
			return err
		}
		return s.exchange(ctx, f, append(old, fresh...))
	}
	return s.put(ctx, f, old, fresh)
}

// put updates rows that should be there and inserts rows that should not.
func (s *settler) put(ctx context.Context, f *followed, old, fresh []*changed) error {
	missing, err := s.a.change(ctx, f, old)
	if err != nil {
		return err
	}
	if err := s.a.enter(ctx, f, missing); err != nil {
		return err
	}
	known, err := s.a.bring(ctx, f, fresh)
	if err != nil || len(known) == 0 {
		return err
	}
	if f.loose && s.v == nil {
		return errLook
	}
	_, err = s.a.change(ctx, f, known)
	return err
}

// exchange writes rows that exchange values of another unique key: they go and come again.
func (s *settler) exchange(ctx context.Context, f *followed, rows []*changed) error {
	if err := s.a.present(ctx, f, rows); err != nil {
		return err
	}
	for _, r := range rows {
		if r.heldKey == nil {
			return &staleError{"table " + f.name + ": a key does not fit its form"}
		}
		if !r.present {
			s.a.grow(f, 1)
		}
	}
	if err := s.a.remove(ctx, f, heldKeys(rows)); err != nil {
		return err
	}
	return s.a.upsert(ctx, f, rows)
}

// careful runs do so that a unique violation undoes it and nothing else; it says whether it was done.
func (a *applier) careful(ctx context.Context, do func() error) (bool, error) {
	if _, err := a.conn.PgConn().Exec(ctx, "SAVEPOINT careful").ReadAll(); err != nil {
		return false, fmt.Errorf("begin to write: %w", safe(err))
	}
	was := a.keep()
	err := do()
	sql := "RELEASE SAVEPOINT careful"
	violated := sqlState(err) == uniqueViolation
	if violated {
		a.restore(was)
		sql = "ROLLBACK TO SAVEPOINT careful; " + sql
	}
	if err != nil && !violated {
		return false, err
	}
	if _, err := a.conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return false, fmt.Errorf("write: %w", safe(err))
	}
	return !violated, nil
}

func (a *applier) grow(f *followed, n int64) {
	a.rows += n
	if f.person {
		a.subjects += n
	}
}

// take deletes rows, and finds which there were.
func (a *applier) take(ctx context.Context, f *followed, rows []*changed) error {
	var keys [][]string
	var asked []*changed
	for _, r := range rows {
		k, err := f.heldKey(f.fieldsOf(r.key))
		if err != nil { // a key that does not fit its form is in no dataset
			continue
		}
		keys, asked = append(keys, k), append(asked, r)
	}
	for start := 0; start < len(keys); start += writeRows {
		end := min(start+writeRows, len(keys))
		rr := a.conn.PgConn().ExecPrepared(ctx, f.to.remove, arrays(keys[start:end], len(f.pk)), nil, nil)
		for rr.NextRow() {
			n, err := strconv.Atoi(string(rr.Values()[0]))
			if err == nil {
				asked[start+n-1].present = true
			}
		}
		tag, err := rr.Close()
		if err != nil {
			return fmt.Errorf("delete from %s: %w", f.name, safe(err))
		}
		a.grow(f, -tag.RowsAffected())
	}
	return nil
}

// writeRows is how many rows a statement writes.
const writeRows = 8192

// change updates rows; it returns those that are not there.
func (a *applier) change(ctx context.Context, f *followed, rows []*changed) ([]*changed, error) {
	var missing []*changed
	for start := 0; start < len(rows); start += writeRows {
		part := rows[start:min(start+writeRows, len(rows))]
		tag, err := a.conn.PgConn().ExecPrepared(ctx, f.to.update, columnsOf(part, len(f.out)), nil, nil).Close()
		if err != nil {
			return nil, fmt.Errorf("update %s: %w", f.name, safe(err))
		}
		whole := tag.RowsAffected() == int64(len(part))
		if !whole {
			if err := a.present(ctx, f, part); err != nil {
				return nil, err
			}
		}
		for _, r := range part {
			if whole {
				r.present = true
			} else if !r.present {
				missing = append(missing, r)
			}
		}
	}
	return missing, nil
}

// enter inserts rows that are not there.
func (a *applier) enter(ctx context.Context, f *followed, rows []*changed) error {
	known, err := a.bring(ctx, f, rows)
	if err == nil && len(known) > 0 {
		err = &staleError{"table " + f.name + ": a key does not fit its form"} // two keys became one, or a row came while nobody but us writes
	}
	return err
}

// copyLeast is from how many rows COPY pays.
const copyLeast = 256

// bring inserts rows; it returns those of parts in which some were there already.
func (a *applier) bring(ctx context.Context, f *followed, rows []*changed) (known []*changed, err error) {
	for start := 0; start < len(rows); start += 4 * writeRows {
		part := rows[start:min(start+4*writeRows, len(rows))]
		if len(part) >= copyLeast {
			done, err := a.careful(ctx, func() error { return a.copyIn(ctx, f, part) })
			if err != nil {
				return nil, err
			}
			if done {
				a.grow(f, int64(len(part)))
				continue
			}
		}
		for len(part) > 0 {
			some := part[:min(writeRows, len(part))]
			part = part[len(some):]
			tag, err := a.conn.PgConn().ExecPrepared(ctx, f.to.insert, columnsOf(some, len(f.out)), nil, nil).Close()
			if err != nil {
				return nil, fmt.Errorf("insert into %s: %w", f.name, safe(err))
			}
			a.grow(f, tag.RowsAffected())
			if tag.RowsAffected() < int64(len(some)) {
				known = append(known, some...)
			}
		}
	}
	return known, nil
}

func (a *applier) copyIn(ctx context.Context, f *followed, rows []*changed) error {
	size := 0
	for _, r := range rows {
		size += len(r.outcome)
	}
	lines := make([]byte, 0, size)
	for _, r := range rows {
		lines = append(lines, r.outcome...)
	}
	if _, err := a.conn.PgConn().CopyFrom(ctx, bytes.NewReader(lines), fmt.Sprintf("COPY %s (%s) FROM STDIN", f.quoted(), f.columnList())); err != nil {
		return fmt.Errorf("write to %s: %w", f.name, safe(err))
	}
	return nil
}

// columnsOf turns lines into one array literal a column.
func columnsOf(rows []*changed, columns int) [][]byte {
	out := make([][]byte, columns)
	var fields [][]byte
	var scratch []byte
	for c := range out {
		out[c] = append(make([]byte, 0, 12*len(rows)), '{')
	}
	for n, r := range rows {
		fields = splitLine(fields, r.outcome[:len(r.outcome)-1])
		for c, field := range fields {
			b := out[c]
			if n > 0 {
				b = append(b, ',')
			}
			if isNull(field) {
				out[c] = append(b, "NULL"...)
				continue
			}
			var v []byte
			v, scratch = unescape(scratch, field)
			out[c] = appendElement(b, v)
		}
	}
	for c := range out {
		out[c] = append(out[c], '}')
	}
	return out
}

// appendElement quotes one element of an array literal.
func appendElement(b, v []byte) []byte {
	b = append(b, '"')
	for {
		i := bytes.IndexAny(v, `"\`)
		if i < 0 {
			return append(append(b, v...), '"')
		}
		b = append(append(b, v[:i]...), '\\', v[i])
		v = v[i+1:]
	}
}
