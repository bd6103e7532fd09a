package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// Schema is the shape of one database: everything but pg_catalog, information_schema,
// pg_toast and temporary schemas. It holds no row, no default's evaluated value, no statistic
// but row and size estimates.
type Schema struct {
	Database   string       `json:"database"`
	Version    int          `json:"version"`  // server_version_num, e.g. 150014
	Encoding   string       `json:"encoding"` // server encoding, e.g. UTF8, LATIN1
	Collation  string       `json:"collation"`
	WALLevel   string       `json:"wal_level"`
	Schemas    []string     `json:"schemas"` // sorted
	Tables     []*Table     `json:"tables"`  // sorted by schema, name
	Enums      []*Enum      `json:"enums"`
	Domains    []*Domain    `json:"domains"`
	Composites []*Composite `json:"composites"`
	Views      []Name       `json:"views"` // views and materialised views
	Extensions []Extension  `json:"extensions"`
	Sequences  []Name       `json:"sequences"`
	// Unreadable lists what the role may not read, in words: nothing is left out in silence.
	Unreadable []string `json:"unreadable,omitempty"`
}

// Name is a schema-qualified name as PostgreSQL stores it: unquoted, case kept.
type Name struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

// String is schema.name unquoted, as the files of an enclave spell it. It is not for SQL.
func (n Name) String() string { return n.Schema + "." + n.Name }

// Quoted is the name for SQL.
func (n Name) Quoted() string { return pgx.Identifier{n.Schema, n.Name}.Sanitize() }

// Table is a table, a partitioned table, one of its partitions, or a foreign table.
type Table struct {
	Name
	OID             uint32        `json:"oid"`
	Kind            TableKind     `json:"kind"`
	Parent          *Name         `json:"parent,omitempty"`        // of a partition
	Bound           string        `json:"bound,omitempty"`         // of a partition: FOR VALUES …
	PartitionKey    string        `json:"partition_key,omitempty"` // of a partitioned table: RANGE (…)
	Inherits        []Name        `json:"inherits,omitempty"`      // plain inheritance, not partitions
	Columns         []*Column     `json:"columns"`                 // in order, dropped ones left out
	PrimaryKey      *Key          `json:"primary_key,omitempty"`
	Uniques         []*Key        `json:"uniques,omitempty"` // UNIQUE constraints
	ForeignKeys     []*ForeignKey `json:"foreign_keys,omitempty"`
	Checks          []*Check      `json:"checks,omitempty"`
	Indexes         []*Index      `json:"indexes,omitempty"` // all, those of constraints too
	ReplicaIdentity string        `json:"replica_identity"`  // default, full, nothing, index
	ReplicaIndex    string        `json:"replica_index,omitempty"`
	Unlogged        bool          `json:"unlogged,omitempty"`     // not in the WAL: changes cannot be followed
	RowSecurity     bool          `json:"row_security,omitempty"` // row policies may hide rows from the role
	Rows            int64         `json:"rows"`                   // estimate; -1 never analysed; of a partitioned table the sum
	Bytes           int64         `json:"bytes"`                  // heap and TOAST, without indexes; of a partitioned table the sum
	Owner           string        `json:"owner"`
	Readable        bool          `json:"readable"` // SELECT on every column
	Comment         string        `json:"comment,omitempty"`
}

// TableKind is pg_class.relkind in words.
type TableKind string

// Table kinds.
const (
	Ordinary    TableKind = "table"
	Partitioned TableKind = "partitioned"
	Foreign     TableKind = "foreign"
)

// Column is one column of a table.
type Column struct {
	Name      string   `json:"name"`
	Number    int16    `json:"number"` // attnum
	TypeOID   uint32   `json:"type_oid"`
	Type      string   `json:"type"`                // as format_type prints it, schema-qualified where needed, e.g. numeric(10,2)
	TypeName  Name     `json:"type_name"`           // of the type itself, without modifier
	TypeKind  string   `json:"type_kind"`           // base, enum, domain, composite, range, multirange, array, pseudo
	BaseOID   uint32   `json:"base_oid"`            // domains resolved to the end; of other types TypeOID
	BaseType  string   `json:"base_type"`           // format_type of BaseOID with the domain's modifier
	BaseKind  string   `json:"base_kind"`           // kind of the base type
	ElemOID   uint32   `json:"elem_oid,omitempty"`  // of an array (base): its element's type, domains resolved
	ElemType  string   `json:"elem_type,omitempty"` // format_type of ElemOID
	ElemKind  string   `json:"elem_kind,omitempty"`
	Enum      []string `json:"enum,omitempty"`      // labels, of an enum or an array or domain of one
	NotNull   bool     `json:"not_null"`            // of the column or its domain
	Default   string   `json:"default,omitempty"`   // expression
	Identity  string   `json:"identity,omitempty"`  // always, default
	Generated string   `json:"generated,omitempty"` // stored, virtual: Default holds the expression
	Collation string   `json:"collation,omitempty"` // quoted, schema-qualified, where it is not the type's own
	Readable  bool     `json:"readable"`
	Comment   string   `json:"comment,omitempty"`
}

// Key is a primary key or unique constraint.
type Key struct {
	Name       string   `json:"name"`
	Columns    []string `json:"columns"`
	Definition string   `json:"definition"` // pg_get_constraintdef
	Deferrable bool     `json:"deferrable,omitempty"`
}

// ForeignKey is a foreign key. Those that partitions inherit are listed on the parent only.
type ForeignKey struct {
	Name       string   `json:"name"`
	Columns    []string `json:"columns"`
	Table      Name     `json:"table"`
	Of         []string `json:"of"`
	Definition string   `json:"definition"`
	Valid      bool     `json:"valid"`
	OnDelete   string   `json:"on_delete"` // no action, restrict, cascade, set null, set default
	OnUpdate   string   `json:"on_update"`
	Match      string   `json:"match"` // simple, full
}

// Check is a check constraint.
type Check struct {
	Name       string   `json:"name"`
	Columns    []string `json:"columns"`
	Definition string   `json:"definition"`
}

// Index is an index.
type Index struct {
	Name             string   `json:"name"`
	Definition       string   `json:"definition"` // pg_get_indexdef
	Method           string   `json:"method"`
	Columns          []string `json:"columns"` // key columns, "" for an expression
	Include          []string `json:"include,omitempty"`
	Unique           bool     `json:"unique"`
	Primary          bool     `json:"primary"`
	Valid            bool     `json:"valid"`
	Predicate        string   `json:"predicate,omitempty"` // of a partial index
	Expressions      bool     `json:"expressions,omitempty"`
	NullsNotDistinct bool     `json:"nulls_not_distinct,omitempty"`
	Constraint       string   `json:"constraint,omitempty"` // the constraint that made it
}

// Enum is an enumerated type.
type Enum struct {
	Name
	OID    uint32   `json:"oid"`
	Labels []string `json:"labels"` // in order
}

// Domain is a domain over another type.
type Domain struct {
	Name
	OID     uint32   `json:"oid"`
	Base    string   `json:"base"` // format_type of what it is over, which may be a domain
	NotNull bool     `json:"not_null,omitempty"`
	Default string   `json:"default,omitempty"`
	Checks  []*Check `json:"checks,omitempty"`
}

// Composite is a free-standing row type.
type Composite struct {
	Name
	OID    uint32   `json:"oid"`
	Fields []string `json:"fields"` // name and type, quoted for SQL
}

// Extension is an installed extension.
type Extension struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Schema  string `json:"schema"`
}

// Table finds a table by schema.name, unquoted, as the files of an enclave spell it. Names
// with dots are found as they are. nil when there is none, or when two tables spell alike.
func (s *Schema) Table(name string) *Table {
	var found *Table
	for _, t := range s.Tables {
		if t.Name.String() == name {
			if found != nil {
				return nil
			}
			found = t
		}
	}
	return found
}

// Roots are the tables that a reader names: no partitions.
func (s *Schema) Roots() []*Table {
	var out []*Table
	for _, t := range s.Tables {
		if t.Parent == nil {
			out = append(out, t)
		}
	}
	return out
}

// Column finds a column by its name, nil when there is none.
func (t *Table) Column(name string) *Column {
	for _, c := range t.Columns {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Identified reports whether changes of the table can be followed: by a primary key, a
// replica identity index, or the full row.
func (t *Table) Identified() bool {
	switch t.ReplicaIdentity {
	case "full":
		return true
	case "index":
		return t.ReplicaIndex != ""
	case "default":
		return t.PrimaryKey != nil
	}
	return false
}

// UniqueOver reports whether the columns are unique together by a key or a full unique index.
func (t *Table) UniqueOver(columns ...string) bool {
	same := func(have []string) bool {
		if len(have) == 0 || len(have) > len(columns) {
			return false
		}
		for _, h := range have {
			if !containsString(columns, h) {
				return false
			}
		}
		return true
	}
	for _, ix := range t.Indexes {
		if ix.Unique && ix.Valid && ix.Predicate == "" && !ix.Expressions && same(ix.Columns) {
			return true
		}
	}
	return t.PrimaryKey != nil && same(t.PrimaryKey.Columns)
}

func containsString(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// Quote quotes one identifier for SQL, whatever it holds.
func Quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// QuoteAll quotes identifiers for SQL and joins them with commas.
func QuoteAll(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = Quote(n)
	}
	return strings.Join(q, ", ")
}
