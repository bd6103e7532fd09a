package dataset

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
)

// typePlan knows how a source's types stand in a dataset: PostgreSQL's own as they are,
// enums and domains made again, everything else (composites, what extensions bring, types
// whose text cannot be read back) as its text.
type typePlan struct {
	enums   map[postgres.Name]*postgres.Enum
	domains map[postgres.Name]*postgres.Domain
	used    map[postgres.Name]bool
}

func newTypePlan(s *postgres.Schema) *typePlan {
	t := &typePlan{enums: map[postgres.Name]*postgres.Enum{}, domains: map[postgres.Name]*postgres.Domain{}, used: map[postgres.Name]bool{}}
	for _, e := range s.Enums {
		t.enums[e.Name] = e
	}
	for _, d := range s.Domains {
		t.domains[d.Name] = d
	}
	return t
}

// unloadable are types of PostgreSQL's own whose text names objects of the source, or that
// accept no text at all.
var unloadable = []string{"aclitem", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "gtsvector",
	"pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "refcursor", "pg_ddl_command", "cstring"}

// base is a column's type for transform: domains resolved, enums with their labels.
func (t *typePlan) base(c *postgres.Column) transform.Type {
	parsed := transform.ParseType(c.BaseType)
	if c.ElemOID != 0 && parsed.Array {
		elem := transform.ParseType(c.ElemType)
		if elem.Base != parsed.Base {
			parsed = elem
		}
		parsed.Array = true
	}
	if len(c.Enum) > 0 {
		parsed = transform.Type{Base: t.enumSQL(c), Enum: c.Enum, Array: parsed.Array}
	}
	return parsed
}

// enumSQL is the enum of a column, of its elements or of its domain, in the shadow schemas.
func (t *typePlan) enumSQL(c *postgres.Column) string {
	for name, e := range t.enums {
		if e.OID == c.TypeOID || e.OID == c.BaseOID || e.OID == c.ElemOID {
			t.used[name] = true
			return postgres.Name{Schema: shadow(name.Schema), Name: name.Name}.Quoted()
		}
	}
	return "text"
}

// clear is the type of a column that is held as it is.
func (t *typePlan) clear(c *postgres.Column) string {
	if d := t.domains[c.TypeName]; d != nil && c.TypeKind == "domain" && len(d.Checks) == 0 && t.direct(d) {
		if t.plain(c.BaseKind, c.BaseType, c) {
			t.used[c.TypeName] = true
			return postgres.Name{Schema: shadow(c.TypeName.Schema), Name: c.TypeName.Name}.Quoted()
		}
	}
	base := t.base(c)
	if len(c.Enum) > 0 {
		return base.String()
	}
	kind := c.BaseKind
	if base.Array {
		kind = c.ElemKind
	}
	if !t.plain(kind, base.Base, c) {
		return "text"
	}
	return base.String()
}

// direct says that a domain is not over another domain.
func (t *typePlan) direct(d *postgres.Domain) bool {
	for name := range t.domains {
		if d.Base == quoteIfNeeded(name) {
			return false
		}
	}
	return true
}

// plain says that a type is PostgreSQL's own and reads back what it prints. format_type
// without a search path prints a schema before all others.
func (t *typePlan) plain(kind, name string, c *postgres.Column) bool {
	if len(c.Enum) > 0 {
		return true
	}
	parsed := transform.ParseType(name)
	if kind == "composite" || kind == "pseudo" || slices.Contains(unloadable, parsed.Base) || strings.HasPrefix(parsed.Base, "reg") {
		return false
	}
	return !strings.Contains(parsed.Base, ".")
}

// schemas are those in which types are made.
func (t *typePlan) schemas() []string {
	var out []string
	for name := range t.used {
		if !slices.Contains(out, name.Schema) {
			out = append(out, name.Schema)
		}
	}
	return out
}

// create makes the enums and domains in use. A dataset never makes a type that checks
// values with the source's functions: a domain with checks stands as its base type.
func (t *typePlan) create(ctx context.Context, tx pgx.Tx) error {
	names := make([]postgres.Name, 0, len(t.used))
	for n := range t.used {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b postgres.Name) int { return strings.Compare(a.String(), b.String()) })
	for pass := range 2 { // enums first: domains may be over them
		for _, n := range names {
			sql := ""
			made := postgres.Name{Schema: shadow(n.Schema), Name: n.Name}.Quoted()
			if e := t.enums[n]; e != nil && pass == 0 {
				labels := make([]string, len(e.Labels))
				for i, l := range e.Labels {
					labels[i] = literal(l)
				}
				sql = fmt.Sprintf("CREATE TYPE %s AS ENUM (%s)", made, strings.Join(labels, ", "))
			}
			if d := t.domains[n]; d != nil && pass == 1 {
				sql = fmt.Sprintf("CREATE DOMAIN %s AS %s", made, t.domainBase(d))
			}
			if sql == "" {
				continue
			}
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("create type %s: %w", n, safe(err))
			}
		}
	}
	return nil
}

// domainBase is what a domain is over, with enums in the shadow schemas.
func (t *typePlan) domainBase(d *postgres.Domain) string {
	for name := range t.enums {
		if d.Base == quoteIfNeeded(name) {
			return postgres.Name{Schema: shadow(name.Schema), Name: name.Name}.Quoted()
		}
	}
	return d.Base
}

// quoteIfNeeded spells a name as format_type does.
func quoteIfNeeded(n postgres.Name) string {
	one := func(s string) string {
		for i, r := range s {
			if !(r == '_' || r >= 'a' && r <= 'z' || i > 0 && r >= '0' && r <= '9') {
				return postgres.Quote(s)
			}
		}
		return s
	}
	return one(n.Schema) + "." + one(n.Name)
}

// literal quotes a string for SQL under standard_conforming_strings.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
