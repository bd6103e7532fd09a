package dataset

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// followed is a table of a plan with what following it needs.
type followed struct {
	*table
	pk       []string
	place    []int    // of the primary key in what is read
	types    []string // of the primary key at the source
	heldPK   []string // types of the primary key in the dataset
	stage    string   // temporary table that rows go through
	rows     *rowReader
	caught   *capture
	children []*childOf
	loose    bool     // its key is the catalog's word, and not the source's primary key
	to       *written // how it is written; nil when it is not held
	sweep    string   // the column of residence's change, where time alone ends membership
}

// childOf is a reference seen from the table it leads to.
type childOf struct {
	from    *followed
	ref     *reference
	guarded bool // the dataset has its foreign key
}

// capture keeps the line that a rowReader just made, beside others made before and after.
type capture struct {
	hi, lo uint64
	line   []byte
	got    bool
	room   []byte
}

const captureRoom = 64 << 10

func (c *capture) add(hi, lo uint64, line []byte) error {
	if len(line) > cap(c.room)-len(c.room) {
		c.room = make([]byte, 0, max(captureRoom, len(line)))
	}
	n := len(c.room)
	c.room = append(c.room, line...)
	c.hi, c.lo, c.line, c.got = hi, lo, c.room[n:len(c.room):len(c.room)], true
	return nil
}

// followPlan is a plan prepared for following: one of each, for one goroutine.
type followPlan struct {
	*plan
	all    []*followed // referenced ones first
	of     map[*table]*followed
	person *followed
	basis  string // of keys, list of subjects and law data, which no definition names
}

// follow prepares a plan, or says why its dataset cannot follow its source.
func (b *Builder) follow(p *plan) (*followPlan, error) {
	out := &followPlan{plan: p, of: map[*table]*followed{}}
	var errs []error
	for i, t := range p.tables {
		f := &followed{table: t, stage: fmt.Sprintf("trefoil_stage_%d", i), caught: &capture{}}
		out.all, out.of[t] = append(out.all, f), f
		if t.person {
			out.person = f
		}
		if err := f.checkKey(); err != nil {
			errs = append(errs, fmt.Errorf("table %s cannot be followed: %w", t.name, err))
			continue
		}
		for _, name := range f.pk {
			f.types = append(f.types, t.src.Column(name).BaseType)
		}
		f.place = t.askAll(f.pk)
		t.settled = true // what is remembered here is looked up, not collected
	}
	for _, f := range out.all {
		errs = append(errs, out.link(f))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, f := range out.all {
		key, err := b.keys.Order(p.purpose.Name, f.name, p.purpose.Epoch)
		if err != nil {
			return nil, err
		}
		f.rows = f.newReader(f.caught, key)
	}
	return out, b.found(out)
}

// found digests, under the digest key, what rows depend on and no definition names: the
// pseudonym key and its epoch, the list of subjects, the law's data.
func (b *Builder) found(p *followPlan) error {
	check, err := b.keys.Order(p.purpose.Name, "\x00flow", p.purpose.Epoch)
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, b.digest)
	fmt.Fprintf(mac, "trefoil/flow/v1\x00%x\x00%s\x00", check, law.Current().Hash())
	if p.person != nil && p.person.choose != nil {
		for _, key := range slices.Sorted(maps.Keys(p.person.choose.list)) {
			fmt.Fprintf(mac, "%s\x00", key)
		}
		for _, key := range slices.Sorted(maps.Keys(p.person.choose.restricted)) {
			fmt.Fprintf(mac, "-%s\x00", key)
		}
	}
	p.basis = hex.EncodeToString(mac.Sum(nil)[:16])
	return nil
}

// checkKey finds the table's primary key and whether the dataset can find rows by it.
func (f *followed) checkKey() error {
	switch {
	case f.src.PrimaryKey == nil:
		return errors.New("it has no primary key")
	case f.src.ReplicaIdentity != "default" && f.src.ReplicaIdentity != "full":
		return errors.New("its replica identity is " + f.src.ReplicaIdentity + ", neither its primary key nor full")
	case f.src.Unlogged:
		return errors.New("it is unlogged")
	case f.inherited:
		return errors.New("other tables inherit from it")
	case f.circle > 0 && !f.held:
		return errors.New("it is in a circle of references, and not in the dataset")
	}
	f.pk = f.rowKey().Columns
	f.loose = !slices.Equal(f.pk, f.src.PrimaryKey.Columns)
	if !f.held {
		return nil
	}
	if len(f.order) != len(f.pk) {
		return errors.New("its primary key is not in the dataset")
	}
	for _, i := range f.order {
		if !f.out[i].keepsKeys() {
			return errors.New("its primary key is held in a form that merges values; where a part of it alone tells rows apart, give the table a key in the catalog")
		}
	}
	return nil
}

// link gives the tables that f refers to their children.
func (p *followPlan) link(f *followed) error {
	for _, r := range f.refs {
		to := p.of[r.to]
		if to.src.PrimaryKey != nil && !slices.Equal(r.target.of, to.rowKey().Columns) && r.source == nil {
			return fmt.Errorf("table %s cannot be followed: its %s leads to no primary key and is no foreign key", f.name, r.name)
		}
		to.children = append(to.children, &childOf{from: f, ref: r})
	}
	c := f.choose
	if c == nil || !c.residence || c.change < 0 {
		return nil
	}
	f.sweep = f.read[c.change]
	switch transform.ParseType(f.src.Column(f.sweep).BaseType).Base {
	case "date", "timestamp without time zone", "timestamp with time zone":
		return nil
	}
	return fmt.Errorf("table %s cannot be followed: its column %s of changed residence is neither date nor timestamp", f.name, f.sweep)
}

// wanted is what the change stream is asked for.
func (p *followPlan) wanted() map[string]flow.Table {
	out := map[string]flow.Table{}
	for _, f := range p.all {
		t := flow.Table{Key: f.pk, Columns: f.read}
		for _, name := range f.read {
			t.Types = append(t.Types, f.src.Column(name).TypeOID)
		}
		out[f.name] = t
	}
	return out
}

// resetMembers empties the sets that references to the tables of a group are looked up in;
// without a group, all of them.
func (p *followPlan) resetMembers(group ...*followed) {
	budget := &atomic.Int64{}
	budget.Store(1 << 40) // what is looked up is bounded by the batch
	for _, f := range p.all {
		for _, r := range f.refs {
			if len(group) > 0 && (group[0].circle == 0 || !slices.Contains(group, p.of[r.to])) {
				continue
			}
			r.target.in = &keySet{whole: r.target.whole, budget: budget}
			r.target.out = &keySet{whole: r.target.whole, budget: budget}
		}
	}
}

// stays remembers that the dataset holds a key. Nobody but the flow writes to it, so that stays
// true until a row of the table leaves, or a batch is taken back.
func (p *followPlan) stays(f *followed, m *members, k key) {
	if f.circle > 0 { // rows of a circle are decided together
		return
	}
	if m.stay == nil {
		m.stay = &keySet{whole: m.whole, budget: p.awayBudget()}
	}
	m.stay.add(k) // where there is no room the dataset is asked again
}

// forget forgets which keys of a table the dataset holds.
func (f *followed) forget() {
	for _, k := range f.keys {
		k.members.stay = nil
	}
}

// awayBudget bounds what is remembered of a large transaction's references.
func (p *followPlan) awayBudget() *atomic.Int64 {
	budget := &atomic.Int64{}
	budget.Store(32 << 20)
	return budget
}

// fieldsOf makes a row of which only the key is known.
func (f *followed) fieldsOf(key string) [][]byte {
	fields := make([][]byte, len(f.read))
	for i := range fields {
		fields[i] = []byte(`\N`)
	}
	for i, v := range flow.SplitKey(key) {
		if i < len(f.place) {
			fields[f.place[i]] = appendEscaped(nil, []byte(v))
		}
	}
	return fields
}

// errKeyForm says that a key has no place in the dataset.
var errKeyForm = errors.New("a key does not fit its form")

// heldKey is a key as the dataset holds it: one text a column.
func (f *followed) heldKey(fields [][]byte) ([]string, error) {
	r := f.rows
	r.fields = fields
	clear(r.cut)
	out := make([]string, len(f.order))
	for n, i := range f.order {
		r.line = r.line[:0]
		r.column(i, f.out[i])
		if isNull(r.line) {
			return nil, fmt.Errorf("table %s: %w", f.name, errKeyForm)
		}
		v, _ := unescape(nil, r.line)
		out[n] = string(v)
	}
	return out, nil
}

// name of the table in the dataset once it is swapped in.
func (f *followed) quoted() string { return f.src.Name.Quoted() }

func quotedList(prefix string, names []string) string {
	s := ""
	for i, n := range names {
		if i > 0 {
			s += ", "
		}
		s += prefix + postgres.Quote(n)
	}
	return s
}
