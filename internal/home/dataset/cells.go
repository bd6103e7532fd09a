package dataset

import (
	"fmt"
	"hash/maphash"
	"sort"
)

// cells counts how many subjects share the clear and generalised columns of the person
// table. Rows of cells smaller than k lose these columns; the cell of those rows (all NULL)
// must hold k rows too, so the smallest of the others join it until it does.
type cells struct {
	k       int64
	columns []int // of the line as held
	a, b    maphash.Hash
	counts  map[key]int64
	null    key // the cell in which every column is NULL
	hidden  map[key]bool
}

// ErrFewSubjects says that a dataset has fewer subjects than its smallest cell may hold:
// choose more subjects, or hold no clear and generalised column of the person table.
var ErrFewSubjects = fmt.Errorf("fewer subjects than one cell must hold")

func newCells(k int64, columns []int) *cells {
	c := &cells{k: k, columns: columns, counts: map[key]int64{}, hidden: map[key]bool{}}
	c.a.SetSeed(maphash.MakeSeed())
	c.b.SetSeed(maphash.MakeSeed())
	for range columns {
		c.feed([]byte(`\N`))
	}
	c.null = c.sum()
	return c
}

func (c *cells) feed(field []byte) {
	c.a.Write(field)
	c.a.WriteByte('\t')
	c.b.Write(field)
	c.b.WriteByte('\t')
}

func (c *cells) sum() key {
	k := key{c.a.Sum64(), c.b.Sum64()}
	c.a.Reset()
	c.b.Reset()
	return k
}

// of returns the cell of a row of fields as held.
func (c *cells) of(fields [][]byte) key {
	for _, i := range c.columns {
		c.feed(fields[i])
	}
	return c.sum()
}

func (c *cells) count(fields [][]byte) { c.counts[c.of(fields)]++ }

// settle decides which cells are hidden. It returns the size of the smallest cell that
// stands, and how many rows lose their columns.
func (c *cells) settle() (smallest, suppressed int64, err error) {
	type cell struct {
		key key
		n   int64
	}
	var rest []cell
	null := c.counts[c.null]
	for k, n := range c.counts {
		switch {
		case k == c.null:
		case n < c.k:
			c.hidden[k] = true
			suppressed += n
		default:
			rest = append(rest, cell{k, n})
		}
	}
	sort.Slice(rest, func(i, j int) bool { return rest[i].n < rest[j].n })
	null += suppressed
	for len(rest) > 0 && null > 0 && null < c.k {
		n := rest[0].n
		for len(rest) > 0 && rest[0].n == n { // all of one size: two builds of the same rows must not differ
			c.hidden[rest[0].key] = true
			suppressed += n
			null += n
			rest = rest[1:]
		}
	}
	if null > 0 && null < c.k {
		return 0, 0, fmt.Errorf("%w: %d, not %d", ErrFewSubjects, null, c.k)
	}
	smallest = null
	if len(rest) > 0 && (smallest == 0 || rest[0].n < smallest) {
		smallest = rest[0].n
	}
	return smallest, suppressed, nil
}

// hide returns line as it is held: with its cell's columns NULL when the cell is hidden.
func (c *cells) hide(dst, line []byte, fields [][]byte) ([]byte, [][]byte) {
	fields = splitLine(fields, line[:len(line)-1])
	if !c.hidden[c.of(fields)] {
		return line, fields
	}
	at := 0
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, '\t')
		}
		if at < len(c.columns) && c.columns[at] == i {
			dst = append(dst, `\N`...)
			at++
			continue
		}
		dst = append(dst, f...)
	}
	return append(dst, '\n'), fields
}
