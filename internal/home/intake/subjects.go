package intake

import (
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// findSubjects says for each table whose its rows are: the shortest way to the person by
// references, where a column that cannot be NULL beats one that can, and the column of whoever
// handled a row comes last. Tables without a way, and without anything personal, are about
// nobody; those with something personal stay unknown, and so in no dataset.
func (w *work) findSubjects() {
	cost := map[*subjectTable]int{w.person: 0}
	for changed := true; changed; {
		changed = false
		for _, t := range w.tables {
			if t == w.person {
				continue
			}
			for i := range t.refs {
				to := w.byName[t.refs[i].Table]
				base, ok := cost[to]
				if !ok || to == t {
					continue
				}
				c := base + w.edgeCost(t, &t.refs[i])
				if old, have := cost[t]; !have || c < old {
					cost[t], changed = c, true
					w.lead(t, i, to)
				}
			}
		}
	}
	for _, t := range w.tables {
		if t.hops >= 0 {
			w.explain(t)
			continue
		}
		if what := w.personal(t); what != "" {
			t.note = "nobody has said whose these rows are; it holds " + what + ", so it is in no dataset until subject says it"
			w.notef("%s holds %s but no reference leads from it to %s: say whose its rows are (subject) in catalog.yaml.", t.name, what, w.person.name)
			continue
		}
		t.subject.Nobody = true
		t.why = "no reference leads to a person, and nothing in it looks personal"
	}
}

// edgeCost is lower for the reference that a person would follow.
func (w *work) edgeCost(t *subjectTable, r *catalog.Reference) int {
	cost := 100
	for _, name := range r.Columns {
		if named(name, auditWords) {
			cost += 150
		}
		if c := t.Column(name); c != nil && !c.NotNull {
			cost += 10
		}
		if w.byName[r.Table] == w.person && !named(name, roleWords) && thing(name) != stem(w.person.Name.Name) {
			cost += 5
		}
	}
	if r.Declared {
		cost += 3
	}
	return cost
}

// lead sets a table's subject to its i-th reference, and puts that reference before others
// that begin with the same column: a path follows the first.
func (w *work) lead(t *subjectTable, i int, to *subjectTable) {
	r := t.refs[i]
	t.hops = to.hops + 1
	if to == w.person && len(r.Columns) == 1 && r.Of[0] == w.key {
		t.subject = catalog.Subject{Column: r.Columns[0]}
	} else {
		t.subject = catalog.Subject{Via: r.Columns[0]}
	}
	for j := range i {
		if t.refs[j].Columns[0] == r.Columns[0] {
			copy(t.refs[j+1:i+1], t.refs[j:i])
			t.refs[j] = r
			return
		}
	}
}

// explain notes other columns that name people too.
func (w *work) explain(t *subjectTable) {
	var others []string
	for _, r := range t.refs {
		if r.Table == w.person.name && len(r.Columns) == 1 && r.Columns[0] != t.subject.Column && t != w.person {
			others = append(others, r.Columns[0])
		}
	}
	if len(others) > 0 && t.subject.Column != "" {
		sort.Strings(others)
		t.note = fmt.Sprintf("rows count as those of the person in %s; %s names people too", t.subject.Column, strings.Join(others, ", "))
	}
	if t.subject.Column != "" && named(t.subject.Column, auditWords) {
		t.note = "rows count as those of whoever handled them (" + t.subject.Column + "); say subject: {nobody: true} if they are about no person"
	}
}

// personal says in words what personal data a table seems to hold, "" for none.
func (w *work) personal(t *subjectTable) string {
	for _, c := range t.Columns {
		for _, kind := range []string{shapeEmail, shapePhone, shapeIBAN, shapeIP, shapeCard} {
			if _, ok := t.sample[c.Name].mostly(kind); ok && familyOf(c) == famText {
				return kind
			}
		}
		if k := conceptOf(c); k != nil {
			switch k.category {
			case law.Identifier, law.Contact, law.Special, law.Device:
				return k.what
			case law.Behaviour:
				if k.trait == law.Birth {
					return k.what
				}
			case law.Financial:
				if k.what != "money" {
					return k.what
				}
			}
		}
	}
	return ""
}

var domainUnsafe = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// keyDomains gives columns that refer to each other one pseudonym domain, named after the
// column that all of them lead to, so that a dataset joins as its source does.
func (w *work) keyDomains() {
	type at struct {
		table  *subjectTable
		column string
	}
	parent := map[at]at{}
	var find func(at) at
	find = func(x at) at {
		if p, ok := parent[x]; ok && p != x {
			root := find(p)
			parent[x] = root
			return root
		}
		return x
	}
	for _, t := range w.tables {
		for _, r := range t.refs {
			for k := range r.Columns {
				from, to := at{t, r.Columns[k]}, at{w.byName[r.Table], r.Of[k]}
				if w.pseudonymous(from.table, from.column) && w.pseudonymous(to.table, to.column) {
					if a, b := find(from), find(to); a != b {
						parent[a] = b
					}
				}
			}
		}
	}
	members := map[at][]at{}
	for x := range parent {
		members[find(x)] = append(members[find(x)], x)
	}
	taken := map[string]bool{}
	for _, t := range w.tables {
		for _, c := range t.Columns {
			root := at{t, c.Name}
			list := members[root]
			if len(list) == 0 {
				continue
			}
			name := domainUnsafe.ReplaceAllString(t.name+"."+c.Name, "_")
			if len(name) > 120 {
				name = name[:120]
			}
			for base, n := name, 2; taken[name]; n++ {
				name = fmt.Sprintf("%s-%d", base, n)
			}
			taken[name] = true
			for _, x := range append(list, root) {
				x.table.guesses[x.column].domain = name
			}
		}
	}
}

func (w *work) pseudonymous(t *subjectTable, column string) bool {
	g := t.guesses[column]
	return g != nil && g.trait != law.Typed && (g.category == law.Identifier || g.category == law.Contact || g.category == law.Device || g.category == law.Financial)
}
