package policy

import (
	"time"

	"github.com/cedar-policy/cedar-go"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Principal is an authenticated person or service.
type Principal struct {
	ID              string
	Service         bool
	Groups          []string
	Purposes        []string
	Employer        string // legal entity's name
	EmployerCountry string // ISO 3166-1 alpha-2
	Databases       []string
	ServesHumans    bool
	// Actor is the person behind a service that serves people. With it, Open asks for the
	// actor; the places of the access must then be the actor's and the service's.
	Actor *Principal
}

// Dataset is what is asked for.
type Dataset struct {
	Name    string
	Class   law.Class
	Cluster string
	Purpose string
	Regimes []law.Regime
}

// OpenRequest asks whether a principal may open a dataset. Access says from where and for
// whom; its Class, Purpose and Regimes are taken from the dataset.
type OpenRequest struct {
	Principal Principal
	Dataset   Dataset
	Access    law.Access
	Region    law.Region
	Grant     bool // an approved, unexpired grant for exactly this dataset, verified by the caller
	At        time.Time
}

// OperateRequest asks whether a service may use a source database on the service path.
type OperateRequest struct {
	Principal Principal
	Database  string
	Access    law.Access // places, importer, exporter
	Region    law.Region
	At        time.Time
}

// HoldRequest asks whether a purpose may hold a category in a form.
type HoldRequest struct {
	Purpose  string
	Cluster  string
	Category law.Category
	Trait    law.Trait
	Form     law.Form
}

// ApproveRequest asks whether an approver may sign a grant.
type ApproveRequest struct {
	Approver string
	Purposes []string // the approver's
	Dataset  Dataset
	Self     bool // the approver is the one who asks
}

// Decision is an answer. The zero value denies.
type Decision struct {
	Allow    bool
	Policies []string       // ids of the policies that decided, sorted
	Law      []string       // their articles, and the floor's
	Rule     string         // the one to name: a policy id, a floor rule, default-deny, policy-error
	Reason   string         // one plain sentence; no personal data
	Hint     string         // how to ask, where asking can help
	Permits  bool           // the policies alone allow
	Floor    law.Assessment // for open and operate
}

// Rules of decisions that no policy made.
const (
	RuleDefault = "default-deny"
	RuleError   = "policy-error"
	RuleNoRules = "no-policy"
	RuleZone    = "floor-service-outside-region"
)

func uid(kind, id string) cedar.EntityUID {
	return cedar.NewEntityUID(cedar.EntityType(kind), cedar.String(id))
}

func action(name string) cedar.EntityUID { return uid("Action", name) }

// entities builds the entity store of one request.
type entities cedar.EntityMap

// add stores an entity and returns its uid.
func (s entities) add(kind, id string, parents []cedar.EntityUID, attributes cedar.RecordMap) cedar.EntityUID {
	u := uid(kind, id)
	s[u] = cedar.Entity{UID: u, Parents: cedar.NewEntityUIDSet(parents...), Attributes: cedar.NewRecord(attributes)}
	return u
}

// set is a set of references to entities of a kind, which it stores too.
func (s entities) set(kind string, ids []string) cedar.Set {
	values := make([]cedar.Value, len(ids))
	for i, id := range ids {
		values[i] = s.add(kind, id, nil, nil)
	}
	return cedar.NewSet(values...)
}

// principal stores a person or service.
func (s entities) principal(p Principal) cedar.EntityUID {
	var groups []cedar.EntityUID
	for _, g := range p.Groups {
		groups = append(groups, s.add("Group", g, nil, nil))
	}
	attributes := cedar.RecordMap{
		"purposes":        s.set("Purpose", p.Purposes),
		"employer":        cedar.String(p.Employer),
		"employerCountry": cedar.String(p.EmployerCountry),
	}
	if !p.Service {
		return s.add("Person", p.ID, groups, attributes)
	}
	attributes["databases"] = s.set("Database", p.Databases)
	attributes["servesHumans"] = cedar.Boolean(p.ServesHumans)
	return s.add("Service", p.ID, groups, attributes)
}

// dataset stores a dataset.
func (s entities) dataset(d Dataset) cedar.EntityUID {
	regimes := make([]cedar.Value, len(d.Regimes))
	for i, r := range d.Regimes {
		regimes[i] = cedar.String(r)
	}
	return s.add("Dataset", d.Name, nil, cedar.RecordMap{
		"class":   cedar.String(d.Class),
		"cluster": cedar.String(d.Cluster),
		"purpose": s.add("Purpose", d.Purpose, nil, nil),
		"regimes": cedar.NewSet(regimes...),
	})
}
