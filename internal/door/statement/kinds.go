package statement

import (
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// stepOf says what one parsed statement is, names and does.
func stepOf(n *pg.Node, known Known) step {
	if n == nil || n.Node == nil {
		return step{kind: "empty", upTo: dirty}
	}
	inner := n.ProtoReflect()
	found := survey(inner)
	st := step{kind: "other", tables: found.tables(known), upTo: never, after: dirty}
	switch s := n.Node.(type) {
	case *pg.Node_SelectStmt:
		st.kind = "select"
		st.upTo = covered(n, known)
		st.after = clean
		if s.SelectStmt.IntoClause != nil || found.writes {
			st.after = named
		}
	case *pg.Node_TransactionStmt:
		st.kind, st.upTo, st.after = transaction(s.TransactionStmt)
	case *pg.Node_VariableSetStmt:
		st.kind = "set"
		st.upTo, st.after = setting(s.VariableSetStmt)
	case *pg.Node_VariableShowStmt:
		st.kind, st.upTo, st.after = "show", named, clean
	case *pg.Node_DeallocateStmt:
		st.kind, st.upTo, st.after = "deallocate", dirty, clean
	case *pg.Node_DiscardStmt:
		st.kind, st.upTo, st.after = "discard", dirty, clean
	case *pg.Node_ClosePortalStmt:
		st.kind, st.upTo, st.after = "close", dirty, clean
	case *pg.Node_PrepareStmt:
		q := stepOf(s.PrepareStmt.Query, known)
		st.kind, st.upTo, st.after, st.op, st.name = "prepare", min(q.upTo, named), q.after, opPrepare, s.PrepareStmt.Name
	case *pg.Node_DeclareCursorStmt:
		q := stepOf(s.DeclareCursorStmt.Query, known)
		st.kind, st.upTo, st.after, st.op, st.name = "declare", q.upTo, q.after, opDeclare, s.DeclareCursorStmt.Portalname
	case *pg.Node_ExecuteStmt:
		st.kind, st.after, st.op, st.name = "execute", clean, opExecute, s.ExecuteStmt.Name
		st.upTo = arguments(s.ExecuteStmt.Params, known)
	case *pg.Node_FetchStmt:
		st.kind, st.upTo, st.after, st.op, st.name = "fetch", dirty, clean, opFetch, s.FetchStmt.Portalname
	default:
		st.kind, st.after = utility(n)
	}
	if !found.pure {
		st.after = dirty
	}
	return st
}

// covered is the highest level at which a SELECT reads nothing but allow-listed catalogs.
func covered(n *pg.Node, known Known) level {
	v := &visitor{known: known, upTo: named, class: classNames(n.ProtoReflect())}
	v.message(n.ProtoReflect(), scope{})
	return v.upTo
}

func arguments(params []*pg.Node, known Known) level {
	l := named
	for _, p := range params {
		l = min(l, covered(p, known))
	}
	return l
}

// transaction: COMMIT runs deferred checks of temporary tables, whose errors show values.
func transaction(s *pg.TransactionStmt) (kind string, upTo, after level) {
	switch s.Kind {
	case pg.TransactionStmtKind_TRANS_STMT_BEGIN, pg.TransactionStmtKind_TRANS_STMT_START:
		return "begin", dirty, clean
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT:
		return "commit", clean, clean
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:
		return "rollback", dirty, clean
	case pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT, pg.TransactionStmtKind_TRANS_STMT_RELEASE,
		pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		return "savepoint", dirty, clean
	}
	return "transaction", never, dirty
}

// setting judges SET and RESET. What is not on the list may change how names or literals
// are read: nothing is covered after it.
func setting(s *pg.VariableSetStmt) (upTo, after level) {
	switch s.Kind {
	case pg.VariableSetKind_VAR_RESET, pg.VariableSetKind_VAR_RESET_ALL, pg.VariableSetKind_VAR_SET_DEFAULT:
		return dirty, clean
	case pg.VariableSetKind_VAR_SET_VALUE:
		if harmless(s.Name, constants(s.Args)) {
			return dirty, clean
		}
	case pg.VariableSetKind_VAR_SET_MULTI:
		if s.Name == "TRANSACTION" || s.Name == "SESSION CHARACTERISTICS" {
			return dirty, clean
		}
	}
	if custom := strings.Contains(s.Name, ".") && constants(s.Args) != nil; custom {
		return dirty, clean // a literal of the client's own
	}
	return never, dirty
}

// utilities are statements that are never covered, by node: kind, and the level they leave.
// A statement that is not here may run code: it leaves the session dirty.
var utilities = map[protoreflect.Name]struct {
	kind  string
	after level
}{
	"InsertStmt": {"insert", named}, "UpdateStmt": {"update", named}, "DeleteStmt": {"delete", named},
	"MergeStmt": {"merge", named}, "CopyStmt": {"copy", named}, "ExplainStmt": {"explain", clean},
	"CreateStmt": {"create", named}, "CreateTableAsStmt": {"create", named}, "ViewStmt": {"create", named},
	"IndexStmt": {"create", named}, "CreateSeqStmt": {"create", named}, "AlterSeqStmt": {"alter", named},
	"CreateDomainStmt": {"create", named}, "CreateEnumStmt": {"create", named},
	"CompositeTypeStmt": {"create", named}, "DropStmt": {"drop", named}, "AlterTableStmt": {"alter", named},
	"RenameStmt": {"alter", named}, "TruncateStmt": {"truncate", named}, "VacuumStmt": {"vacuum", named},
	"LockStmt": {"lock", clean}, "CommentStmt": {"comment", named}, "CreateStatsStmt": {"create", named},
	"ListenStmt": {"listen", clean}, "UnlistenStmt": {"unlisten", clean}, "NotifyStmt": {"notify", clean},
	"ConstraintsSetStmt": {"set", named}, "CheckPointStmt": {"checkpoint", clean},
	"DoStmt": {"do", dirty}, "CallStmt": {"call", dirty}, "CreateFunctionStmt": {"create", dirty},
	"GrantStmt": {"grant", dirty}, "GrantRoleStmt": {"grant", dirty}, "RefreshMatViewStmt": {"refresh", dirty},
}

func utility(n *pg.Node) (kind string, after level) {
	m := n.ProtoReflect()
	f := m.WhichOneof(m.Descriptor().Oneofs().Get(0))
	if f == nil {
		return "other", dirty
	}
	u, ok := utilities[m.Get(f).Message().Descriptor().Name()]
	if !ok {
		return "other", dirty
	}
	if c := n.GetCopyStmt(); c != nil {
		u.after = clean
		if c.IsFrom {
			u.after = named
		}
		if c.IsProgram || c.Filename != "" {
			u.after = dirty
		}
	}
	return u.kind, u.after
}

// constant returns a literal as text, "" if n is none.
func constant(n *pg.Node) string {
	if v := constants([]*pg.Node{n}); len(v) == 1 {
		return v[0]
	}
	return ""
}

// constants returns literals as text, nil if one is not a literal.
func constants(nodes []*pg.Node) []string {
	out := []string{}
	for _, n := range nodes {
		if c := n.GetTypeCast(); c != nil {
			n = c.Arg // SET TIME ZONE INTERVAL '1'; the type is PostgreSQL's own by the grammar
			if schema, name := qualified(c.TypeName.GetNames()); schema != "pg_catalog" || !types[name] {
				return nil
			}
		}
		c := n.GetAConst()
		switch {
		case c == nil:
			return nil
		case c.GetSval() != nil:
			out = append(out, c.GetSval().Sval)
		case c.GetIval() != nil:
			out = append(out, strconv.Itoa(int(c.GetIval().Ival)))
		case c.GetFval() != nil:
			out = append(out, c.GetFval().Fval)
		default:
			out = append(out, "")
		}
	}
	return out
}
