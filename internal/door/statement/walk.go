package statement

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxDepth bounds recursion into a tree; a deeper one is not covered.
const maxDepth = 400

// plainNodes are the nodes of which a covered SELECT may be made. Anything else in the tree
// makes it uncovered. Those with a case in visitor.node are checked further.
var plainNodes = map[protoreflect.Name]bool{
	"Node": true, "List": true, "Alias": true, "ResTarget": true, "SortBy": true, "WithClause": true,
	"A_Const": true, "Integer": true, "Float": true, "Boolean": true, "String": true, "BitString": true,
	"ParamRef": true, "BoolExpr": true, "NullTest": true, "BooleanTest": true, "CaseExpr": true,
	"CaseWhen": true, "CoalesceExpr": true, "MinMaxExpr": true, "A_ArrayExpr": true, "A_Indices": true,
	"RowExpr": true, "RangeSubselect": true, "RangeFunction": true, "SQLValueFunction": true,
	"GroupingSet": true, "WindowDef": true, "A_Star": true,
	"SelectStmt": true, "RangeVar": true, "FuncCall": true, "TypeCast": true, "TypeName": true,
	"A_Expr": true, "SubLink": true, "CollateClause": true, "ColumnRef": true, "A_Indirection": true,
	"JoinExpr": true, "CommonTableExpr": true,
}

// visitor walks one statement that might be covered. It starts at the highest level and is
// lowered by what it finds.
type visitor struct {
	known Known
	upTo  level
	class map[string]bool // names that guarded relations go by
}

// scope is what names mean at one place of the tree.
type scope struct {
	depth int
	ctes  []string
	star  bool // the enclosing FROM names a guarded relation: * would show its guarded columns
}

func (v *visitor) deny()         { v.upTo = never }
func (v *visitor) lower(l level) { v.upTo = min(v.upTo, l) }
func (v *visitor) need(ok bool) {
	if !ok {
		v.deny()
	}
}

// message checks one node and goes on to its children.
func (v *visitor) message(m protoreflect.Message, s scope) {
	name := m.Descriptor().Name()
	if s.depth++; s.depth > maxDepth || !plainNodes[name] {
		v.deny()
		return
	}
	if v.upTo == never {
		return
	}
	if done := v.node(m.Interface(), &s); done {
		return
	}
	v.children(m, s)
}

func (v *visitor) children(m protoreflect.Message, s scope) {
	m.Range(func(f protoreflect.FieldDescriptor, val protoreflect.Value) bool {
		switch {
		case f.Kind() != protoreflect.MessageKind:
		case f.IsList():
			for i := range val.List().Len() {
				v.message(val.List().Get(i).Message(), s)
			}
		default:
			v.message(val.Message(), s)
		}
		return v.upTo != never
	})
}

// node checks what is special about a node; true means that its children are done with.
func (v *visitor) node(n any, s *scope) bool {
	switch n := n.(type) {
	case *pg.SelectStmt:
		v.selects(n, s)
	case *pg.CommonTableExpr:
		// Column aliases hide nothing: the query inside was checked.
	case *pg.RangeVar:
		v.relation(n, *s)
	case *pg.FuncCall:
		v.function(n)
	case *pg.TypeName:
		v.typeName(n)
		v.typmods(n, *s)
		return true
	case *pg.A_Expr:
		v.operator(n.Name)
	case *pg.SubLink:
		v.operator(n.OperName)
	case *pg.SortBy:
		v.operator(n.UseOp)
	case *pg.CollateClause:
		v.collation(n)
	case *pg.ColumnRef:
		v.column(n, *s)
		return true
	case *pg.A_Indirection:
		v.indirection(n)
	case *pg.JoinExpr:
		v.need(!n.IsNatural)
		v.need(!anyGuarded(n.UsingClause))
		v.need(n.Alias == nil || !s.star)
	case *pg.Alias:
		v.need(!anyGuarded(n.Colnames))
	case *pg.RangeFunction:
		v.need(len(n.Coldeflist) == 0)
	}
	return false
}

// selects opens the scope of one SELECT: its WITH names and whether its FROM has pg_class.
func (v *visitor) selects(n *pg.SelectStmt, s *scope) {
	v.need(n.IntoClause == nil && len(n.LockingClause) == 0)
	s.star = fromHasClass(n.FromClause)
	if n.WithClause == nil {
		return
	}
	// A name is in scope for its followers, and for itself if recursive. Taking all of them
	// at once is no wider: each body is walked, and a body that names a real relation before
	// its namesake is declared must not pass as the namesake.
	for _, c := range n.WithClause.Ctes {
		cte := c.GetCommonTableExpr()
		if cte == nil {
			v.deny()
			return
		}
		v.need(!v.known.defines(cte.Ctename))
		v.need(!relations[cte.Ctename] && !namesSchema[cte.Ctename])
		inner := *s
		inner.star = false
		if n.WithClause.Recursive {
			inner.ctes = append(slices.Clone(s.ctes), cte.Ctename)
		}
		v.message(c.ProtoReflect(), inner)
		s.ctes = append(slices.Clone(s.ctes), cte.Ctename)
	}
}

// relation allows catalogs of the list and names of the enclosing WITH.
func (v *visitor) relation(n *pg.RangeVar, s scope) {
	v.need(n.Catalogname == "")
	if n.Schemaname == "" && slices.Contains(s.ctes, n.Relname) {
		return
	}
	switch n.Schemaname {
	case "pg_catalog":
		v.need(relations[n.Relname])
	case "information_schema":
		v.need(namesSchema[n.Relname])
	case "":
		v.need(relations[n.Relname] && !v.known.defines(n.Relname))
		v.lower(clean)
	default:
		v.deny()
	}
	if guardedRelations[n.Relname] {
		v.need(n.Alias == nil || len(n.Alias.Colnames) == 0)
	}
}

// function allows functions of the list, and set_config and current_setting as they are safe.
func (v *visitor) function(n *pg.FuncCall) {
	schema, name := qualified(n.Funcname)
	switch {
	case schema == "information_schema":
		v.need(schemaFunctions[name])
	case schema != "" && schema != "pg_catalog":
		v.deny()
	case name == "set_config":
		v.need(len(n.Args) == 3 && harmless(constant(n.Args[0]), constants(n.Args[1:2])))
	default:
		v.need(catalogFunctions[name])
	}
}

func (v *visitor) typeName(n *pg.TypeName) {
	schema, name := qualified(n.Names)
	v.need(!n.PctType && !n.Setof)
	switch schema {
	case "pg_catalog":
		v.need(types[name])
	case "information_schema":
		v.need(schemaTypes[name])
	case "":
		v.need(types[name] && !v.known.defines(name))
		v.lower(clean) // pg_temp is searched for types before pg_catalog
	default:
		v.deny()
	}
}

func (v *visitor) typmods(n *pg.TypeName, s scope) {
	for _, t := range append(slices.Clone(n.Typmods), n.ArrayBounds...) {
		v.message(t.ProtoReflect(), s)
	}
}

// operator allows any operator that can only be PostgreSQL's own: pg_temp is never searched
// for operators.
func (v *visitor) operator(names []*pg.Node) {
	if len(names) == 0 {
		return
	}
	schema, _ := qualified(names)
	v.need(schema == "" || schema == "pg_catalog")
}

func (v *visitor) collation(n *pg.CollateClause) {
	schema, name := qualified(n.Collname)
	v.need((schema == "" || schema == "pg_catalog") && (name == "default" || name == "C" || name == "POSIX"))
}

// column refuses what shows row counts of pg_class: the columns, the whole row, or a star.
func (v *visitor) column(n *pg.ColumnRef, s scope) {
	last := n.Fields[len(n.Fields)-1]
	if last.GetAStar() != nil {
		if len(n.Fields) == 1 {
			v.need(!s.star)
			return
		}
		v.need(!v.class[n.Fields[len(n.Fields)-2].GetString_().GetSval()])
		return
	}
	name := last.GetString_().GetSval()
	v.need(!guardedColumns[name])
	v.need(!v.class[name])
}

func (v *visitor) indirection(n *pg.A_Indirection) {
	for _, i := range n.Indirection {
		v.need(i.GetAStar() == nil && !guardedColumns[i.GetString_().GetSval()])
	}
}

// fromHasClass reports whether a FROM list names pg_class, joins included.
func fromHasClass(from []*pg.Node) bool {
	for _, f := range from {
		if r := f.GetRangeVar(); r != nil && guardedRelations[r.Relname] {
			return true
		}
		if j := f.GetJoinExpr(); j != nil && fromHasClass([]*pg.Node{j.Larg, j.Rarg}) {
			return true
		}
	}
	return false
}

func anyGuarded(names []*pg.Node) bool {
	return slices.ContainsFunc(names, func(n *pg.Node) bool { return guardedColumns[n.GetString_().GetSval()] })
}

// qualified splits a name of one or two parts; more parts give a schema that is never allowed.
func qualified(names []*pg.Node) (schema, name string) {
	var parts []string
	for _, n := range names {
		parts = append(parts, n.GetString_().GetSval())
	}
	switch len(parts) {
	case 0:
		return "?", ""
	case 1:
		return "", parts[0]
	}
	return strings.Join(parts[:len(parts)-1], "."), parts[len(parts)-1]
}
