package intake

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// leastScore is what a table needs to count as the person table.
const leastScore = 6

// findPerson chooses the person table: by its name, by columns that only people have, and by
// how many tables refer to it; and its one-column key and country of residence.
func (w *work) findPerson(ctx context.Context) {
	if w.o.Person != "" {
		t := w.byName[w.o.Person]
		if t == nil {
			w.notef("%s, named with --person, is not among the tables that can be read.", w.o.Person)
			return
		}
		w.choose(ctx, t)
		return
	}
	referred := map[string]int{}
	for _, t := range w.tables {
		for _, r := range t.refs {
			if r.Table != t.name {
				referred[r.Table]++
			}
		}
	}
	type scored struct {
		t     *subjectTable
		score int
	}
	var best, second scored
	for _, t := range w.tables {
		s := scored{t, w.personScore(t, referred[t.name])}
		switch {
		case s.score > best.score:
			best, second = s, best
		case s.score > second.score:
			second = s
		}
	}
	if best.score < leastScore {
		return
	}
	if second.score >= leastScore {
		w.notef("%s looks like a person table too (less than %s). A catalog has one; the people in the other are described by its columns only, which stay withheld.", second.t.name, best.t.name)
	}
	w.choose(ctx, best.t)
}

// personScore weighs how much a table looks like one row a person.
func (w *work) personScore(t *subjectTable, referred int) int {
	personal := 0
	kinds := map[string]bool{}
	for _, c := range t.Columns {
		k := conceptOf(c)
		if k == nil {
			if _, ok := t.sample[c.Name].mostly(shapeEmail); !ok {
				continue
			}
			k = &concept{what: "an e-mail address", category: law.Contact}
		}
		switch k.what {
		case "a person's name", "an e-mail address", "a phone number", "a birth date", aSecret, "an official number", "gender, kept back as if it were special":
			if !kinds[k.what] {
				personal++
			}
			kinds[k.what] = true
		}
	}
	score := 0
	last := lastWord(t.Name.Name)
	for i, names := range [][]string{personNames, staffNames} {
		for _, n := range names {
			if last == singular(n) || stem(t.Name.Name) == singular(n) {
				score = max(score, 6-3*i)
			}
		}
	}
	if score > 0 && personal == 0 {
		score -= 3 // "accounts" can be a ledger's
	}
	if personal == 0 && score < 3 {
		return 0
	}
	score += 2 * min(personal, 4)
	score += min(referred, 6)
	// A table whose own key refers to another person-like table is its profile.
	if t.PrimaryKey != nil && len(t.PrimaryKey.Columns) == 1 {
		for _, r := range t.refs {
			if len(r.Columns) == 1 && r.Columns[0] == t.PrimaryKey.Columns[0] && r.Table != t.name {
				score -= 6
			}
		}
	}
	if _, ok := w.oneKey(t); !ok {
		score -= 4
	}
	return score
}

// oneKey finds the one-column key of a table: the primary key, or a unique column that is
// never NULL; one that others refer to first.
func (w *work) oneKey(t *subjectTable) (string, bool) {
	if t.PrimaryKey != nil && len(t.PrimaryKey.Columns) == 1 {
		return t.PrimaryKey.Columns[0], true
	}
	best, most := "", -1
	for _, c := range t.Columns {
		f := familyOf(c)
		if !c.NotNull || !t.UniqueOver(c.Name) || isArray(c) || (f != famInt && f != famUUID && f != famText && f != famNumber) {
			continue
		}
		n := 0
		for _, o := range w.tables {
			for _, r := range o.refs {
				if r.Table == t.name && len(r.Of) == 1 && r.Of[0] == c.Name {
					n++
				}
			}
		}
		if f == famText {
			n-- // an e-mail address is unique, and a poor key
		}
		if n > most {
			best, most = c.Name, n
		}
	}
	return best, best != ""
}

func (w *work) choose(ctx context.Context, t *subjectTable) {
	key, ok := w.oneKey(t)
	if !ok {
		if key, ok = w.undeclaredKey(ctx, t); ok {
			w.notef("%s has no primary key; its column %s holds different values in every row and is taken as the person's key. "+
				"Until it is declared, changes of the table cannot be followed: ALTER TABLE %s ADD PRIMARY KEY (%s);", t.name, key, t.Quoted(), postgres.Quote(key))
		}
	}
	if !ok {
		w.notef("%s looks like the person table but has no one-column key: give it one, or name another with --person.", t.name)
		return
	}
	w.person, w.key = t, key
	t.subject.Self = true
	t.why = "one row a person"
	t.hops = 0
	w.findCountry(t)
}

// undeclaredKey looks for a column that is a key in fact.
func (w *work) undeclaredKey(ctx context.Context, t *subjectTable) (string, bool) {
	for _, c := range t.Columns {
		f := familyOf(c)
		ws := words(c.Name)
		if len(ws) == 0 || (f != famInt && f != famUUID && f != famText && f != famNumber) || isArray(c) {
			continue
		}
		last, first := ws[len(ws)-1], ws[0]
		if last != "id" && first != "id" && last != "nr" && last != "no" && last != "num" && last != "key" && last != "code" && last != "nummer" {
			continue
		}
		var unique bool
		err := w.guarded(ctx, func(tx pgx.Tx) error {
			q := postgres.Quote(c.Name)
			return tx.QueryRow(ctx, fmt.Sprintf("SELECT count(*) > 0 AND count(*) = count(%s) AND count(*) = count(DISTINCT %s) FROM %s", q, q, t.Quoted())).Scan(&unique)
		})
		if err == nil && unique {
			return c.Name, true
		}
	}
	return "", false
}

// findCountry finds the column that says where a person lives: by name, and by values that
// are ISO codes.
func (w *work) findCountry(t *subjectTable) {
	best, weight := "", 0
	var other string
	for _, c := range t.Columns {
		f := familyOf(c)
		if isArray(c) || f != famText && f != famEnum && f != famOther {
			continue
		}
		score := 0
		k := conceptOf(c)
		says := k != nil && k.trait == law.Residence
		_, codes := t.sample[c.Name].mostly(shapeCountry)
		if f == famEnum {
			codes = countryLabels(c.Enum)
		}
		switch {
		case says && codes:
			score = 4
		case codes:
			score = 2
		case says && t.sample[c.Name] != nil && t.sample[c.Name].values == 0 && c.BaseType == "character(2)":
			score = 1
		case says:
			other = c.Name
		}
		if score > 0 && named(c.Name, []string{"previous", "before", "old", "former", "birth", "billing", "shipping", "ancien"}) {
			score = 0
		}
		if score > weight {
			best, weight = c.Name, score
		}
	}
	w.country = best
	if best == "" {
		text := fmt.Sprintf("%s has no column with an ISO 3166-1 alpha-2 country of residence, so datasets cannot choose by it, and hold everybody", t.name)
		if other != "" {
			text += fmt.Sprintf(" (%s names countries in another way)", other)
		}
		w.notef("%s. Where the operator must protect by residence, add such a column and name it as person.residence.", text)
	}
}

func countryLabels(labels []string) bool {
	if len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if !law.KnownCountry(l) {
			return false
		}
	}
	return true
}
