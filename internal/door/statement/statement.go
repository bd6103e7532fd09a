// Package statement says what a SQL text is, for the record and for the session's allowance:
// its kind, the dataset's tables it names, its fingerprint, and whether it is covered, that
// is, reads nothing but allow-listed system catalogs.
//
// The invariant it keeps: what is not known is not covered. A wrong "not covered" costs one
// wait; a wrong "covered" would let rows out under the session's permit, counted but without
// a record of their own. Nothing here can widen access: the database holds the dataset and
// nothing else. The parser is PostgreSQL's own grammar (pg_query), imported here alone.
//
// It does not normalise, rewrite or block statements.
package statement

import (
	"sort"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// MaxText is the longest text in bytes that is parsed; a longer one is "unparsed".
const MaxText = 1 << 20

// Info is what is known of one text. It is immutable and may be shared by sessions.
type Info struct {
	Kind        string   // select, copy, set, …; multi for several statements; unparsed
	Tables      []string // schema.table of tables that the dataset defines; any other relation counts as "?"; sorted
	Fingerprint string   // pg_query's, 16 hex digits, not keyed; "" if unparsed
	Count       int      // statements in the text
	Covered     bool     // in the state it was classified for; in a fresh session for Analyze

	steps []step
}

// Known is the set of tables that a dataset defines, by schema.table, and by bare name.
type Known struct {
	full map[string]bool
	bare map[string]string // "" when two schemas have it
}

// NewKnown takes names as schema.table, unquoted.
func NewKnown(tables []string) Known {
	k := Known{full: map[string]bool{}, bare: map[string]string{}}
	for _, t := range tables {
		k.full[t] = true
		name := t[strings.LastIndexByte(t, '.')+1:]
		if _, twice := k.bare[name]; twice {
			k.bare[name] = ""
			continue
		}
		k.bare[name] = t
	}
	return k
}

// name returns what a record may say of a relation.
func (k Known) name(schema, table string) string {
	if schema != "" {
		if full := schema + "." + table; k.full[full] {
			return full
		}
		return "?"
	}
	if full := k.bare[table]; full != "" {
		return full
	}
	return "?"
}

// defines reports whether a bare name belongs to a table of the dataset.
func (k Known) defines(table string) bool { _, ok := k.bare[table]; return ok }

// Classify says what sql is for a session in the given state; a nil state is a fresh one.
// It does not change the state: State.Query does, when the statement runs.
func Classify(sql string, known Known, session *State) Info {
	info := *analyze(sql, known)
	if session == nil {
		session = NewState(nil)
	}
	info.Covered = session.would(&info)
	return info
}

// analyze parses one text. It never fails: what does not parse is "unparsed".
func analyze(sql string, known Known) *Info {
	unparsed := &Info{Kind: "unparsed", Count: 1, steps: []step{{upTo: never, after: dirty}}}
	if len(sql) > MaxText || strings.IndexByte(sql, 0) >= 0 {
		return unparsed
	}
	tree, err := pg.Parse(sql)
	if err != nil {
		return unparsed
	}
	fp, err := pg.Fingerprint(sql)
	if err != nil {
		return unparsed
	}
	info := &Info{Kind: "empty", Fingerprint: fp, Count: len(tree.Stmts)}
	tables := map[string]bool{}
	plain := isASCII(sql)
	for i, raw := range tree.Stmts {
		st := stepOf(raw.Stmt, known)
		if !plain {
			// The server may convert the text from another encoding before it parses it.
			st.upTo = never
		}
		info.steps = append(info.steps, st)
		for _, t := range st.tables {
			tables[t] = true
		}
		info.Kind = st.kind
		if i > 0 {
			info.Kind = "multi"
		}
	}
	for t := range tables {
		info.Tables = append(info.Tables, t)
	}
	sort.Strings(info.Tables)
	info.Covered = NewState(nil).would(info)
	return info
}

// isASCII reports whether s has only printable ASCII and white space, which every client
// encoding reads alike.
func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 0x7f || c < 0x20 && c != '\n' && c != '\t' && c != '\r' && c != '\f' {
			return false
		}
	}
	return true
}
