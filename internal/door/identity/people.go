package identity

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/strict"
)

// File is people.yaml.
type File struct {
	Version  int       `yaml:"version"`
	People   []Person  `yaml:"people,omitempty"`
	Services []Account `yaml:"services,omitempty"`
}

// Person is somebody who logs in as themselves, on the release path.
type Person struct {
	ID        string   `yaml:"id"`                 // the user name
	Verifier  string   `yaml:"verifier,omitempty"` // from trefoil passwd; none: no password
	Login     []string `yaml:"login,omitempty"`    // ways to log in; default all that are configured
	SameAs    string   `yaml:"same_as,omitempty"`  // another id of the same person
	Groups    []string `yaml:"groups,omitempty"`
	Employer  string   `yaml:"employer"`  // a key under entities in enclave.yaml
	Workplace string   `yaml:"workplace"` // ISO 3166-1 alpha-2; "" unknown
	Purposes  []string `yaml:"purposes,omitempty"`
	Attested  Attested `yaml:"attested,omitempty"`
}

// Account is a service: an application in the region.
type Account struct {
	ID           string   `yaml:"id"`
	Verifier     string   `yaml:"verifier,omitempty"`
	Login        []string `yaml:"login,omitempty"`    // as a person's, and source: the server's own password
	Databases    []string `yaml:"databases"`          // source databases it may use
	Role         string   `yaml:"role,omitempty"`     // its role on the server; with login source: the id
	Employer     string   `yaml:"employer,omitempty"` // default: the exporter
	Site         string   `yaml:"site,omitempty"`     // where it runs: a site's name, or
	Country      string   `yaml:"country,omitempty"`  // its country, if it is at no site
	ServesHumans bool     `yaml:"serves_humans,omitempty"`
	Groups       []string `yaml:"groups,omitempty"`
	Purposes     []string `yaml:"purposes,omitempty"`
	Attested     Attested `yaml:"attested,omitempty"`
}

// Attested says who vouches for employer and workplace. Evidence is certificate, token or
// declared; default declared.
type Attested struct {
	By       string `yaml:"by,omitempty"`
	At       string `yaml:"at,omitempty"` // YYYY-MM-DD
	Evidence string `yaml:"evidence,omitempty"`
}

// Principal is who is behind a session, once authenticated. The zero value is nobody.
type Principal struct {
	ID           string
	Service      bool // an application; otherwise a person
	Groups       []string
	Employer     string // entity key; "" = the exporter, for services only
	Workplace    string // country; "" unknown
	Site         string // services: the site it runs at
	Purposes     []string
	Databases    []string // services
	Role         string   // services: role on the server
	ServesHumans bool     // services: people are behind it
	AttestedBy   string
	AttestedAt   time.Time
	Evidence     string
	Login        []string // ways to log in; empty: all that are configured
	// EmployerBy and WorkplaceBy say who attests one of the two where it is not AttestedBy.
	EmployerBy  *Attestation
	WorkplaceBy *Attestation
}

// Attestation is who vouches for a country, when, and by which class of evidence.
type Attestation struct {
	By       string
	At       time.Time
	Evidence string
}

// Ways to log in, as in people.yaml.
const (
	ByPassword    = "password"
	ByToken       = "token"
	ByOIDC        = "oidc"
	ByCertificate = "certificate"
	BySource      = "source" // the source database's own password; services only
)

// Accepts reports whether the principal may log in this way.
func (p Principal) Accepts(way string) bool {
	if len(p.Login) == 0 {
		return way != BySource
	}
	return slices.Contains(p.Login, way)
}

// Decode reads people.yaml strictly. name is the file's name in errors. All errors are
// reported at once.
func Decode(name string, src []byte) (*File, error) {
	var f File
	pos, err := strict.DecodeWithPositions(name, src, &f)
	if err != nil {
		return nil, err
	}
	var found strict.Errors
	report := func(path, format string, args ...any) {
		found = append(found, pos.Errorf(path, format, args...))
	}
	if f.Version != 1 {
		report("version", "version must be 1")
	}
	seen := map[string]bool{}
	for i := range f.People {
		f.People[i].check(fmt.Sprintf("people[%d]", i), seen, report)
	}
	for i := range f.Services {
		f.Services[i].check(fmt.Sprintf("services[%d]", i), seen, report)
	}
	f.checkSame(report)
	if err := found.Err(); err != nil {
		return nil, err
	}
	return &f, nil
}

// checkSame finds references to people who are not there.
func (f *File) checkSame(report reporter) {
	people := map[string]bool{}
	for i := range f.People {
		people[f.People[i].ID] = true
	}
	for i, p := range f.People {
		if p.SameAs != "" && (!people[p.SameAs] || p.SameAs == p.ID) {
			report(fmt.Sprintf("people[%d].same_as", i), "same_as names another person of this file")
		}
	}
}

type reporter func(path, format string, args ...any)

func (p *Person) check(at string, seen map[string]bool, report reporter) {
	checkLogin(at, p.ID, p.Verifier, p.Login, peopleLogins, seen, report)
	if p.Employer == "" {
		report(at, "a person needs an employer: a key under entities in enclave.yaml")
	}
	if !isCountry(p.Workplace) {
		report(at+".workplace", "workplace must be a country of two capital letters, or left out when unknown")
	}
	p.Attested.check(at+".attested", report)
}

func (a *Account) check(at string, seen map[string]bool, report reporter) {
	checkLogin(at, a.ID, a.Verifier, a.Login, serviceLogins, seen, report)
	if len(a.Databases) == 0 {
		report(at, "a service needs databases")
	}
	if a.Role == "" && !a.ServesHumans && !slices.Contains(a.Login, BySource) {
		report(at, "a service needs a role: the one it uses on the server")
	}
	if a.Site != "" && a.Country != "" {
		report(at+".country", "a service has a site or a country, not both")
	}
	if !isCountry(a.Country) {
		report(at+".country", "country must be two capital letters")
	}
	a.Attested.check(at+".attested", report)
}

func (a Attested) check(at string, report reporter) {
	if _, err := a.date(); err != nil {
		report(at+".at", "at must be a date, YYYY-MM-DD")
	}
	if !slices.Contains([]string{"", "certificate", "token", "declared"}, a.Evidence) {
		report(at+".evidence", "evidence must be certificate, token or declared")
	}
}

func (a Attested) date() (time.Time, error) {
	if a.At == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.DateOnly, a.At)
}

var (
	peopleLogins  = []string{ByPassword, ByToken, ByOIDC, ByCertificate}
	serviceLogins = []string{ByPassword, ByToken, ByOIDC, ByCertificate, BySource}
)

func checkLogin(at, id, verifier string, login, known []string, seen map[string]bool, report reporter) {
	switch {
	case id == "" || len(id) > 63:
		report(at+".id", "id must have 1 to 63 bytes")
	case seen[id]:
		report(at+".id", "id is used twice")
	}
	seen[id] = true
	for i, way := range login {
		if !slices.Contains(known, way) {
			report(fmt.Sprintf("%s.login[%d]", at, i), "login knows %s", strings.Join(known, ", "))
		}
	}
	source := slices.Contains(login, BySource)
	needed := len(login) == 0 || slices.Contains(login, ByPassword)
	switch {
	case source && len(login) > 1:
		report(at+".login", "a service that logs in with the source's password logs in no other way")
	case verifier == "" && !needed: // no password
	case verifier != "" && !needed:
		report(at+".verifier", "there is a verifier, and login does not list password")
	default:
		if _, err := ParseVerifier(verifier); err != nil {
			report(at+".verifier", "%v; `trefoil passwd` makes one", err)
		}
	}
}

// isCountry accepts "" (unknown) and two capital letters. Whether the country exists is
// rules/law's question: one that does not is not adequate.
func isCountry(s string) bool {
	return s == "" || len(s) == 2 && 'A' <= s[0] && s[0] <= 'Z' && 'A' <= s[1] && s[1] <= 'Z'
}

func (p *Person) principal() Principal {
	at, _ := p.Attested.date() // checked by Decode
	return Principal{ID: p.ID, Groups: p.Groups, Employer: p.Employer, Workplace: p.Workplace, Purposes: p.Purposes, Login: p.Login,
		AttestedBy: cmp.Or(p.Attested.By, "people.yaml"), AttestedAt: at, Evidence: cmp.Or(p.Attested.Evidence, "declared")}
}

func (a *Account) principal() Principal {
	at, _ := a.Attested.date()
	role := a.Role
	if role == "" && slices.Contains(a.Login, BySource) {
		role = a.ID
	}
	return Principal{ID: a.ID, Service: true, Groups: a.Groups, Employer: a.Employer, Workplace: a.Country, Site: a.Site,
		Purposes: a.Purposes, Databases: a.Databases, Role: role, ServesHumans: a.ServesHumans, Login: a.Login,
		AttestedBy: cmp.Or(a.Attested.By, "people.yaml"), AttestedAt: at, Evidence: cmp.Or(a.Attested.Evidence, "declared")}
}
