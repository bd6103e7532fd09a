package intake

import (
	"fmt"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// guess is a proposed classification with its reason.
type guess struct {
	category law.Category
	trait    law.Trait
	domain   string
	why      string
	quiet    bool // nothing about it can be personal by itself: a first dataset may hold it
}

// classify guesses every column of a table. Names say most; sampled shapes correct them;
// keys and types decide the rest; what nothing speaks for counts as content.
func (w *work) classify(t *subjectTable) {
	for _, c := range t.Columns {
		g := w.guessColumn(t, c)
		t.guesses[c.Name] = &g
	}
}

func (w *work) guessColumn(t *subjectTable, c *postgres.Column) guess {
	s := t.sample[c.Name]
	if t == w.person && c.Name == w.country {
		return guess{category: law.Location, trait: law.Residence, why: "the person's country of residence" + w.seen(s, shapeCountry)}
	}
	if g, ok := w.guessKey(t, c); ok {
		return g
	}
	k := conceptOf(c)
	if g, ok := shapeGuess(c, s); ok && (k == nil || k.what != aSecret) {
		return g
	}
	if k != nil {
		if !t.subject.Nobody || k.category != law.Content && k.category != law.Financial && k.category != law.Location {
			g := guess{category: k.category, trait: k.trait, why: "the name says " + k.what}
			if g.trait == law.Residence {
				g.trait = law.NoTrait // the person's own residence is one column only
			}
			return g
		}
		return guess{category: law.Behaviour, trait: law.Neutral, quiet: true, why: "the name says " + k.what + ", of a table that is about no person"}
	}
	if t == w.person && named(c.Name, []string{"name", "nom", "naam", "namn"}) && familyOf(c) == famText {
		return guess{category: law.Identifier, why: "the name of a person"}
	}
	return w.guessType(t, c, s)
}

// guessKey recognises keys by constraints and by accepted references.
func (w *work) guessKey(t *subjectTable, c *postgres.Column) (guess, bool) {
	for _, r := range t.refs {
		for _, name := range r.Columns {
			if name != c.Name {
				continue
			}
			to := w.byName[r.Table]
			switch {
			case to != nil && to.subject.Nobody && !t.subject.Nobody:
				return guess{category: law.Behaviour, quiet: true, why: "refers to " + r.Table + ", which is about no person"}, true
			case to != nil && to.subject.Nobody:
				return guess{category: law.Behaviour, trait: law.Neutral, quiet: true, why: "refers to " + r.Table + ", which is about no person"}, true
			}
			return guess{category: law.Identifier, trait: law.Key, quiet: true, why: "refers to " + r.Table}, true
		}
	}
	primary := t.PrimaryKey != nil && containsString(t.PrimaryKey.Columns, c.Name)
	f := familyOf(c)
	keyType := f == famInt || f == famUUID || f == famText || f == famNumber
	if t == w.person && c.Name == w.key {
		return guess{category: law.Identifier, trait: law.Key, quiet: true, why: "the person's key"}, true
	}
	if primary && keyType && !t.subject.Nobody {
		return guess{category: law.Identifier, trait: law.Key, quiet: true, why: "part of the primary key"}, true
	}
	if primary && keyType {
		return guess{category: law.Behaviour, trait: law.Neutral, quiet: true, why: "key of a table that is about no person"}, true
	}
	ws := words(c.Name)
	if n := len(ws); n > 0 && (f == famInt || f == famUUID) && !t.subject.Nobody && (ws[n-1] == "id" || ws[0] == "id" || ws[n-1] == "uuid" || ws[n-1] == "nr" || ws[n-1] == "no") {
		return guess{category: law.Identifier, trait: law.Key, quiet: true, why: "the name and type of a key"}, true
	}
	return guess{}, false
}

// shapeGuess trusts values over names: nine of ten decide, one of twenty warns.
func shapeGuess(c *postgres.Column, s *shape) (guess, bool) {
	for _, k := range []struct {
		kind     string
		category law.Category
		trait    law.Trait
	}{
		{shapeEmail, law.Contact, law.NoTrait}, {shapeIBAN, law.Financial, law.NoTrait}, {shapeCard, law.Financial, law.NoTrait},
		{shapeIP, law.Device, law.NoTrait}, {shapeMAC, law.Device, law.NoTrait}, {shapePhone, law.Contact, law.NoTrait},
		{shapeToken, law.Device, law.NoTrait}, {shapeCountry, law.Location, law.NoTrait},
	} {
		if familyOf(c) != famText && k.kind != shapeCard {
			continue
		}
		if percent, ok := s.mostly(k.kind); ok {
			return guess{category: k.category, trait: k.trait, why: fmt.Sprintf("%d%% of sampled values look like %s", percent, k.kind)}, true
		}
		if s.some(k.kind) && (k.kind == shapeEmail || k.kind == shapeIBAN || k.kind == shapePhone) {
			return guess{category: law.Content, trait: law.Typed, why: "some sampled values hold " + k.kind}, true
		}
	}
	return guess{}, false
}

// guessType falls back to the type and how many different values there are.
func (w *work) guessType(t *subjectTable, c *postgres.Column, s *shape) guess {
	neutral := func(why string) guess {
		if t.subject.Nobody {
			return guess{category: law.Behaviour, trait: law.Neutral, quiet: true, why: why + " of a table that is about no person"}
		}
		return guess{category: law.Behaviour, quiet: true, why: why}
	}
	switch f := familyOf(c); f {
	case famBool, famEnum:
		return neutral("a " + string(f))
	case famInt, famNumber:
		return neutral("a number without a telling name")
	case famDate, famStamp:
		if percent, ok := s.mostly(shapeBirth); ok && t == w.person && s.distinct*2 > s.values && !named(c.Name, []string{"created", "updated", "joined", "since", "hired", "hiredate"}) {
			return guess{category: law.Behaviour, trait: law.Birth, why: fmt.Sprintf("%d%% of sampled values are %s", percent, shapeBirth)}
		}
		return guess{category: law.Behaviour, trait: law.Time, quiet: true, why: "a " + string(f)}
	case famTime:
		return guess{category: law.Behaviour, trait: law.Time, why: "a time of day or a span"}
	case famUUID:
		return guess{category: law.Identifier, trait: law.Key, why: "a uuid"}
	case famNet, famMac:
		return guess{category: law.Device, why: "a " + string(f)}
	case famJSON:
		return guess{category: law.Content, why: "a document: name its paths in datasets.yaml to hold parts of it"}
	case famBytes:
		return guess{category: law.Content, why: "bytes"}
	case famText:
		if t.subject.Nobody && !isArray(c) {
			return neutral("text")
		}
		if s.few() {
			return neutral(fmt.Sprintf("%d different short values in %d", s.distinct, s.values))
		}
		return guess{category: law.Content, trait: law.Typed, why: "text that nothing says more about"}
	}
	return guess{category: law.Content, why: "type " + strings.TrimSpace(c.Type) + ", of which nothing is known"}
}

func (w *work) seen(s *shape, kind string) string {
	if percent, ok := s.mostly(kind); ok {
		return fmt.Sprintf(": %d%% of sampled values are %s", percent, kind)
	}
	return ""
}

func containsString(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
