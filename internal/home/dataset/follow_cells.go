package dataset

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// liveCells keeps every cell of the person table at k persons or more while rows change. A
// row whose cell would be too small is held without the cell's columns; a cell that shrinks
// below k loses them at once, in the same transaction; rows that lost them have them again
// when they are written anew into a cell that is large enough, or at the next build.
type liveCells struct {
	k       int64
	f       *followed
	columns []int            // of the line as held
	counts  map[string]int64 // text of the columns → persons
	null    string           // every column NULL
}

func newLiveCells(k int64, f *followed) *liveCells {
	c := &liveCells{k: k, f: f, columns: f.cellColumns(), counts: map[string]int64{}}
	c.null = strings.TrimSuffix(strings.Repeat("\\N\t", len(c.columns)), "\t")
	return c
}

func (c *liveCells) names(prefix string) string {
	var out []string
	for _, i := range c.columns {
		out = append(out, c.f.out[i].name)
	}
	return quotedList(prefix, out)
}

// load counts the cells that stand.
func (c *liveCells) load(ctx context.Context, conn *pgx.Conn) error {
	if len(c.columns) == 0 { // one cell: everybody
		var n int64
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM "+c.f.quoted()).Scan(&n); err != nil {
			return fmt.Errorf("count persons: %w", safe(err))
		}
		c.counts[c.null] = n
		return nil
	}
	count := writerFunc(func(row []byte) { c.counts[string(bytes.TrimSuffix(row, []byte{'\n'}))]++ })
	if _, err := conn.PgConn().CopyTo(ctx, count, fmt.Sprintf("COPY (SELECT %s FROM %s) TO STDOUT", c.names(""), c.f.quoted())); err != nil {
		return fmt.Errorf("count cells: %w", safe(err))
	}
	return nil
}

// writerFunc takes one row a call, as COPY sends them.
type writerFunc func([]byte)

func (w writerFunc) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// of is the cell of a line as held.
func (c *liveCells) of(line []byte) string {
	fields := splitLine(nil, line[:len(line)-1])
	own := make([][]byte, len(c.columns))
	for n, i := range c.columns {
		own[n] = fields[i]
	}
	return string(bytes.Join(own, []byte{'\t'}))
}

// move takes rows out of their old cells and puts those that stay into new ones.
func (c *liveCells) move(ctx context.Context, a *applier, rows, stay []*changed) error {
	if err := c.leave(ctx, a, rows); err != nil {
		return err
	}
	want := map[string][]*changed{}
	for _, r := range stay {
		cell := c.of(r.outcome)
		want[cell] = append(want[cell], r)
	}
	for cell, members := range want {
		n := int64(len(members))
		if cell == c.null || c.counts[cell]+n >= c.k {
			c.counts[cell] += n
			continue
		}
		for _, r := range members {
			r.outcome = c.hidden(r.outcome)
		}
		c.counts[c.null] += n
	}
	return nil
}

// leave reads the cells that rows are in now.
func (c *liveCells) leave(ctx context.Context, a *applier, rows []*changed) error {
	var keys [][]string
	for _, r := range rows {
		if r.present {
			keys = append(keys, r.heldKey)
		}
	}
	columns := c.names("t.")
	if columns == "" {
		columns = "NULL"
	}
	return inParts(keys, func(part [][]string) error {
		sql := fmt.Sprintf("SELECT %s FROM (SELECT * FROM %s) k JOIN %s t ON %s", columns, unnest(c.f.heldPK), c.f.quoted(), joined(c.f.pk))
		return a.each(ctx, sql, arrays(part, len(c.f.pk)), func(v [][]byte) error {
			line := lineOf(v)
			if len(c.columns) == 0 {
				line = []byte("\n")
			}
			c.counts[string(line[:len(line)-1])]--
			return nil
		})
	})
}

func (c *liveCells) hidden(line []byte) []byte {
	fields := splitLine(nil, line[:len(line)-1])
	for _, i := range c.columns {
		fields[i] = []byte(`\N`)
	}
	return append(bytes.Join(fields, []byte{'\t'}), '\n')
}

// settle takes the columns from cells that are too small, and from the smallest others while
// the cell of those without columns is.
func (c *liveCells) settle(ctx context.Context, a *applier) error {
	for cell, n := range c.counts {
		if cell != c.null && n > 0 && n < c.k {
			if err := c.hide(ctx, a, cell); err != nil {
				return err
			}
		} else if n == 0 {
			delete(c.counts, cell)
		}
	}
	for c.counts[c.null] > 0 && c.counts[c.null] < c.k {
		smallest, found := "", false
		for cell, n := range c.counts {
			if cell != c.null && n > 0 && (!found || n < c.counts[smallest] || n == c.counts[smallest] && cell < smallest) {
				smallest, found = cell, true
			}
		}
		if !found {
			return errTooFew
		}
		if err := c.hide(ctx, a, smallest); err != nil {
			return err
		}
	}
	return nil
}

// hide takes the columns of a whole cell. Text is compared, so that every type will do.
func (c *liveCells) hide(ctx context.Context, a *applier, cell string) error {
	var set, where []string
	var params [][]byte
	fields := splitLine(nil, []byte(cell))
	for n, i := range c.columns {
		name := postgres.Quote(c.f.out[i].name)
		set = append(set, name+" = NULL")
		if isNull(fields[n]) {
			where = append(where, name+" IS NULL")
			continue
		}
		v, _ := unescape(nil, fields[n])
		params = append(params, append([]byte(nil), v...))
		where = append(where, fmt.Sprintf("pg_catalog.format('%%s', %s) = $%d::text", name, len(params)))
	}
	sql := fmt.Sprintf("UPDATE %s SET %s WHERE %s", c.f.quoted(), strings.Join(set, ", "), strings.Join(where, " AND "))
	tag, err := a.conn.PgConn().ExecParams(ctx, sql, params, nil, nil, nil).Close()
	if err != nil {
		return fmt.Errorf("take small cells' columns: %w", safe(err))
	}
	if tag.RowsAffected() != c.counts[cell] {
		return fmt.Errorf("take small cells' columns: %d rows of %d", tag.RowsAffected(), c.counts[cell])
	}
	c.counts[c.null] += c.counts[cell]
	delete(c.counts, cell)
	return nil
}

// smallest is the size of the smallest cell that stands, 0 when nobody is there.
func (c *liveCells) smallest() int64 {
	least := int64(0)
	for _, n := range c.counts {
		if n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}
