package monitor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// book is the rules made ready for judging. It is not changed after newBook, but for its
// cache of pseudonyms.
type book struct {
	rules      *Rules
	region     law.Region
	datasets   map[string]*DatasetRule
	grants     grant.Book // approvers, and how many of them there must be
	principals []Principal
	staffKey   []byte
	doubt      time.Duration
	term       time.Duration
	grace      time.Duration
	hours      *openHours
	roster     *officers.Roster

	mu     sync.Mutex
	months map[string]map[string]*Principal // period → pseudonym → principal
}

// newBook resolves the rules. dir is what relative paths are relative to.
func newBook(r *Rules, dir string) (*book, error) {
	region, err := law.NewRegion(r.Region)
	if err != nil {
		return nil, fmt.Errorf("read rules: region: %w", err)
	}
	b := &book{rules: r, region: region, datasets: map[string]*DatasetRule{}, principals: r.Principals,
		months: map[string]map[string]*Principal{},
		doubt:  duration(r.ClockDoubt), term: duration(r.PermitTerm), grace: duration(r.Grace)}
	if b.roster, err = officers.NewRoster(r.Officers); err != nil {
		return nil, fmt.Errorf("read rules: officers: %w", err)
	}
	if b.hours, err = r.Hours.parse(); err != nil {
		return nil, fmt.Errorf("read rules: office_hours: %w", err)
	}
	for i := range r.Datasets {
		b.datasets[r.Datasets[i].Name] = &r.Datasets[i]
	}
	if err := b.readApprovers(); err != nil {
		return nil, fmt.Errorf("read rules: approver: %w", err)
	}
	// Not trimmed: the key is the file's bytes, on both sides.
	if b.staffKey, err = os.ReadFile(within(dir, r.StaffKey)); err != nil {
		return nil, fmt.Errorf("read staff key: %w", err)
	}
	if len(b.staffKey) < 32 {
		return nil, errors.New("read staff key: it needs at least 32 bytes")
	}
	return b, nil
}

// within resolves path against dir.
func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// principal returns who appears under pseudonym in a record made at one of times.
func (b *book) principal(pseudonym string, times ...time.Time) *Principal {
	for _, at := range times {
		if p := b.month(at)[pseudonym]; p != nil {
			return p
		}
	}
	return nil
}

// month returns the pseudonyms of at's month. At most three months are kept.
func (b *book) month(at time.Time) map[string]*Principal {
	period := at.UTC().Format(trefoil.StaffPeriod)
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.months[period]; m != nil {
		return m
	}
	m := make(map[string]*Principal, len(b.principals))
	for i := range b.principals {
		m[trefoil.StaffPseudonym(b.staffKey, at, b.principals[i].ID)] = &b.principals[i]
	}
	if len(b.months) >= 3 {
		clear(b.months)
	}
	b.months[period] = m
	return m
}

// party is what a record must say of an entity.
func party(key string, e Entity) trefoil.Party {
	name := e.Name
	if name == "" {
		name = key
	}
	return trefoil.Party{Country: e.Country, Entity: name, Role: e.Role}
}

// instruments returns the registered instruments in the law's terms; those with id only, if
// id is not "".
func (b *book) instruments(id string) []law.Instrument {
	var out []law.Instrument
	for _, in := range b.rules.Instruments {
		if id != "" && in.ID != id {
			continue
		}
		out = append(out, law.Instrument{ID: in.ID, Article: in.Article, Entity: party(in.Entity, b.rules.Entities[in.Entity]).Entity,
			Purposes: in.Purposes, From: day(in.Date), Until: day(in.Until), TIA: in.TIA, TIADate: day(in.TIADate)})
	}
	return out
}

// instrument returns the registered instrument called id.
func (b *book) instrument(id string) (Instrument, bool) {
	i := slices.IndexFunc(b.rules.Instruments, func(in Instrument) bool { return in.ID == id })
	if i < 0 {
		return Instrument{}, false
	}
	return b.rules.Instruments[i], true
}

// day reads YYYY-MM-DD; the zero time for "".
func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// opening returns the rule by which principal may open d from zone, or nil. The class that a
// rule names is the most revealing it opens.
func (d *DatasetRule) opening(p *Principal, zone law.Zone, class law.Class) *Opening {
	for i := range d.Open {
		o := &d.Open[i]
		if whereRank(o.Where) > zoneRank(zone) || (class != law.ClassPseudonymised && o.Class != class) {
			continue
		}
		for _, g := range o.Groups {
			if g == "*" || slices.Contains(p.Groups, g) {
				return o
			}
		}
	}
	return nil
}

// zoneRank is whereRank of a zone: unknown counts as elsewhere. A rule for elsewhere (1)
// covers the region (3) too; a rule for the region covers nothing else.
func zoneRank(z law.Zone) int {
	switch z {
	case law.ZoneRegion:
		return 3
	case law.ZoneAdequate:
		return 2
	}
	return 1
}
