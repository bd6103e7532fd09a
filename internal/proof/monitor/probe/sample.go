package probe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
)

// sampled is what was found when a dataset's values were looked at last.
type sampled struct {
	at    time.Time
	found []Difference
}

// samples has the values of each dataset of a target counted against their forms, every
// Settings.Sample. Between two times what was found stays found.
func (p *Probe) samples(ctx context.Context, t *Target, s *State, defined map[string][]*trefoil.Definition, found []Difference) []Difference {
	var out []Difference
	for _, name := range s.datasets(t) {
		key := t.Name + "/" + name
		last := p.sampled[key]
		wrong := slices.ContainsFunc(found, func(d Difference) bool { return d.Database == name })
		if len(defined[name]) > 0 && !wrong && p.c.Now().Sub(last.at) >= p.c.Settings.sample() {
			got, err := offForm(ctx, t, p.c.Passwords[t.Name], name, defined[name])
			if err != nil && !isGone(err) {
				got = []Difference{{Target: t.Name, Topic: "value", Database: name, Name: "sample", Found: sqlState(err), Reason: "the values of this dataset cannot be sampled", shape: true}}
			}
			last = sampled{p.c.Now(), got}
			if len(got) > 0 && got[0].shape {
				last.at = time.Time{} // a swap may be in between: ask again at the next look
			}
			p.sampled[key] = last
		}
		out = append(out, last.found...)
	}
	return out
}

// offForm asks for counts of each column that has a form. Where several definitions are
// published, a value must be off by all of them: a swap may be in between.
func offForm(ctx context.Context, t *Target, password, database string, published []*trefoil.Definition) ([]Difference, error) {
	conn, err := connect(ctx, t, password, database)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	off, right := map[string]trefoil.DefinedColumn{}, map[string]bool{}
	for _, d := range published {
		for _, c := range d.Columns {
			name := c.Table + "." + c.Column
			if right[name] || strings.Contains(c.Type, "#") { // a path of a document has a form of its own
				right[name] = true
				continue
			}
			schema, table, _ := strings.Cut(c.Table, ".")
			var n, bad int64
			if err := conn.QueryRow(ctx, "SELECT sampled, off FROM trefoil_info.off_form($1, $2, $3, $4, $5)", schema, table, c.Column, c.Form, c.Detail).Scan(&n, &bad); err != nil {
				return nil, err
			}
			if bad > 0 {
				off[name] = c
			} else {
				right[name] = true
			}
		}
	}
	var out []Difference
	for name, c := range off {
		if !right[name] {
			out = append(out, Difference{Target: t.Name, Topic: "value", Database: database, Name: name, Enrolled: strings.TrimSpace(c.Form + " " + c.Detail),
				Found: "values that are not in this form", Reason: "sampled values of a column are above its form"})
		}
	}
	slices.SortFunc(out, func(a, b Difference) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// formsBody is the digest of the text of trefoil_info.off_form, as a look tells it.
func formsBody() string {
	sum := sha256.Sum256([]byte(install.FormsBody))
	return hex.EncodeToString(sum[:]) + " definer"
}
