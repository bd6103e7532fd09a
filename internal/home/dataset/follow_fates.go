package dataset

import (
	"context"
	"slices"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// This file finds what became of the rows that references lead to.

// fates finds what became of the rows that a reference leads to, other than those the caller
// knows. absent is told of rows that are at the source and not in the dataset.
func (s *settler) fates(ctx context.Context, ref *reference, wanted map[key][]string, absent func(key string)) (map[key]fate, error) {
	m := ref.target
	to := s.p.of[m.table]
	out := make(map[key]fate, len(wanted))
	if len(wanted) == 0 {
		return out, nil
	}
	ask := wanted
	if to.held && slices.Equal(m.of, to.pk) {
		for k := range wanted {
			if m.stay != nil && m.stay.has(k) {
				out[k] = inside
				delete(wanted, k)
			}
		}
		present, err := s.presentOf(ctx, to, wanted)
		if err != nil {
			return nil, err
		}
		ask = map[key][]string{}
		for k, v := range wanted {
			if present[k] {
				out[k] = inside
				s.p.stays(to, m, k)
			} else {
				ask[k] = v
			}
		}
		switch {
		case s.v != nil || len(ask) == 0:
		case absent != nil: // rows of a circle that keep each other out might come in together
			return nil, errLook
		default:
			return out, s.there(ctx, ref, ask, out)
		}
	}
	var rows []*changed
	err := inParts(values(ask), func(part [][]string) error {
		return s.fetch(ctx, to, m.of, part, func(line []byte) { rows = append(rows, &changed{key: to.keyOf(line), known: true, line: line}) })
	})
	if err != nil || len(rows) == 0 {
		return out, err
	}
	if err := s.belonging(ctx, to, rows); err != nil {
		return nil, err
	}
	own := m.own()
	for _, r := range rows {
		k, null, ok := own.read(splitLine(nil, r.line[:len(r.line)-1]))
		if null || !ok {
			continue
		}
		out[k] = outside
		if r.alive {
			out[k] = inside
		} else if absent != nil {
			absent(r.key)
		}
	}
	return out, nil
}

func values(m map[key][]string) [][]string {
	out := make([][]string, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// there decides without a snapshot of rows that are not in the dataset: they are outside
// where the source has them. A foreign key of the source promises that; without one, or where
// it matters to the row that refers to it, the source is asked whether they are there at all.
// One that is not makes the batch look.
func (s *settler) there(ctx context.Context, ref *reference, ask map[key][]string, out map[key]fate) error {
	m := ref.target
	to := s.p.of[m.table]
	if hard := ref.subject || len(ref.soft) == 0; !hard || ref.source == nil || !ref.source.Valid {
		found := map[key]bool{}
		own := m.own()
		err := inParts(values(ask), func(part [][]string) error {
			return s.peek.fetch(ctx, s.peek.watch, to, m.of, part, func(line []byte) {
				if k, null, ok := own.read(splitLine(nil, line[:len(line)-1])); !null && ok {
					found[k] = true
				}
			})
		})
		if err != nil {
			return err
		}
		if len(found) < len(ask) {
			return errLook
		}
	}
	for k := range ask {
		out[k] = outside
		if s.away == nil {
			continue
		}
		if s.away[m] == nil {
			s.away[m] = &keySet{whole: m.whole, budget: s.p.awayBudget()}
		}
		if !s.away[m].add(k) {
			return errLook
		}
	}
	return nil
}

// belonging says of rows that nobody touched whether they belong: what the dataset holds
// tells, and of a table that only leads to the person, its own way.
func (s *settler) belonging(ctx context.Context, f *followed, rows []*changed) error {
	if f.held {
		if err := s.a.present(ctx, f, rows); err != nil {
			return err
		}
		for _, r := range rows {
			r.alive = r.present
		}
		return nil
	}
	c := &circleOf{s: s, rows: map[*followed]map[string]*changed{f: {}}}
	if err := c.references(ctx, f, rows, false); err != nil {
		return err
	}
	for _, r := range rows {
		f.rows.fields = splitLine(f.rows.fields, r.line[:len(r.line)-1])
		r.alive = f.rows.belongs()
	}
	return nil
}

// presentOf says which keys of f the dataset holds.
func (s *settler) presentOf(ctx context.Context, f *followed, wanted map[key][]string) (map[key]bool, error) {
	var rows []*changed
	var order []key
	for k, v := range wanted {
		order = append(order, k)
		rows = append(rows, &changed{key: flow.JoinKey(v)})
	}
	if err := s.a.present(ctx, f, rows); err != nil {
		return nil, err
	}
	out := map[key]bool{}
	for i, r := range rows {
		out[order[i]] = r.present
	}
	return out, nil
}
