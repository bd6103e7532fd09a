package evidence

import (
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
	"github.com/trefoil-eu/trefoil/internal/proof/register"
)

// Dossier is what became of one claim: the claim, its test, the first time that it failed, when
// the monitor became aware, and who was told.
type Dossier struct {
	Claim     string           `json:"claim"`
	Text      string           `json:"text"`
	Published string           `json:"published"`
	Where     string           `json:"where"`
	Holds     bool             `json:"holds"`
	First     *Failure         `json:"first_failure,omitempty"`
	Last      *Failure         `json:"last_failure,omitempty"`
	Failures  int64            `json:"failures"`
	Aware     time.Time        `json:"aware,omitzero"` // year 1: not contradicted
	Incidents []IncidentOf     `json:"incidents"`
	Records   []pack.ReceiptOf `json:"records"` // the first 100
}

// Failure is one time that a test hit.
type Failure struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"`
	Origin string    `json:"origin,omitempty"`
	Index  *uint64   `json:"index,omitempty"`
	known  time.Time // to the monitor
}

// IncidentOf is what was done about it.
type IncidentOf struct {
	ID       string          `json:"id"`
	Rule     string          `json:"rule"`
	Opened   time.Time       `json:"opened"`
	Aware    time.Time       `json:"aware"`
	State    incident.State  `json:"state"`
	Notified []incident.Term `json:"notified"` // duties that were done
	Due      []incident.Term `json:"due"`      // that apply and were not
}

// maxNamed bounds the records that a dossier names.
const maxNamed = 100

// ContradictionRule is the rule of incidents that a dossier opens.
const ContradictionRule = "claim-contradicted"

// Dossiers tests every claim against records and findings.
func Dossiers(a *monitor.Archive, claims *register.ClaimsFile, incidents []incident.Incident) ([]*Dossier, error) {
	inside, err := Inside(a)
	if err != nil {
		return nil, err
	}
	out := make([]*Dossier, len(claims.Claims))
	for i, c := range claims.Claims {
		out[i] = &Dossier{Claim: c.ID, Text: c.Text, Published: c.Published, Where: c.Where, Incidents: []IncidentOf{}, Records: []pack.ReceiptOf{}}
	}
	err = a.Each(func(k *monitor.Kept) error {
		for i := range claims.Claims {
			if what := claims.Claims[i].Contradicts(record(k), inside); what != "" {
				out[i].add(Failure{At: k.Body.At, What: what, Origin: k.Origin, Index: &k.Index, known: k.Received})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = a.Findings(func(x monitor.Finding) error {
		for i, c := range claims.Claims {
			if slices.Contains(c.Test.Findings, x.Rule) && !x.At.Before(c.From()) {
				out[i].add(Failure{At: x.At, What: "finding " + x.Rule, Origin: x.Origin, Index: x.Index, known: x.At})
			}
		}
		return nil
	})
	for i, d := range out {
		d.Holds = d.Failures == 0
		d.told(claims.Claims[i], incidents)
	}
	return out, err
}

func (d *Dossier) add(f Failure) {
	d.Failures++
	if d.First == nil || f.At.Before(d.First.At) {
		d.First = &f
	}
	if d.Last == nil || !f.At.Before(d.Last.At) {
		d.Last = &f
	}
	if d.Aware.IsZero() || f.known.Before(d.Aware) {
		d.Aware = f.known
	}
	if r := (pack.ReceiptOf{Origin: f.Origin}); f.Index != nil && len(d.Records) < maxNamed {
		r.Index = *f.Index
		if !slices.Contains(d.Records, r) {
			d.Records = append(d.Records, r)
		}
	}
}

// told collects the incidents of the claim's rules, and what was notified.
func (d *Dossier) told(c register.Claim, all []incident.Incident) {
	for _, x := range all {
		own := x.Rule == ContradictionRule && x.Origin == c.ID
		if !own && (!slices.Contains(c.Test.Findings, x.Rule) || x.Opened.Before(c.From())) {
			continue
		}
		o := IncidentOf{ID: x.ID, Rule: x.Rule, Opened: x.Opened, Aware: x.Aware, State: x.State, Notified: []incident.Term{}, Due: []incident.Term{}}
		for _, t := range x.Clocks {
			switch {
			case !t.Met.IsZero():
				o.Notified = append(o.Notified, t)
			case t.Applies:
				o.Due = append(o.Due, t)
			}
		}
		d.Incidents = append(d.Incidents, o)
	}
}

// OpenContradictions opens an incident for each claim that does not hold; one that is open takes
// it in. It returns their ids.
func OpenContradictions(store *incident.Store, all []*Dossier) ([]string, error) {
	var ids []string
	for _, d := range all {
		if d.Holds {
			continue
		}
		f := incident.Finding{Rule: ContradictionRule, Origin: d.Claim, Reason: "a published claim is contradicted: " + d.First.What, At: d.Aware,
			Baseline: "published on " + d.Published + ": " + d.Where}
		for _, r := range d.Records {
			f.Evidence = append(f.Evidence, incident.Evidence{Log: r.Origin, Index: &r.Index})
		}
		id, _, err := store.Open(f)
		if err != nil {
			return ids, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
