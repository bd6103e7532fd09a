// Package intake reads a live PostgreSQL that nobody here wrote and proposes an enclave's
// files for it (trefoil init), and holds those files against the live database later
// (trefoil check).
//
// The invariant it keeps: a guess is only a guess. Everything it proposes is unreviewed, and
// what is unreviewed is withheld. It reads bounded samples to see the shape of values; no
// value is returned, stored, printed or logged, only how many looked like what. It changes
// nothing at the source: it reads in read-only transactions, and prints the statements that
// would mend what is missing.
package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// ErrNoPerson says that no table looks as if it had one row a person. Propose returns it
// with a proposal whose Notes say what to write by hand.
var ErrNoPerson = errors.New("no table looks as if it held one row a person")

// ErrEmpty says that the database has no table that the role can see.
var ErrEmpty = errors.New("the database has no tables that this role can see")

// Options bound what Propose reads.
type Options struct {
	Database   string        // name under databases in enclave.yaml; default the database's own
	SampleRows int           // rows sampled a table; default 400
	Timeout    time.Duration // for each statement on a table; default 5 s
	Person     string        // the person table, when the operator knows better
}

// Proposal is what Propose found and proposes.
type Proposal struct {
	Schema   *postgres.Schema
	Catalog  *catalog.Catalog
	Datasets *catalog.Datasets
	Purposes *catalog.Purposes
	Notes    []string // what the operator should know, most important first
}

// work is the state of one proposal.
type work struct {
	o       Options
	tx      pgx.Tx
	schema  *postgres.Schema
	tables  []*subjectTable // roots that can be read, in the schema's order
	byName  map[string]*subjectTable
	person  *subjectTable
	key     string
	country string // residence column of the person table
	notes   []string
}

// subjectTable is one table under consideration.
type subjectTable struct {
	*postgres.Table
	name    string
	sample  map[string]*shape // by column; nil when nothing could be read
	guesses map[string]*guess
	refs    []catalog.Reference
	subject catalog.Subject
	why     string // of the subject
	note    string
	hops    int // to the person table; -1 none
}

func (w *work) notef(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// Propose reads the database that conn is connected to. On ErrNoPerson and ErrEmpty the
// proposal holds what was found all the same.
func Propose(ctx context.Context, conn *pgx.Conn, o Options) (*Proposal, error) {
	if o.SampleRows <= 0 {
		o.SampleRows = 400
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	schema, err := postgres.Inspect(ctx, tx)
	if err != nil {
		return nil, err
	}
	if o.Database == "" {
		o.Database = fileName(schema.Database)
	}
	// Go's strings are UTF-8 whatever the database is in.
	timeout := fmt.Sprintf("%dms", o.Timeout.Milliseconds())
	if _, err := tx.Exec(ctx, `SELECT set_config('client_encoding','UTF8',true), set_config('search_path','',true), set_config('statement_timeout',$1,true)`, timeout); err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	w := &work{o: o, tx: tx, schema: schema, byName: map[string]*subjectTable{}}
	return w.propose(ctx)
}

func (w *work) propose(ctx context.Context) (*Proposal, error) {
	w.collect()
	for _, t := range w.tables {
		if err := w.sampleTable(ctx, t); err != nil {
			return nil, err
		}
	}
	p := &Proposal{Schema: w.schema}
	if len(w.tables) == 0 {
		p.Notes = w.notes
		return p, ErrEmpty
	}
	w.foreignKeys()
	w.declareByName(ctx)
	w.findPerson(ctx)
	if w.person != nil {
		w.declareRoles(ctx)
		w.findSubjects()
	}
	for _, t := range w.tables {
		w.classify(t)
	}
	w.keyDomains()
	p.Catalog = w.catalog()
	p.Purposes = firstPurpose()
	if w.person == nil {
		p.Notes = append([]string{noPersonText}, w.notes...)
		return p, ErrNoPerson
	}
	p.Datasets = w.firstDataset(p.Catalog, p.Purposes)
	p.Notes = w.notes
	return p, nil
}

const noPersonText = "No table looks as if it had one row a person, so nothing says whose the rows are. " +
	"If one does, run init again with --person SCHEMA.TABLE. Otherwise write person: {table, key, residence} into catalog.yaml, " +
	"and for each table subject: {column: …} (a column that holds the person's key), {via: …} (a reference that leads on), or {nobody: true}."

// collect takes the tables that a dataset could name, and says why others are left out.
func (w *work) collect() {
	for _, u := range w.schema.Unreadable {
		w.notef("Not readable for this role, so not proposed in full: %s.", u)
	}
	for _, t := range w.schema.Roots() {
		name := t.Name.String()
		switch {
		case t.Kind == postgres.Foreign:
			w.notef("%s is a foreign table: its rows are elsewhere, and it is left out.", name)
		case w.schema.Table(name) == nil:
			w.notef("Two tables spell %s: rename one, or leave both out.", name)
		case !validUTF8(t):
			w.notef("A table in schema %q has a name that is not valid UTF-8 and is left out.", t.Schema)
		case len(t.Columns) == 0:
			w.notef("%s has no columns and is left out.", name)
		default:
			st := &subjectTable{Table: t, name: name, guesses: map[string]*guess{}, hops: -1}
			w.tables = append(w.tables, st)
			w.byName[name] = st
		}
	}
}
