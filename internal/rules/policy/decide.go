package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Open decides whether a principal may open a dataset: the floor and the policies must both
// allow it.
func (e *Engine) Open(r OpenRequest) Decision {
	r.Access.Class, r.Access.Purpose, r.Access.Regimes = r.Dataset.Class, r.Dataset.Purpose, r.Dataset.Regimes
	who := r.Principal
	if who.Service && who.ServesHumans && who.Actor != nil && !who.Actor.Service {
		who = *who.Actor
	}
	floor := law.Assess(r.Access, r.Region, r.At)
	d := e.open(who, r.Dataset, floor, r.Grant)
	d.Floor = floor
	d.Permits = d.Allow
	if !d.Allow && floor.Open {
		d.Hint = e.howToAsk(who, r, floor)
		return d
	}
	if !floor.Open {
		return e.refuseByFloor(d, r, floor)
	}
	return d
}

// open asks the policies alone.
func (e *Engine) open(who Principal, ds Dataset, floor law.Assessment, grant bool) Decision {
	store := entities{}
	return e.ask(store, cedar.Request{
		Principal: store.principal(who),
		Action:    action("open"),
		Resource:  store.dataset(ds),
		Context: cedar.NewRecord(cedar.RecordMap{
			"zone":     cedar.String(floor.Zone),
			"transfer": cedar.Boolean(floor.Transfer),
			"article":  cedar.String(floor.Article),
			"grant":    cedar.Boolean(grant),
		}),
	}, fmt.Sprintf("open dataset %s", ds.Name))
}

// howToAsk says how a refused principal can ask, if a grant would help.
func (e *Engine) howToAsk(who Principal, r OpenRequest, floor law.Assessment) string {
	if r.Grant || !e.open(who, r.Dataset, floor, true).Allow {
		return "no grant opens this dataset from here; trefoil dataset list shows which datasets you may open"
	}
	return requestCommand(r.Dataset.Name)
}

func requestCommand(dataset string) string {
	return fmt.Sprintf("ask with: trefoil request --dataset %s --for 4h --reason '…'", dataset)
}

// refuseByFloor turns a decision into the floor's refusal, whatever the policies said.
func (e *Engine) refuseByFloor(d Decision, r OpenRequest, floor law.Assessment) Decision {
	d.Allow, d.Rule = false, floor.Rule
	d.Law = append([]string{floor.Law}, d.Law...)
	d.Reason = fmt.Sprintf("the floor does not let dataset %s be opened from here: %s", r.Dataset.Name, strings.Join(floor.Reasons, "; "))
	switch {
	case floor.Rule == law.RuleInstrument:
		d.Hint = fmt.Sprintf("register an art. 46 instrument with a transfer impact assessment for the importer and purpose %s, under instruments in enclave.yaml", r.Dataset.Purpose)
	case floor.Rule == law.RuleForm && floor.MayHold == law.ClassPseudonymised:
		d.Hint = "no grant lifts the floor; a pseudonymised dataset can be opened from here: trefoil dataset list"
	default:
		d.Hint = "no grant lifts the floor; trefoil dataset list shows which datasets you may open"
	}
	return d
}

// Operate decides whether a service may use a source database on the service path: it must
// be in the region, whatever the policies say.
func (e *Engine) Operate(r OperateRequest) Decision {
	r.Access.Class = law.ClassClear
	floor := law.Assess(r.Access, r.Region, r.At)
	store := entities{}
	who := r.Principal
	who.Service = true // a person is no service, and is refused below
	d := e.ask(store, cedar.Request{
		Principal: store.principal(who),
		Action:    action("operate"),
		Resource:  store.add("Database", r.Database, nil, nil),
		Context:   cedar.NewRecord(cedar.RecordMap{"zone": cedar.String(floor.Zone)}),
	}, "use the source database "+r.Database)
	d.Floor, d.Permits = floor, d.Allow
	switch {
	case !r.Principal.Service:
		return Decision{Floor: floor, Rule: RuleDefault, Law: []string{"GDPR art. 25(2)"},
			Reason: "people open datasets, not source databases", Hint: "connect with dbname = a dataset; trefoil dataset list shows them"}
	case floor.Zone != law.ZoneRegion || !floor.Open:
		d.Allow, d.Rule, d.Law = false, RuleZone, append([]string{"GDPR art. 44"}, d.Law...)
		d.Reason = "only services in the region use source databases: " + strings.Join(floor.Reasons, "; ")
		d.Hint = "connect with dbname = a dataset"
	case !d.Allow:
		d.Hint = "a service names its databases in people.yaml; one that serves people opens a dataset as the person behind it"
	}
	return d
}

// Hold decides whether a purpose may hold a category in a form. What is withheld needs no
// permission.
func (e *Engine) Hold(r HoldRequest) Decision {
	switch {
	case r.Form == law.Withheld:
		return Decision{Allow: true, Permits: true, Rule: "withheld", Law: []string{"GDPR art. 25(2)"}}
	case !r.Form.Known() || r.Form == law.Aggregate:
		return Decision{Rule: RuleDefault, Law: []string{"GDPR art. 25(2)"}, Reason: "the form is not one that a dataset holds",
			Hint: "choose clear, generalised, pseudonymised or withheld"}
	}
	store := entities{}
	d := e.ask(store, cedar.Request{
		Principal: store.add("Purpose", r.Purpose, nil, nil),
		Action:    action("hold"),
		Resource: store.add("Column", "column", nil, cedar.RecordMap{
			"category": cedar.String(r.Category), "trait": cedar.String(r.Trait), "form": cedar.String(r.Form)}),
		Context: cedar.NewRecord(cedar.RecordMap{"cluster": cedar.String(r.Cluster)}),
	}, fmt.Sprintf("hold %s in the %s form for purpose %s in the %s cluster", named(r.Category), r.Form, r.Purpose, r.Cluster))
	d.Permits = d.Allow
	if !d.Allow {
		d.Hint = "withhold the column, choose a form that shows less, or write a hold policy that names this purpose"
	}
	return d
}

func named(c law.Category) string {
	if c == "" {
		return "values without a category"
	}
	return string(c)
}

// HoldDefinition asks Hold for every column of a dataset's definition, and refuses what may
// not stand in the outside cluster, whatever the policies say. The error lists every column
// that may not be held.
func (e *Engine) HoldDefinition(def *trefoil.Definition, class law.Class, reasons []string) error {
	if def == nil {
		return errors.New("hold dataset: there is no definition")
	}
	var wrong []error
	if def.Cluster != "inside" && class != law.ClassPseudonymised {
		wrong = append(wrong, fmt.Errorf("floor (EDPB 01/2020 use case 2): the %s cluster holds pseudonymised datasets only: %s",
			def.Cluster, strings.Join(reasons, "; ")))
	}
	for _, c := range def.Columns {
		d := e.Hold(HoldRequest{Purpose: def.Purpose, Cluster: def.Cluster, Category: law.Category(c.Category),
			Trait: law.Trait(c.Trait), Form: law.Form(c.Form)})
		if !d.Allow {
			wrong = append(wrong, fmt.Errorf("%s.%s: %s (%s, %s)", c.Table, c.Column, d.Reason, d.Rule, strings.Join(d.Law, "; ")))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("hold dataset %s: %w", def.Name, errors.Join(wrong...))
	}
	return nil
}

// Approve decides whether an approver may sign a grant. It says nothing about what the grant
// opens: Open decides that, floor included, at every connect.
func (e *Engine) Approve(r ApproveRequest) Decision {
	store := entities{}
	d := e.ask(store, cedar.Request{
		Principal: store.add("Approver", r.Approver, nil, cedar.RecordMap{"purposes": store.set("Purpose", r.Purposes)}),
		Action:    action("approve"),
		Resource:  store.dataset(r.Dataset),
		Context:   cedar.NewRecord(cedar.RecordMap{"self": cedar.Boolean(r.Self)}),
	}, "approve a grant for dataset "+r.Dataset.Name)
	d.Permits = d.Allow
	if !d.Allow {
		d.Hint = fmt.Sprintf("another approver for purpose %s has to sign", r.Dataset.Purpose)
	}
	return d
}

// ask evaluates the policies. An error in any of them denies.
func (e *Engine) ask(store entities, r cedar.Request, what string) Decision {
	if e == nil || e.policies == nil {
		return Decision{Rule: RuleNoRules, Law: []string{"GDPR art. 25(2)"}, Reason: "no policy is in force"}
	}
	answer, found := cedar.Authorize(e.policies, cedar.EntityMap(store), r)
	var d Decision
	for _, reason := range found.Reasons {
		d.Policies = append(d.Policies, string(reason.PolicyID))
	}
	slices.Sort(d.Policies)
	for _, id := range d.Policies {
		d.Law = append(d.Law, e.laws[id])
	}
	switch {
	case len(found.Errors) > 0:
		return Decision{Rule: RuleError, Law: []string{"GDPR art. 25(2)"},
			Policies: []string{string(found.Errors[0].PolicyID)}, Reason: "a policy could not be evaluated"}
	case answer == cedar.Allow:
		d.Allow, d.Rule = true, d.Policies[0]
	case len(d.Policies) > 0:
		d.Rule, d.Reason = d.Policies[0], fmt.Sprintf("policy %s forbids to %s", d.Policies[0], what)
	default:
		d.Rule, d.Law, d.Reason = RuleDefault, []string{"GDPR art. 25(2)"}, "no policy allows to "+what
	}
	return d
}
