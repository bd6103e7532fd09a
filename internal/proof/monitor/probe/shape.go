package probe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
)

// Schemas that Trefoil makes in a dataset beside the operator's.
const (
	nextPrefix = "trefoil_next_" // of a build that is under way
	oldPrefix  = "trefoil_old_"  // of the build before, while sessions use it
	infoSchema = "trefoil_info"  // what a dataset says of itself
	careSchema = "trefoil_care"  // what following remembers
)

// ownTables are the tables that Trefoil makes in a dataset, each with its columns: there is no
// place in them for anything else.
var ownTables = map[string]string{
	infoSchema + ".columns": "table_schema table_name column_name data_type category form detail",
	infoSchema + ".dataset": "name cluster purpose definition_hash built_at snapshot_at rows subjects smallest_cell suppressed bad_values left_out orphans digest",
	infoSchema + ".tables":  "table_schema table_name rows",
	infoSchema + ".flow":    "state reason slot system position through altered_keys altered shape swept_at applied_at batches rows orphans",
	infoSchema + ".meeting": "id asked_at snapshot at position",
	careSchema + ".place":   "table_name table_oid column_name number type needed",
	careSchema + ".drift":   "id at kind table_name column_name what done advice",
	careSchema + ".marker":  "word before after",
}

// shape is what a definition lets a database hold.
type shape struct {
	columns map[string]map[string]bool // schema.table → columns
	types   map[string]bool
}

func shapeOf(d *trefoil.Definition) *shape {
	s := &shape{columns: map[string]map[string]bool{}, types: map[string]bool{}}
	for _, c := range d.Columns {
		if s.columns[c.Table] == nil {
			s.columns[c.Table] = map[string]bool{}
		}
		s.columns[c.Table][c.Column] = true
		typ, _, _ := strings.Cut(c.Type, "#")
		s.types[strings.ReplaceAll(strings.TrimSuffix(typ, "[]"), `"`, "")] = true
	}
	return s
}

// dataset compares what a dataset's database holds with the published definition that it fits best.
func (c *comparison) dataset(name string) {
	published := c.defined[name]
	if len(published) == 0 {
		c.differ("database", "", name, "", "there", reason("database"), true)
		return
	}
	var best []Difference
	for i := len(published) - 1; i >= 0; i-- {
		k := &contents{c: c, name: name, in: c.state.Databases[name], shape: shapeOf(published[i]), all: published}
		k.compare()
		if i == len(published)-1 || len(k.out) < len(best) {
			best = k.out
		}
	}
	c.out = append(c.out, best...)
}

// contents is one dataset's database, held against one definition.
type contents struct {
	c     *comparison
	name  string
	in    *Contents
	shape *shape
	all   []*trefoil.Definition
	parts map[string]string // partition → its parent
	out   []Difference
}

func (k *contents) differ(o *Object, enrolled, why string) {
	found := o.Detail
	if found == "" {
		found = "there"
	}
	k.out = append(k.out, Difference{Target: k.c.t.Name, Topic: o.Kind, Database: k.name, Name: o.name(), Enrolled: enrolled, Found: found, Reason: why, shape: true})
}

func (k *contents) compare() {
	k.parts = map[string]string{}
	for i := range k.in.Objects {
		o := &k.in.Objects[i]
		if _, parent, ok := strings.Cut(o.Detail, " partition of "); ok && o.Kind == "relation" {
			k.parts[o.Schema+"."+o.Name] = parent
		}
	}
	there, counts := map[string]bool{}, false
	for i := range k.in.Objects {
		o := &k.in.Objects[i]
		if why := k.wrong(o); why != "" {
			k.differ(o, "", why)
		}
		if o.Kind == "function" && o.Schema == infoSchema && o.Name == install.OffForm {
			counts = true
		}
		if o.Kind == "column" {
			there[o.Schema+"."+o.Name+"\x00"+o.Part] = true
		}
	}
	if !counts {
		k.differ(&Object{Kind: "function", Schema: infoSchema, Name: install.OffForm, Detail: "missing"}, "defined", "values cannot be sampled: the dataset was built before the probe was installed, or the function was taken away")
	}
	for table, columns := range k.shape.columns {
		for column := range columns {
			if !there[table+"\x00"+column] {
				o := &Object{Kind: "column", Name: table, Part: column}
				k.out = append(k.out, Difference{Target: k.c.t.Name, Topic: "column", Database: k.name, Name: o.name(), Enrolled: "defined",
					Reason: "a column of the published definition is not there", shape: true})
			}
		}
	}
}

// wrong says why an object must not be in the dataset; "" when it may.
func (k *contents) wrong(o *Object) string {
	switch o.Kind {
	case "schema":
		if k.known(o.Schema) {
			return ""
		}
		return "a schema that no published definition has"
	case "relation":
		if plain := strings.HasPrefix(o.Detail, "r") || strings.HasPrefix(o.Detail, "p"); plain && k.table(o.Schema, o.Name) != nil {
			return ""
		}
		return "a table, view or sequence that no published definition has"
	case "column":
		if columns := k.table(o.Schema, o.Name); columns == nil || columns[o.Part] {
			return "" // of a relation that must not be there the relation is told
		}
		return "a column that no published definition has"
	case "grant":
		if o.Part == group(k.name) && o.Detail == "SELECT" || k.owned(o.Schema) && o.Part == ownerRole {
			return ""
		}
		return "a right to read that the dataset's group does not explain"
	case "schema-grant":
		if (o.Name == group(k.name) || o.Name == install.Role) && o.Detail == "USAGE" || o.Schema == "public" {
			return ""
		}
		return "a right on a schema that the dataset's group does not explain"
	case "database-grant":
		if o.Name == group(k.name) || o.Name == install.Role && o.Detail == "CONNECT" {
			return ""
		}
		return "somebody beside the dataset's group may enter it"
	case "owner":
		if o.Detail == ownerRole {
			return ""
		}
		return "a table that is not the dataset's owner's"
	case "function":
		if k.ownFunction(o) {
			return ""
		}
		return "a function that Trefoil did not make"
	case "type":
		if k.typed(o.Schema, o.Name) {
			return ""
		}
		return "a type that no published definition uses"
	case "extension":
		if o.Name == "plpgsql" || slices.ContainsFunc(k.c.enrolled.Entries, func(e Entry) bool { return e.Topic == "extension" && e.Database == "*" && e.Name == o.Name }) {
			return ""
		}
	}
	return fmt.Sprintf("a %s in a dataset: Trefoil makes none", o.Kind)
}

// known reports whether a schema is the definition's or Trefoil's own.
func (k *contents) known(schema string) bool {
	if schema == "public" || schema == infoSchema || schema == careSchema || strings.HasPrefix(schema, nextPrefix) || strings.HasPrefix(schema, oldPrefix) {
		return true
	}
	for table := range k.shape.columns {
		if s, _, _ := strings.Cut(table, "."); s == schema {
			return true
		}
	}
	return false
}

func (k *contents) owned(schema string) bool {
	return schema == infoSchema || schema == careSchema
}

// table returns the columns that a relation may have: of the definition, of Trefoil's own, and in
// the schemas of a build before or under way of any published definition. nil: it must not be.
func (k *contents) table(schema, name string) map[string]bool {
	full := schema + "." + name
	for range k.parts { // a partition is its parent's; a server that lies may tell of circles
		parent, ok := k.parts[full]
		if !ok {
			break
		}
		full = parent
	}
	if _, still := k.parts[full]; still {
		return nil
	}
	schema, name, _ = strings.Cut(full, ".")
	if columns, ok := k.shape.columns[full]; ok {
		return columns
	}
	if text, ok := ownTables[full]; ok {
		return words(text)
	}
	if strings.HasPrefix(schema, nextPrefix) {
		return k.any(func(s, n string) bool { return n == name && identifier(nextPrefix+s) == schema })
	}
	if strings.HasPrefix(schema, oldPrefix) {
		return k.any(func(_, n string) bool { return n == name })
	}
	return nil
}

// any joins the columns of all tables, of any published definition and of Trefoil's own, that fit.
func (k *contents) any(fits func(schema, name string) bool) map[string]bool {
	var out map[string]bool
	join := func(columns map[string]bool) {
		if out == nil {
			out = map[string]bool{}
		}
		for c := range columns {
			out[c] = true
		}
	}
	for _, d := range k.all {
		for table, columns := range shapeOf(d).columns {
			if s, n, _ := strings.Cut(table, "."); fits(s, n) {
				join(columns)
			}
		}
	}
	for table, text := range ownTables {
		if s, n, _ := strings.Cut(table, "."); fits(s, n) {
			join(words(text))
		}
	}
	return out
}

func words(text string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(text) {
		out[w] = true
	}
	return out
}

// freshBody is the digest of the text of trefoil_info.fresh_as_of.
const freshBody = "154c4e83b3971a3568c2a5d259d5e9b852edb032a41937cd97dde0a18160e102"

func (k *contents) ownFunction(o *Object) bool {
	in := o.Schema == infoSchema || o.Schema == nextPrefix+infoSchema || strings.HasPrefix(o.Schema, oldPrefix)
	return in && (o.Name == "fresh_as_of" && o.Part == "" && o.Detail == freshBody || o.Name == install.OffForm && o.Detail == formsBody())
}

// typed reports whether a type is of a published definition.
func (k *contents) typed(schema, name string) bool {
	for _, d := range k.all {
		for t := range shapeOf(d).types {
			s, n, qualified := strings.Cut(t, ".")
			if n == name && qualified && (s == schema || strings.HasPrefix(schema, nextPrefix) || strings.HasPrefix(schema, oldPrefix)) {
				return true
			}
		}
	}
	return false
}
