package enclave

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/rules/policy"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// Built is what the enclave knows of a dataset that stands: which definition it was built
// with, and how fresh it is. The zero value is a dataset that does not stand.
type Built struct {
	Hash      string
	FreshAsOf time.Time
	Fresh     dataset.Freshness // the same with lag and bounds
}

// Datasets are the standing datasets, as the authoriser needs them.
type Datasets interface {
	// Built tells what stands under a name; the zero value if nothing does.
	Built(ctx context.Context, name string) (Built, error)
	// Admit makes sure that a role of this principal exists and may open the dataset, and
	// returns its name.
	Admit(ctx context.Context, principal, dataset string) (role string, err error)
}

// Grants are the requests of the control store.
type Grants interface {
	Current(ctx context.Context, principal, dataset string, now time.Time) ([]control.Grant, error)
}

// Authoriser decides who may open what: policy and floor, both; then whether the dataset
// stands as it is defined, and whether the monitor has acknowledged the definition.
type Authoriser struct {
	now      *inForce
	rules    *Rules // what one decision is made by, from its begin to its end
	clusters *Clusters
	datasets Datasets
	grants   Grants
	routes   *routes // nil: every database is where its DSN says
	binary   string
	*memory
}

// memory is what an authoriser keeps from one decision to the next.
type memory struct {
	mu           sync.Mutex
	acknowledged map[string]bool   // definition hashes
	opened       map[string]Opened // by session, until the release path takes it
}

// Opened is what the release path needs to know of a decision beside the records' Access.
type Opened struct {
	Evidence  []string // signed notes for the monitor
	Statement string   // keyed fingerprint of the only statement whose answer may leave; "": any
	InRegion  bool     // the session counts as being in the region: the only one that may go on unpermitted
}

// NewAuthoriser makes an authoriser. Binary is the program's hash for the records.
func NewAuthoriser(r *Rules, c *Clusters, d Datasets, g Grants, binary string) *Authoriser {
	return &Authoriser{now: newInForce(r), rules: r, clusters: c, datasets: d, grants: g, binary: binary,
		memory: &memory{acknowledged: map[string]bool{}, opened: map[string]Opened{}}}
}

// Acknowledge notes that the monitor has acknowledged a definition.
func (a *Authoriser) Acknowledge(hash string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acknowledged[hash] = true
}

func (a *Authoriser) isAcknowledged(hash string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acknowledged[hash]
}

// Take hands out, once, what was decided about a session. The zero value is the strictest.
func (a *Authoriser) Take(session string) Opened {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.opened[session]
	delete(a.opened, session)
	return out
}

// Authorise implements gateway.Authoriser. Rules that come into force meanwhile count for
// the next decision.
func (a *Authoriser) Authorise(ctx context.Context, q gateway.Request) gateway.Decision {
	one := *a
	one.rules = a.now.get()
	return one.authorise(ctx, q)
}

func (a *Authoriser) authorise(ctx context.Context, q gateway.Request) gateway.Decision {
	if q.Principal.Service && q.Principal.ServesHumans {
		actor, no := a.asActor(q)
		if no != nil {
			return *no
		}
		q = actor
	}
	who, facts := a.facts(q)
	name, readOnly := a.routes.database(q)
	if _, isSource := a.rules.Config.Databases[name]; isSource {
		q.Database = name
		return a.operate(q, who, facts, readOnly)
	}
	def := a.rules.Definitions[q.Database]
	if def == nil {
		return deny(a.access(q, law.Assessment{}), gateway.Refusal{SQLState: "28000", Message: "no dataset and no database of this name may be opened",
			Rule: "unknown-dataset", Law: "GDPR art. 25(2)", Reason: "unknown-dataset",
			Detail: "Datasets are named by the connection's database name.", Hint: "trefoil dataset list shows the datasets"})
	}
	return a.open(ctx, q, who, facts, def)
}

// asActor turns the request of a service that serves people into one of the person behind
// it: their employer and workplace, the network of the service. The service sees what the
// person sees, so it must itself be in the region, wholly.
func (a *Authoriser) asActor(q gateway.Request) (gateway.Request, *gateway.Decision) {
	actor, known := a.rules.People.Directory.Lookup(q.Params[gateway.ActorParameter])
	if !known || actor.Service {
		no := deny(a.access(q, law.Assessment{}), gateway.Refusal{SQLState: "28000",
			Message: "this service serves people and has to say for whom it asks", Rule: "serves-humans", Law: "GDPR art. 29, 32(4)", Reason: "policy",
			Detail: "Sessions of a service that serves people go the release path as the person behind them.",
			Hint:   "name a person of people.yaml in the start-up parameter " + gateway.ActorParameter})
		return q, &no
	}
	for _, p := range q.Places {
		if !a.rules.Region.Contains(p.Country) {
			no := deny(a.access(q, law.Assessment{}), gateway.Refusal{SQLState: "28000",
				Message: "a service that serves people must itself be in the region", Rule: "serves-humans", Law: "GDPR art. 44", Reason: "floor",
				Detail: "Its " + p.Source + " country is not in the region, or unknown; it would see what the person behind it sees.",
				Hint:   "run the service in the region, or let people connect themselves"})
			return q, &no
		}
	}
	service := q.Principal.ID
	q.Principal = actor
	q.Places = slices.Clone(q.Places)
	for i := range q.Places {
		p := &q.Places[i]
		switch p.Source {
		case law.Employer:
			p.Country = a.rules.Config.Entities[actor.Employer].Country
		case law.Workplace:
			p.Country = actor.Workplace
		default:
			continue
		}
		p.By, p.Evidence, p.At = "service "+service, "declared", actor.AttestedAt.UTC()
	}
	return q, nil
}

// facts puts a request into the words of policy and law.
func (a *Authoriser) facts(q gateway.Request) (policy.Principal, law.Access) {
	p := q.Principal
	employer := a.employer(p)
	who := policy.Principal{ID: p.ID, Service: p.Service, Groups: p.Groups, Purposes: p.Purposes, Employer: employer.Name,
		EmployerCountry: employer.Country, Databases: p.Databases, ServesHumans: p.ServesHumans}
	x := a.rules.Config.Exporter
	access := law.Access{Instruments: a.rules.Instruments,
		Exporter: law.Entity{Name: x.Name, Country: x.Country, Scopes: x.Scopes},
		Importer: law.Entity{Name: employer.Name, Country: employer.Country, Scopes: employer.Scopes}}
	for _, place := range q.Places {
		access.Places = append(access.Places, law.Place{Source: place.Source, Country: place.Country})
	}
	return who, access
}

// employer is the principal's legal entity; a service without one is the exporter's own.
func (a *Authoriser) employer(p identity.Principal) Entity {
	if p.Service && p.Employer == "" {
		return a.rules.Config.Exporter
	}
	return a.rules.Config.Entities[p.Employer]
}

// operate decides about a source database: the service path.
func (a *Authoriser) operate(q gateway.Request, who policy.Principal, facts law.Access, readOnly bool) gateway.Decision {
	d := a.rules.Policy.Operate(policy.OperateRequest{Principal: who, Database: q.Database, Access: facts, Region: a.rules.Region, At: q.At})
	access := a.access(q, d.Floor)
	said := ""
	if !d.Allow && a.observes(q) {
		d.Allow, said = true, observeNotice
	}
	if !d.Allow {
		return deny(access, refusal(d, "28000"))
	}
	target, err := a.source(q.Database, q.Principal.Role)
	if err != nil {
		return deny(access, gateway.Refusal{SQLState: "58000", Message: "the database's configuration does not work", Rule: "configuration", Reason: "configuration"})
	}
	if target, err = a.routes.send(q.Database, readOnly, target); err != nil {
		return deny(access, away(q.Database, err))
	}
	target.Pool = a.rules.Config.Databases[q.Database].Pool.settings(target.Role)
	return gateway.Decision{Path: gateway.Service, Access: access, Target: target, Notice: said}
}

// open decides about a dataset: the release path.
func (a *Authoriser) open(ctx context.Context, q gateway.Request, who policy.Principal, facts law.Access, def *trefoil.Definition) gateway.Decision {
	hash := trefoil.DefinitionHash(def)
	c, isCase := def.Case()
	ask := policy.OpenRequest{Principal: who, Dataset: policyDataset(def, a.rules.Classes[def.Name]), Access: facts, Region: a.rules.Region, At: q.At}
	d := a.rules.Policy.Open(ask)
	rests := !d.Allow // an access that needs no grant is not ended when one runs out
	h, waiting := a.held(ctx, q, def, d.Floor.Zone)
	if ask.Grant = h != nil; h != nil && rests {
		d = a.rules.Policy.Open(ask)
	}
	access := a.access(q, d.Floor)
	access.Dataset, access.Purpose, access.Forms = def.Name, def.Purpose, def.Forms()
	access.Hashes = a.rules.Hashes(def.Name, a.binary)
	if sabotage.Hostile("widen") {
		d.Allow = true
	}
	if !d.Allow {
		if d.Floor.Open && waiting != "" {
			d.Hint = waiting
		}
		return deny(access, refusal(d, "42501"))
	}
	if isCase {
		if no := a.onCase(q, c, h != nil); no != nil {
			return deny(access, *no)
		}
	}
	if d.Floor.Zone != law.ZoneRegion && !a.isAcknowledged(hash) && !sabotage.Hostile("widen") {
		return deny(access, gateway.Refusal{SQLState: "57P03", Message: fmt.Sprintf("the monitor has not acknowledged the definition of dataset %s", def.Name),
			Rule: "dataset-not-acknowledged", Law: "GDPR art. 25(2)", Reason: "dataset-not-acknowledged",
			Hint: "try again when the monitor is back; it acknowledges what its own rules allow"})
	}
	built, err := a.datasets.Built(ctx, def.Name)
	if err != nil || built.Hash != hash {
		return deny(access, notStanding(def.Name, built, err))
	}
	if built.Fresh.TooOld() {
		return deny(access, tooOld(def.Name, built.Fresh))
	}
	target, err := a.dataset(ctx, q.Principal.ID, def)
	if err != nil {
		return deny(access, gateway.Refusal{SQLState: "57P03", Message: fmt.Sprintf("dataset %s cannot be reached", def.Name),
			Rule: "dataset-away", Reason: "dataset-away", Hint: "trefoil dataset status " + def.Name})
	}
	out := gateway.Decision{Path: gateway.Release, Access: access, Target: target, Notice: notice(def, a.rules.Classes[def.Name], built, q.At)}
	opened := Opened{InRegion: d.Floor.Zone == law.ZoneRegion}
	if isCase {
		out.Until = c.Until
	}
	if h != nil && (isCase || rests) {
		h.bind(&out, &opened)
	}
	a.keep(q.Session, opened)
	return out
}

func (a *Authoriser) keep(session string, o Opened) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.opened) > 10_000 { // sessions that failed between decision and start
		clear(a.opened)
	}
	a.opened[session] = o
}

func policyDataset(def *trefoil.Definition, class law.Class) policy.Dataset {
	ds := policy.Dataset{Name: def.Name, Class: class, Cluster: def.Cluster, Purpose: def.Purpose}
	if c, is := def.Case(); is {
		ds.Name = c.Of // policies are written before there is a case
	}
	for _, r := range def.Regimes {
		ds.Regimes = append(ds.Regimes, law.Regime(r))
	}
	return ds
}

func deny(access trefoil.Access, r gateway.Refusal) gateway.Decision {
	return gateway.Decision{Path: gateway.Deny, Access: access, Refusal: r}
}

// refusal words a policy decision for the client.
func refusal(d policy.Decision, state string) gateway.Refusal {
	reason := "policy"
	if strings.HasPrefix(d.Rule, "floor") {
		reason = "floor"
	}
	article := strings.Join(slices.Compact(slices.Clone(d.Law)), "; ")
	return gateway.Refusal{SQLState: state, Message: d.Reason, Rule: d.Rule, Law: article, Hint: d.Hint, Reason: reason,
		Detail: fmt.Sprintf("Rule: %s. Law: %s.", d.Rule, article)}
}

func notStanding(name string, b Built, err error) gateway.Refusal {
	r := gateway.Refusal{SQLState: "57P03", Rule: "dataset-not-built", Reason: "dataset-not-built",
		Message: fmt.Sprintf("dataset %s is not built", name), Hint: "trefoil dataset build " + name}
	switch {
	case err != nil:
		r.Message, r.Rule, r.Reason = fmt.Sprintf("dataset %s cannot be reached", name), "dataset-away", "dataset-away"
		r.Hint = "trefoil dataset status " + name
	case b.Hash != "":
		r.Message = fmt.Sprintf("dataset %s was built with another definition than the one in force", name)
		r.Hint = "trefoil dataset rebuild " + name
	}
	return r
}

// access fills what every record of the session says.
func (a *Authoriser) access(q gateway.Request, floor law.Assessment) trefoil.Access {
	employer, exporter := a.employer(q.Principal), a.rules.Config.Exporter
	out := trefoil.Access{
		Exporter: trefoil.Party{Country: exporter.Country, Entity: exporter.Name, Role: exporter.Role},
		Importer: trefoil.Party{Country: employer.Country, Entity: employer.Name, Role: employer.Role},
		Forms:    map[string][]string{}, Hashes: a.rules.Hashes("", a.binary), Location: q.Places,
		Principal: trefoil.StaffPseudonym(a.rules.StaffKey, q.At, q.Principal.ID), Session: q.Session,
		Instrument: trefoil.Instrument{Article: floor.Article, ID: floor.Instrument, Transfer: floor.Transfer},
	}
	if in := floor.Found; in != nil {
		out.Instrument.Date, out.Instrument.TIA = in.From.Format(time.DateOnly), in.TIA
		out.Instrument.TIADate = in.TIADate.Format(time.DateOnly)
	}
	if _, known := a.rules.Config.Databases[q.Database]; known {
		out.Dataset = q.Database
	}
	return out
}

// source is where a service's sessions go, as its role: with the certificate that the DSN
// names, or the gateway's own.
func (a *Authoriser) source(name, role string) (gateway.Target, error) {
	db := a.rules.Config.Databases[name]
	physical := db.DBName
	if physical == "" {
		physical = name
	}
	t, err := targetOf(withUser(db.DSN, role), role, physical)
	if err != nil || t.TLS == nil || len(t.TLS.Certificates) > 0 || a.rules.Config.Gateway.ClientCertificate == "" {
		return t, err
	}
	cert, err := tls.LoadX509KeyPair(a.rules.Config.Gateway.ClientCertificate, a.rules.Config.Gateway.ClientKey)
	if err != nil {
		return gateway.Target{}, fmt.Errorf("read the gateway's client certificate: %w", err)
	}
	t.TLS.Certificates = []tls.Certificate{cert}
	return t, nil
}

// dataset is where a principal's sessions on a dataset go, as the role of that principal.
func (a *Authoriser) dataset(ctx context.Context, principal string, def *trefoil.Definition) (gateway.Target, error) {
	role, err := a.datasets.Admit(ctx, principal, def.Name)
	if err != nil {
		return gateway.Target{}, err
	}
	return targetOf(a.clusters.Addresses[def.Cluster].Gateway, role, def.Name)
}

// targetOf turns a DSN into a login. TLS options of the DSN are kept.
func targetOf(dsn, role, database string) (gateway.Target, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return gateway.Target{}, errors.New("read DSN: it does not parse")
	}
	network, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	var t *tls.Config
	if cfg.TLSConfig != nil {
		t = cfg.TLSConfig.Clone()
	}
	if role == "" {
		role = cfg.User
	}
	return gateway.Target{Network: network, Address: address, TLS: t, Role: role, Password: cfg.Password, Database: database}, nil
}
