package statement

import (
	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// findings are what any statement, covered or not, names and calls.
type findings struct {
	relations []*pg.RangeVar
	ctes      map[string]bool
	pure      bool // calls nothing that may run code, store or send
	writes    bool // a WITH that inserts, updates or deletes
}

// survey walks a whole statement.
func survey(m protoreflect.Message) *findings {
	f := &findings{ctes: map[string]bool{}, pure: true}
	f.walk(m, 0)
	return f
}

func (f *findings) walk(m protoreflect.Message, depth int) {
	if depth > 10*maxDepth {
		f.pure = false
		return
	}
	switch n := m.Interface().(type) {
	case *pg.RangeVar:
		f.relations = append(f.relations, n)
	case *pg.CommonTableExpr:
		f.ctes[n.Ctename] = true
	case *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt:
		f.writes = true
	case *pg.FuncCall:
		f.call(n)
	case *pg.A_Expr:
		f.own(n.Name)
	case *pg.SubLink:
		f.own(n.OperName)
	case *pg.XmlExpr, *pg.XmlSerialize:
		f.pure = false
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Kind() != protoreflect.MessageKind:
		case fd.IsList():
			for i := range v.List().Len() {
				f.walk(v.List().Get(i).Message(), depth+1)
			}
		default:
			f.walk(v.Message(), depth+1)
		}
		return true
	})
}

func (f *findings) call(n *pg.FuncCall) {
	schema, name := qualified(n.Funcname)
	switch {
	case schema == "information_schema" && schemaFunctions[name]:
	case schema != "" && schema != "pg_catalog":
		f.pure = false
	case name == "set_config":
		f.pure = f.pure && len(n.Args) == 3 && harmless(constant(n.Args[0]), constants(n.Args[1:2]))
	case !catalogFunctions[name] && !pureFunctions[name]:
		f.pure = false
	}
}

func (f *findings) own(operator []*pg.Node) {
	if len(operator) == 0 {
		return
	}
	if schema, _ := qualified(operator); schema != "" && schema != "pg_catalog" {
		f.pure = false
	}
}

// tables are the relations as a record may name them.
func (f *findings) tables(known Known) []string {
	var out []string
	for _, r := range f.relations {
		name := known.name(r.Schemaname, r.Relname)
		if name == "?" && r.Schemaname == "" && f.ctes[r.Relname] {
			continue
		}
		out = append(out, name)
	}
	return out
}

// classNames are the names by which a statement can mean a row of pg_class.
func classNames(m protoreflect.Message) map[string]bool {
	names := map[string]bool{}
	for _, r := range survey(m).relations {
		if !guardedRelations[r.Relname] {
			continue
		}
		names[r.Relname] = true
		if r.Alias != nil {
			names[r.Alias.Aliasname] = true
		}
	}
	return names
}
