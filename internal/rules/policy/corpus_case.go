package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// exporter is the legal entity of all cases: the platform's in Ireland.
var exporter = law.Entity{Name: "Example Platform Ltd", Country: "IE"}

// run decides a case and says what came out otherwise, or "".
func (c *Case) run(e *Engine) string {
	d := c.decide(e)
	wantPolicy := c.Policy
	if wantPolicy == "" {
		wantPolicy = c.Want
	}
	switch {
	case verdict(d.Allow) != c.Want:
		return fmt.Sprintf("is %s (%s: %s), want %s", verdict(d.Allow), d.Rule, d.Reason, c.Want)
	case verdict(d.Permits) != wantPolicy:
		return fmt.Sprintf("the policies alone say %s (%s), want %s", verdict(d.Permits), strings.Join(d.Policies, ", "), wantPolicy)
	case c.Rule != "" && d.Rule != c.Rule:
		return fmt.Sprintf("names the rule %s, want %s", d.Rule, c.Rule)
	case len(c.By) > 0 && !slices.Equal(d.Policies, slices.Sorted(slices.Values(c.By))):
		return fmt.Sprintf("is decided by %s, want %s", strings.Join(d.Policies, ", "), strings.Join(c.By, ", "))
	case !d.Allow && (d.Rule == "" || d.Reason == "" || len(d.Law) == 0 || d.Law[0] == ""):
		return "a refusal names no rule, reason or article"
	case !d.Allow && d.Hint == "":
		return "a refusal does not say how to go on"
	}
	return ""
}

func verdict(allow bool) string {
	if allow {
		return "allow"
	}
	return "deny"
}

// decide asks the engine what the case asks.
func (c *Case) decide(e *Engine) Decision {
	at := day(CorpusDay)
	if c.At != "" {
		at = day(c.At)
	}
	ds := Dataset{c.Dataset.Name, c.Dataset.Class, c.Dataset.Cluster, c.Dataset.Purpose, c.Dataset.Regimes}
	switch c.Action {
	case "open":
		who := c.principal(c.Who)
		if c.Actor != nil {
			actor := c.principal(*c.Actor)
			who.Actor = &actor
		}
		return e.Open(OpenRequest{Principal: who, Dataset: ds, Access: c.access(), Region: law.DefaultRegion(), Grant: c.Grant, At: at})
	case "operate":
		return e.Operate(OperateRequest{Principal: c.principal(c.Who), Database: c.Database, Access: c.access(), Region: law.DefaultRegion(), At: at})
	case "hold":
		return e.Hold(HoldRequest{c.Hold.Purpose, c.Hold.Cluster, c.Hold.Category, c.Hold.Trait, c.Hold.Form})
	case "approve":
		return e.Approve(ApproveRequest{Approver: c.Who.ID, Purposes: c.Who.Purposes, Dataset: ds, Self: c.Self})
	}
	return Decision{}
}

func (c *Case) principal(w Who) Principal {
	return Principal{ID: w.ID, Service: w.Service, Groups: w.Groups, Purposes: w.Purposes, Databases: w.Databases,
		ServesHumans: w.ServesHumans, Employer: c.importer().Name, EmployerCountry: c.importer().Country}
}

// importer is the legal entity behind the principal.
func (c *Case) importer() law.Entity {
	if c.Employer.Name == "" {
		return law.Entity{Name: exporter.Name, Country: c.From.Employer}
	}
	return law.Entity{Name: c.Employer.Name, Country: c.From.Employer, Scopes: c.Employer.Scopes}
}

func (c *Case) access() law.Access {
	a := law.Access{Exporter: exporter, Importer: c.importer(), Places: []law.Place{
		{Source: law.Employer, Country: c.From.Employer},
		{Source: law.Workplace, Country: c.From.Workplace},
		{Source: law.Network, Country: c.From.Network}}}
	for _, in := range c.Instruments {
		tool := law.Instrument{ID: "instrument", Article: "46", Entity: in.Entity, Purposes: []string{in.Purpose},
			From: day(in.From), TIA: "1", TIADate: day(in.TIA)}
		if in.Until != "" {
			tool.Until = day(in.Until)
		}
		a.Instruments = append(a.Instruments, tool)
	}
	return a
}

// day reads a day that ParseCorpus has checked.
func day(s string) time.Time {
	t, _ := time.Parse(time.DateOnly, s)
	return t
}
