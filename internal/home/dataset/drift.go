package dataset

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// Drift is one change of the source's shape, or of the source itself, that was noticed. It
// holds names of tables and columns, and no value.
type Drift struct {
	At     time.Time `json:"at"` // when it was noticed
	Kind   DriftKind `json:"kind"`
	Table  string    `json:"table,omitempty"`
	Column string    `json:"column,omitempty"`
	What   string    `json:"what"`
	Done   string    `json:"done"`             // what the flow did about it
	Advice string    `json:"advice,omitempty"` // what the operator should do; "" when nothing
}

// DriftKind is a closed set: what changed.
type DriftKind string

// Kinds of drift.
const (
	DriftNewColumn   DriftKind = "new-column"
	DriftGone        DriftKind = "gone"
	DriftRenamed     DriftKind = "renamed"
	DriftRetyped     DriftKind = "retyped"
	DriftReplaced    DriftKind = "replaced" // another column, or table, has its name
	DriftNewTable    DriftKind = "new-table"
	DriftEnum        DriftKind = "enum"
	DriftKeys        DriftKind = "keys"
	DriftIdentity    DriftKind = "replica-identity"
	DriftPublication DriftKind = "publication"
	DriftPartitions  DriftKind = "partitions"
	DriftSource      DriftKind = "source"  // another server, an earlier state of it, a lost slot
	DriftRebuilt     DriftKind = "rebuilt" // what was done in the end
	DriftResynced    DriftKind = "resynchronised"
)

// place is which column of which table a name stood for: a name may come to mean another.
type place struct {
	Table  string
	OID    uint32 // of the table
	Column string
	Number int16
	Type   string
	Needed bool // values of it are read for the dataset
}

// placesOf lists every column of the tables that a plan reads.
func placesOf(p *plan) []place {
	var out []place
	for _, t := range p.schema.Roots() { // that there are other tables, so that new ones are noticed
		if p.byName[t.Name.String()] == nil {
			out = append(out, place{Table: t.Name.String(), OID: t.OID})
		}
	}
	for _, t := range p.tables {
		for _, c := range t.src.Columns {
			out = append(out, place{Table: t.name, OID: t.src.OID, Column: c.Name, Number: c.Number, Type: c.Type, Needed: slices.Contains(t.read, c.Name)})
		}
	}
	return out
}

const (
	doneNothing = "nothing: it is in no dataset"
	doneHeld    = "held: the dataset stays as it was until this is reviewed"
	doneStale   = "the dataset is stale, and is built again beside what stands"
)

// comparePlaces tells how the columns of tables differ from those that were there before.
// Catalogued says which columns the catalog knows.
func comparePlaces(was []place, live *postgres.Schema, catalogued func(table, column string) bool) []Drift {
	var out []Drift
	seen := map[string]bool{}
	known := map[string]bool{} // table and number
	for _, w := range was {
		known[fmt.Sprint(w.Table, "\x00", w.Number)] = true
	}
	for _, w := range was {
		if w.Column == "" {
			continue
		}
		t := live.Table(w.Table)
		if t == nil {
			if !seen[w.Table] {
				out = append(out, goneTable(w, live))
			}
			seen[w.Table] = true
			continue
		}
		if d := compareColumn(w, t, was); d != nil && (w.Needed || d.Kind != DriftGone) {
			out = append(out, *d)
		}
	}
	for _, t := range live.Roots() {
		name := t.Name.String()
		if len(was) > 0 && !catalogued(name, "") && !slices.ContainsFunc(was, func(w place) bool { return w.Table == name || w.OID == t.OID }) {
			out = append(out, Drift{Kind: DriftNewTable, Table: name, What: "table " + name + " is new", Done: doneNothing,
				Advice: "catalog it, or leave it out: trefoil check lists it until you do"})
		}
	}
	for _, name := range tablesOf(was) {
		t := live.Table(name)
		if t == nil {
			continue
		}
		for _, c := range t.Columns {
			if !known[fmt.Sprint(name, "\x00", c.Number)] && !catalogued(name, c.Name) {
				out = append(out, newColumn(name, c))
			}
		}
	}
	return out
}

func tablesOf(places []place) []string {
	var out []string
	for _, w := range places {
		if w.Column != "" && !slices.Contains(out, w.Table) {
			out = append(out, w.Table)
		}
	}
	return out
}

func goneTable(w place, live *postgres.Schema) Drift {
	d := Drift{Kind: DriftGone, Table: w.Table, What: "table " + w.Table + " is no longer at the source", Done: doneHeld,
		Advice: "take it out of datasets.yaml and the catalog, or bring it back"}
	for _, t := range live.Tables {
		if t.OID == w.OID {
			d.Kind, d.What = DriftRenamed, fmt.Sprintf("table %s is now called %s", w.Table, t.Name)
			d.Advice = "name it so in datasets.yaml and the catalog, or name it back"
		}
	}
	return d
}

// compareColumn is the drift of one column; nil when it is what it was.
func compareColumn(w place, t *postgres.Table, was []place) *Drift {
	c := t.Column(w.Column)
	d := &Drift{Table: w.Table, Column: w.Column}
	name := w.Table + "." + w.Column
	switch {
	case c == nil:
		d.Kind, d.What, d.Done = DriftGone, "column "+name+" is no longer at the source", doneHeld
		d.Advice = "take it out of datasets.yaml and the catalog, or bring it back"
		for _, other := range t.Columns {
			if t.OID == w.OID && other.Number == w.Number {
				d.Kind, d.What = DriftRenamed, fmt.Sprintf("column %s is now called %s", name, other.Name)
				d.Advice = fmt.Sprintf("name it so in the catalog and datasets.yaml, or name it back: ALTER TABLE %s RENAME %s TO %s;",
					t.Quoted(), postgres.Quote(other.Name), postgres.Quote(w.Column))
			}
		}
		if !w.Needed {
			d.Done, d.Advice = doneNothing, ""
		}
	case t.OID != w.OID || c.Number != w.Number:
		d.Kind, d.What, d.Done = DriftReplaced, fmt.Sprintf("column %s is another column than the one that was catalogued%s", name, formerName(c, t, was)), doneHeld
		d.Advice = "look at what it holds now, then accept it with trefoil dataset drift --accept NAME; or withhold it in datasets.yaml"
		if !w.Needed {
			return nil // of a column that is not read it does not matter
		}
	case c.Type != w.Type && w.Needed:
		d.Kind, d.What, d.Done = DriftRetyped, fmt.Sprintf("column %s was %s and is %s", name, w.Type, c.Type), doneStale
		d.Advice = "give the type in the catalog: trefoil check says where"
	default:
		return nil
	}
	return d
}

// formerName says what a column was called before it took this name.
func formerName(c *postgres.Column, t *postgres.Table, was []place) string {
	for _, w := range was {
		if w.OID == t.OID && w.Number == c.Number && w.Column != c.Name {
			return ": it was called " + w.Column
		}
		if w.Table == t.Name.String() && w.OID != t.OID {
			return ": its table was made anew"
		}
	}
	return ": it was made anew"
}

func newColumn(table string, c *postgres.Column) Drift {
	return Drift{Kind: DriftNewColumn, Table: table, Column: c.Name, What: fmt.Sprintf("column %s.%s (%s) is new", table, c.Name, c.Type), Done: doneNothing,
		Advice: fmt.Sprintf("catalog it, under table %s: - {name: %s, type: %q, category: \"\", reviewed: false}  # withheld until reviewed", table, yamlName(c.Name), c.Type)}
}

func yamlName(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_0123456789") == "" && s != "" && (s[0] < '0' || s[0] > '9') {
		return s
	}
	return fmt.Sprintf("%q", s)
}

// held are those drifts that a build must not pass over: a name that means something else.
func held(drifts []Drift) []Drift {
	var out []Drift
	for _, d := range drifts {
		if d.Kind == DriftReplaced {
			out = append(out, d)
		}
	}
	return out
}

// shape is what shapeOf writes, as text, of one table.
type shape struct {
	Gone        bool                   `json:"gone"`
	Kind        string                 `json:"kind"`
	Identity    string                 `json:"identity"`
	Persistence string                 `json:"persistence"`
	Name        string                 `json:"name"`
	Columns     map[string]shapeColumn `json:"columns"`
	Keys        []uint32               `json:"keys"`
	Parts       map[string]string      `json:"parts"` // name of a partition → OID and file
	Publication json.RawMessage        `json:"publication"`
}

type shapeColumn struct {
	Number  int16    `json:"number"`
	Type    uint32   `json:"type"`
	Mod     int32    `json:"mod"`
	NotNull bool     `json:"notnull"`
	Coll    uint32   `json:"coll"`
	Labels  []string `json:"labels"`
}

// compareShapes tells what of a table changed beside the identity of its columns, which
// comparePlaces tells.
func compareShapes(table, was, now string) []Drift {
	var a, b shape
	if json.Unmarshal([]byte(was), &a) != nil || json.Unmarshal([]byte(now), &b) != nil || b.Gone {
		return nil
	}
	var out []Drift
	add := func(kind DriftKind, advice, format string, args ...any) {
		out = append(out, Drift{Kind: kind, Table: table, What: fmt.Sprintf(format, args...), Done: doneStale, Advice: advice})
	}
	if a.Identity != b.Identity {
		add(DriftIdentity, "", "the replica identity of %s was %s and is %s", table, identityName(a.Identity), identityName(b.Identity))
	}
	if a.Kind != b.Kind || a.Persistence != b.Persistence {
		add(DriftKeys, "", "table %s is of another kind", table)
	}
	for name, x := range a.Columns {
		if y, ok := b.Columns[name]; ok && !slices.Equal(x.Labels, y.Labels) {
			add(DriftEnum, "", "column %s.%s has other labels: %d were, %d are", table, name, len(x.Labels), len(y.Labels))
		}
	}
	if !slices.Equal(a.Keys, b.Keys) {
		add(DriftKeys, "", "the keys or foreign keys of %s changed", table)
	}
	if !maps.Equal(a.Parts, b.Parts) {
		add(DriftPartitions, "", "partitions of %s changed: %s", table, partChanges(a.Parts, b.Parts))
	}
	if string(a.Publication) != string(b.Publication) {
		add(DriftPublication, "", "publication %s changed for %s", publication, table)
	}
	return out
}

func identityName(c string) string {
	switch c {
	case "d":
		return "default"
	case "f":
		return "full"
	case "i":
		return "an index"
	}
	return "nothing"
}

func partChanges(was, now map[string]string) string {
	var words []string
	for _, n := range slices.Sorted(maps.Keys(now)) {
		switch v, there := was[n]; {
		case !there:
			words = append(words, n+" came")
		case v != now[n]:
			words = append(words, n+" was rewritten or emptied")
		}
	}
	for _, n := range slices.Sorted(maps.Keys(was)) {
		if _, there := now[n]; !there {
			words = append(words, n+" went")
		}
	}
	return strings.Join(words, ", ")
}
