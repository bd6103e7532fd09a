package dataset

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// sortTables puts tables after those they refer to, and numbers circles. Tarjan's algorithm
// gives the strongly connected components in that order.
func (p *plan) sortTables() error {
	s := &tarjan{index: map[*table]int{}, low: map[*table]int{}, on: map[*table]bool{}}
	sort.Slice(p.tables, func(i, j int) bool { return p.tables[i].name < p.tables[j].name })
	for _, t := range p.tables {
		if _, seen := s.index[t]; !seen {
			s.visit(t)
		}
	}
	p.tables = s.sorted
	return nil
}

type tarjan struct {
	index, low map[*table]int
	on         map[*table]bool
	stack      []*table
	sorted     []*table
	circles    int
}

func (s *tarjan) visit(t *table) {
	s.index[t] = len(s.index)
	s.low[t] = s.index[t]
	s.stack, s.on[t] = append(s.stack, t), true
	self := false
	for _, r := range t.refs {
		self = self || r.to == t
		if _, seen := s.index[r.to]; !seen {
			s.visit(r.to)
			s.low[t] = min(s.low[t], s.low[r.to])
		} else if s.on[r.to] {
			s.low[t] = min(s.low[t], s.index[r.to])
		}
	}
	if s.low[t] != s.index[t] {
		return
	}
	i := slices.Index(s.stack, t)
	part := s.stack[i:]
	if len(part) > 1 || self {
		s.circles++
		for _, m := range part {
			m.circle = s.circles
		}
	}
	for _, m := range part {
		s.on[m] = false
	}
	s.sorted = append(s.sorted, part...)
	s.stack = s.stack[:i]
}

// findOrder finds what rows are ordered by: the primary key as the dataset holds it.
func (p *plan) findOrder() error {
	for _, t := range p.tables {
		t.lead = -1
		pk := t.rowKey()
		if pk == nil || !t.held {
			continue
		}
		for _, name := range pk.Columns {
			i := slices.IndexFunc(t.out, func(c *outColumn) bool { return c.name == name && !c.tr.Null })
			if i < 0 {
				t.order, t.lead = nil, -1
				break
			}
			t.order = append(t.order, i)
			if c := t.out[i]; t.lead < 0 && c.tr.Domain != "" && !p.types.base(c.src).Array {
				t.lead = i
				t.whole = slices.Contains([]string{"bigint", "integer", "smallint"}, c.sqlType)
			}
		}
	}
	return nil
}

// rowKey is what tells the rows of a table apart in the dataset: the source's primary key. Where
// a part of that is not held, or held in a form that merges values, it is the key that the
// catalog names; nil where there is neither.
func (t *table) rowKey() *postgres.Key {
	pk := t.src.PrimaryKey
	if pk == nil || len(t.cat.Key) == 0 {
		return pk
	}
	whole := true
	for _, name := range pk.Columns {
		c := t.outColumn(name)
		whole = whole && c != nil && !c.tr.Null && c.keepsKeys()
	}
	part := true
	for _, name := range t.cat.Key {
		part = part && slices.Contains(pk.Columns, name)
	}
	if whole || !part {
		return pk
	}
	key := *pk
	key.Columns = t.cat.Key
	return &key
}

// schemas lists the source's schemas that the dataset has tables in, sorted.
func (p *plan) schemas() []string {
	var out []string
	for _, t := range p.tables {
		if t.held && !slices.Contains(out, t.src.Schema) {
			out = append(out, t.src.Schema)
		}
	}
	for _, s := range p.types.schemas() {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	sort.Strings(out)
	return out
}

// shadow is the schema that a build writes in the place of a source's schema.
func shadow(schema string) string { return clip(shadowPrefix + schema) }

// Schema names of a dataset that are not the source's.
const (
	shadowPrefix = "trefoil_next_"
	oldPrefix    = "trefoil_old_"
	infoSchema   = "trefoil_info"
)

// clip keeps a name within PostgreSQL's 63 bytes; a source's schema name of over 50 bytes
// keeps its start and a count of the rest, which is unique enough to be refused if not.
func clip(name string) string {
	if len(name) <= 63 {
		return name
	}
	return strings.ToValidUTF8(name[:58], "") + fmt.Sprintf("_%d", len(name))
}

// target is a table's name in the shadow schemas, for SQL.
func (t *table) target() string {
	return postgres.Name{Schema: shadow(t.src.Schema), Name: t.src.Name.Name}.Quoted()
}
