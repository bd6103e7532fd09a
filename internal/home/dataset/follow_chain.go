package dataset

import (
	"context"
	"fmt"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
)

// This file follows references of a table to itself over many rows at a time. Level by level, a
// chain of n rows would take n looks at the source, each over all rows that were found before.

// chainAfter is from which round on rows of a circle are taken in by chains: most circles are
// settled by then, and a chain may find rows that need not be decided.
const chainAfter = 2

// chain finds rows of f along its reference to itself: those that lead to one of the keys, over
// any number of rows; or, with up, those that have one of the keys and those they lead to. It
// finds at most so many, the nearest first, and each once, in a circle too; whole says that
// there are no more.
func (v *sight) chain(ctx context.Context, f *followed, ref *reference, keys [][]string, up bool, most int, found func(key string)) (whole bool, err error) {
	start, next := ref.columns, ref.target.of
	if up {
		start, next = next, start
	}
	types := make([]string, len(start))
	for i, c := range start {
		if types[i] = f.src.Column(c).BaseType; transform.ParseType(types[i]).Integer() {
			types[i] = "bigint"
		}
	}
	names := func(prefix string, n int) string {
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprintf("%s%d", prefix, i+1)
		}
		return strings.Join(out, ", ")
	}
	on := make([]string, len(start))
	for i, c := range start {
		on[i] = fmt.Sprintf("t.%s = d.n%d", postgres.Quote(c), i+1)
	}
	row := quotedList("t.", append(append([]string{}, f.pk...), next...))
	sql := fmt.Sprintf(`WITH RECURSIVE d (%[1]s, %[2]s) AS (
		SELECT %[3]s FROM (SELECT DISTINCT * FROM %[4]s) k JOIN %[5]s t ON %[6]s
		UNION SELECT %[3]s FROM d JOIN %[5]s t ON %[7]s) SELECT %[1]s FROM d LIMIT %[8]d`,
		names("p", len(f.pk)), names("n", len(next)), row, unnest(types), f.quoted(), joined(start), strings.Join(on, " AND "), most)
	v.asked++
	rr := v.conn.PgConn().ExecParams(ctx, sql, arrays(keys, len(start)), nil, nil, nil)
	n := 0
	for ; rr.NextRow(); n++ {
		values := make([]string, len(f.pk))
		for i, b := range rr.Values() {
			values[i] = string(b)
		}
		found(flow.JoinKey(values))
	}
	if _, err := rr.Close(); err != nil {
		return false, fmt.Errorf("read rows of %s that refer to each other: %w", f.name, safe(err))
	}
	return n < most, nil
}

// most is how many rows a chain may find in this round: the circle at least doubles where
// there are so many, so there are few rounds.
func (c *circleOf) most(f *followed) int { return 2*len(c.rows[f]) + chunkRows }

// chains says that a reference leads to its own table, and that rows are taken in by chains.
func (c *circleOf) chains(from *followed, ref *reference) bool {
	return c.round >= chainAfter && c.s.v != nil && c.s.p.of[ref.to] == from
}

// below takes in what leads to rows of f by one of their keys.
func (c *circleOf) below(ctx context.Context, f *followed, child *childOf, keys [][]string) error {
	return inParts(keys, func(part [][]string) error {
		var some []string
		whole, err := c.s.v.chain(ctx, f, child.ref, part, false, c.most(f), func(key string) {
			c.add(f, &changed{key: key})
			some = append(some, key)
		})
		if whole {
			for _, key := range some { // what leads to them was found with them
				c.tell(child, key)
			}
		}
		return err
	})
}

// above takes in what rows of f that are to be taken in lead to.
func (c *circleOf) above(ctx context.Context, f *followed, ref *reference, keys [][]string) error {
	return inParts(keys, func(part [][]string) error {
		_, err := c.s.v.chain(ctx, f, ref, part, true, c.most(f), func(key string) { c.add(f, &changed{key: key}) })
		return err
	})
}

// tell notes that the rows which refer to a row were looked for; it says whether they were before.
func (c *circleOf) tell(child *childOf, key string) (before bool) {
	if c.told[child] == nil {
		c.told[child] = map[string]bool{}
	}
	before = c.told[child][key]
	c.told[child][key] = true
	return before
}
