package intake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Severity says what a finding means for the answer.
type Severity string

// Severities. An Error or a Review makes a check not hold; the others are to be known.
const (
	Error   Severity = "error"   // does not hold
	Review  Severity = "review"  // a dataset wants a column that nobody has reviewed
	Drift   Severity = "drift"   // the database has what the catalog does not know: withheld
	Lacks   Severity = "lacks"   // the source or a cluster lacks something; SQL mends it
	Warning Severity = "warning" // holds, and is worth a look
)

// Finding is one result of a check. It holds names of the schema and counts, no values.
type Finding struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`
	Column   int      `json:"column,omitempty"`
	Text     string   `json:"text"`
	SQL      string   `json:"sql,omitempty"` // the statement that mends it, exactly
}

// String is one line, as file:line:column: text.
func (f Finding) String() string {
	if f.File == "" {
		return f.Text
	}
	return strict.Error{File: f.File, Line: f.Line, Column: f.Column, Message: f.Text}.Error()
}

// Source is one catalog with the datasets that are built from it.
type Source struct {
	Catalog   *catalog.Catalog
	Positions *strict.Positions // of the catalog; may be nil
	Datasets  []*catalog.Dataset
	Timeout   time.Duration // for each measuring statement; default 5 s
}

// sourceCheck is the state of one check of a source.
type sourceCheck struct {
	Source
	schema *postgres.Schema
	tx     pgx.Tx
	role   string
	found  []Finding
}

func (k *sourceCheck) add(s Severity, path, sql, format string, args ...any) {
	f := Finding{Severity: s, Text: fmt.Sprintf(format, args...), SQL: sql}
	if path != "" && k.Positions != nil {
		f.File = k.Positions.File()
		f.Line, f.Column = k.Positions.At(path)
	}
	k.found = append(k.found, f)
}

// CheckSource holds a catalog and its datasets against the live database that conn is
// connected to as the reader. It changes nothing. Every finding comes back; the error says
// that the database could not be read at all.
func CheckSource(ctx context.Context, conn *pgx.Conn, s Source) ([]Finding, error) {
	if s.Timeout <= 0 {
		s.Timeout = 5 * time.Second
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	k := &sourceCheck{Source: s, tx: tx}
	if k.schema, err = postgres.Inspect(ctx, tx); err != nil {
		return nil, err
	}
	timeout := fmt.Sprintf("%dms", s.Timeout.Milliseconds())
	if err := tx.QueryRow(ctx, `SELECT current_user::text FROM (SELECT set_config('client_encoding','UTF8',true), set_config('search_path','',true), set_config('statement_timeout',$1,true)) x`, timeout).Scan(&k.role); err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	k.tables()
	k.uncatalogued()
	k.person()
	k.rights()
	for _, f := range []func(context.Context) error{k.server, k.following, k.pseudonyms, k.cells} {
		if err := f(ctx); err != nil {
			return nil, fmt.Errorf("check source: %w", err)
		}
	}
	return k.found, nil
}

// tables compares each catalogued table with the database.
func (k *sourceCheck) tables() {
	for i := range k.Catalog.Tables {
		ct, path := &k.Catalog.Tables[i], fmt.Sprintf("tables[%d]", i)
		t := k.schema.Table(ct.Table)
		if t == nil {
			k.add(Error, path+".table", "", "table %s is not in the database, or this role may not see it", ct.Table)
			continue
		}
		for j, c := range ct.Columns {
			live := t.Column(c.Name)
			switch at := fmt.Sprintf("%s.columns[%d]", path, j); {
			case live == nil:
				k.add(Error, at+".name", "", "column %s.%s is not in the database any more: take the line out", ct.Table, c.Name)
			case live.Type != c.Type:
				k.add(Error, at+".type", "", "column %s.%s is %s in the catalog and %s in the database: review it again", ct.Table, c.Name, c.Type, live.Type)
			}
		}
		k.references(ct, t, path)
	}
}

// references compares foreign keys both ways.
func (k *sourceCheck) references(ct *catalog.Table, t *postgres.Table, path string) {
	same := func(r *catalog.Reference, fk *postgres.ForeignKey) bool {
		return r.Table == fk.Table.String() && slices.Equal(r.Columns, fk.Columns) && slices.Equal(r.Of, fk.Of)
	}
	for j := range ct.References {
		r := &ct.References[j]
		is := slices.ContainsFunc(t.ForeignKeys, func(fk *postgres.ForeignKey) bool { return same(r, fk) })
		at := fmt.Sprintf("%s.references[%d]", path, j)
		if !is && !r.Declared {
			k.add(Error, at, "", "%s (%s) is no foreign key to %s in the database: say declared: true, or take it out", ct.Table, strings.Join(r.Columns, ", "), r.Table)
		}
	}
	for _, fk := range t.ForeignKeys {
		if !slices.ContainsFunc(ct.References, func(r catalog.Reference) bool { return same(&r, fk) }) {
			k.add(Drift, path+".table", "", "%s has a foreign key %s to %s that the catalog does not list", ct.Table, fk.Name, fk.Table)
		}
	}
}

// uncatalogued lists what is new in the database. None of it is in any dataset.
func (k *sourceCheck) uncatalogued() {
	for _, t := range k.schema.Roots() {
		name := t.Name.String()
		ct := k.Catalog.TableOf(name)
		if ct == nil {
			if t.Kind != postgres.Foreign && len(t.Columns) > 0 {
				k.add(Drift, "", "", "table %s is not in the catalog: it is in no dataset", name)
			}
			continue
		}
		for _, c := range t.Columns {
			if ct.Column(c.Name) == nil {
				k.add(Drift, "", "", "column %s.%s (%s) is not in the catalog: it is in no dataset", name, c.Name, c.Type)
			}
		}
	}
}

// person checks that the person's key is one.
func (k *sourceCheck) person() {
	p := k.Catalog.Person
	t := k.schema.Table(p.Table)
	if t == nil || t.Column(p.Key) == nil {
		return // said already
	}
	if !t.UniqueOver(p.Key) {
		k.add(Lacks, "person.key", fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (%s);", t.Quoted(), postgres.Quote(p.Key)),
			"nothing in the database keeps %s.%s different for each person", p.Table, p.Key)
	}
}

// held lists the tables that datasets name, in the catalog's order, with their columns that
// have a form other than withheld.
func (k *sourceCheck) held() map[string][]catalog.DatasetColumn {
	out := map[string][]catalog.DatasetColumn{}
	for _, ds := range k.Datasets {
		for _, dt := range ds.Tables {
			for _, dc := range dt.Columns {
				if dc.Form != law.Withheld || len(dc.Paths) > 0 {
					out[dt.Table] = append(out[dt.Table], dc)
				}
			}
			if out[dt.Table] == nil {
				out[dt.Table] = []catalog.DatasetColumn{}
			}
		}
	}
	return out
}
