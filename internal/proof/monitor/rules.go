package monitor

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/certfile"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/anomaly"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/cheat"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Rules is rules.yaml: what the monitor knows by itself. Relative paths are relative to the
// monitor's directory. Nothing in it comes from the gateway.
type Rules struct {
	Version     int                 `yaml:"version"`
	Name        string              `yaml:"name"`                   // of the monitor, as in its keys
	Listen      string              `yaml:"listen,omitempty"`       // default 127.0.0.1:7480
	Certificate string              `yaml:"certificate,omitempty"`  // PEM file: serve over https
	ServerKey   string              `yaml:"server_key,omitempty"`   // PEM file: the certificate's key
	Token       string              `yaml:"token"`                  // file: what callers of /permit and /acknowledge present
	BodiesToken string              `yaml:"bodies_token,omitempty"` // file: what readers of /bodies present; none: nobody reads
	ValveToken  string              `yaml:"valve_token,omitempty"`  // file: what the valve presents; none: there is no valve
	Valve       string              `yaml:"valve,omitempty"`        // required: nothing leaves the region but through the valve
	Logs        []WatchedLog        `yaml:"logs"`
	Region      []string            `yaml:"region,omitempty"` // countries and groups; default EEA, GB, CH
	Exporter    Entity              `yaml:"exporter"`
	Entities    map[string]Entity   `yaml:"entities"` // employers, by name
	StaffKey    string              `yaml:"staff_key"`
	Principals  []Principal         `yaml:"principals"`
	Instruments []Instrument        `yaml:"instruments,omitempty"`
	Approvers   []Approver          `yaml:"approvers,omitempty"`
	Approvals   []grant.Rule        `yaml:"approvals,omitempty"` // who has to approve what; none: one approver of the purpose
	Datasets    []DatasetRule       `yaml:"datasets"`
	Transfers   []string            `yaml:"transfer_purposes,omitempty"` // purposes that may leave the region
	Policies    []string            `yaml:"policies,omitempty"`          // known policy hashes; none: not checked
	Catalogs    []string            `yaml:"catalogs,omitempty"`          // known catalog hashes; none: not checked
	Binaries    []string            `yaml:"binaries,omitempty"`          // known hashes of the gateway, which it reports of itself; none: not checked
	Officers    []officers.Officer  `yaml:"officers,omitempty"`          // who may stop, resume and change these rules
	Hours       *Hours              `yaml:"office_hours,omitempty"`      // when openings with hours: true open
	Witnesses   []OwnWitness        `yaml:"witnesses,omitempty"`         // outside witnesses of the monitor's own log
	Quorum      int                 `yaml:"witness_quorum,omitempty"`    // how many of them an entry needs; 0: all
	Ceilings    Ceilings            `yaml:"ceilings,omitempty"`
	Anomalies   *anomaly.Thresholds `yaml:"anomalies,omitempty"` // what counts as unusual
	Services    []cheat.Service     `yaml:"services,omitempty"`  // statements and ceilings of services' accounts; none: not checked

	ClockDoubt string `yaml:"clock_doubt,omitempty"` // how far a record's time may be off; default 2m
	PermitTerm string `yaml:"permit_term,omitempty"` // default 60s, at most 10m
	Follow     string `yaml:"follow,omitempty"`      // how often the mirror asks each log; default 1s
	Grace      string `yaml:"grace,omitempty"`       // how long a record may stay without its permit; default 15s

	source []byte // the file, as officers sign it; nil: not read from one
}

// WatchedLog is a log that the monitor cosigns and mirrors.
type WatchedLog struct {
	Origin string `yaml:"origin"`
	Key    string `yaml:"key"`             // the log's vkey
	URL    string `yaml:"url,omitempty"`   // where checkpoint, tiles and bodies are; empty: cosign only
	Token  string `yaml:"token,omitempty"` // file: bearer token for bodies

	Authority string `yaml:"authority,omitempty"` // PEM file behind an https URL; default the system's
}

// Entity is a legal entity. Scopes are the facts that a scope test asks for.
type Entity struct {
	Name    string   `yaml:"name"`
	Country string   `yaml:"country"`
	Role    string   `yaml:"role"`
	Scopes  []string `yaml:"scopes,omitempty"`
}

// Principal is a person or service as the monitor knows them.
type Principal struct {
	ID        string   `yaml:"id"`
	Employer  string   `yaml:"employer"`  // a name under entities
	Workplace string   `yaml:"workplace"` // country
	Groups    []string `yaml:"groups,omitempty"`
	Service   bool     `yaml:"service,omitempty"`
}

// Instrument is a registered tool of GDPR art. 46. Dates are YYYY-MM-DD; Until is the first
// day on which it no longer counts.
type Instrument struct {
	ID       string   `yaml:"id"`
	Article  string   `yaml:"article"`
	Date     string   `yaml:"date"`
	Entity   string   `yaml:"entity"` // the importer, a name under entities
	Purposes []string `yaml:"purposes"`
	TIA      string   `yaml:"tia"`
	TIADate  string   `yaml:"tia_date"`
	Until    string   `yaml:"until,omitempty"`
}

// Approver may sign grants that the monitor accepts.
type Approver struct {
	Name     string   `yaml:"name"`
	Key      string   `yaml:"key"` // vkey
	Purposes []string `yaml:"purposes"`
	Persons  []string `yaml:"persons,omitempty"` // principals who are the same person: they get nothing by this approver
	From     string   `yaml:"from,omitempty"`    // a day or a time from which the key approves
	Until    string   `yaml:"until,omitempty"`   // and until which: what it approved gives nothing after it
}

// DatasetRule is what the monitor allows one dataset to be, and who may open it from where.
type DatasetRule struct {
	Name       string    `yaml:"name"`
	Purpose    string    `yaml:"purpose"`
	Cluster    string    `yaml:"cluster"`
	Regimes    []string  `yaml:"regimes"`              // EU, UK, CH: what its subjects may be exported under
	Definition string    `yaml:"definition,omitempty"` // pinned hash; none: any that the rules allow
	Open       []Opening `yaml:"open"`

	// Acknowledge says who lets another definition count than the first: officer (the default),
	// or auto, which takes any that the rules allow.
	Acknowledge string `yaml:"acknowledge,omitempty"`
}

// Opening lets groups open a dataset from a kind of place, if it shows no more than Class
// (clear, which a dataset with any clear or generalised value is; or pseudonymised).
// Groups "*" is everybody. Grant asks for a signed grant also where the law does not.
type Opening struct {
	Groups []string  `yaml:"groups"`
	Where  string    `yaml:"where"` // region, adequate, elsewhere
	Class  law.Class `yaml:"class"`
	Grant  bool      `yaml:"grant,omitempty"`
	Hours  bool      `yaml:"hours,omitempty"` // only in office hours
}

// Ceilings bound one chunk and one session. Zero takes the default.
type Ceilings struct {
	ChunkBytes   int64 `yaml:"chunk_bytes,omitempty"`   // default 16 MiB
	ChunkRows    int64 `yaml:"chunk_rows,omitempty"`    // default 10,000,000
	SessionBytes int64 `yaml:"session_bytes,omitempty"` // default 64 GiB
	Allowance    int64 `yaml:"allowance,omitempty"`     // of catalog reads in a session; default 1 MiB, the gateway's own

	// Totals of what was permitted, the allowances of sessions among them. Zero: no such ceiling.
	PrincipalDayBytes int64 `yaml:"principal_day_bytes,omitempty"` // one principal's, a day in UTC
	PrincipalDayRows  int64 `yaml:"principal_day_rows,omitempty"`
	GrantBytes        int64 `yaml:"grant_bytes,omitempty"` // one grant's, for as long as it lasts
	GrantRows         int64 `yaml:"grant_rows,omitempty"`
	DayBytes          int64 `yaml:"day_bytes,omitempty"` // everybody's, a day in UTC
	DayRows           int64 `yaml:"day_rows,omitempty"`
}

// RulesFile is the name of the rules inside the monitor's directory.
const RulesFile = "rules.yaml"

// LoadRules reads dir/rules.yaml strictly. The error lists everything that is wrong.
func LoadRules(dir string) (*Rules, error) {
	path := filepath.Join(dir, RulesFile)
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	return ParseRules(path, src)
}

// ParseRules decodes and validates rules. File is used in errors only.
func ParseRules(file string, src []byte) (*Rules, error) {
	var r Rules
	pos, err := strict.DecodeWithPositions(file, src, &r)
	errs := strict.All(file, err)
	errs = append(errs, r.validate(pos)...)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	r.setDefaults()
	r.source = slices.Clone(src)
	return &r, nil
}

func (r *Rules) setDefaults() {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	text := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&r.Ceilings.ChunkBytes, 16<<20)
	def(&r.Ceilings.ChunkRows, 10_000_000)
	def(&r.Ceilings.SessionBytes, 64<<30)
	def(&r.Ceilings.Allowance, 1<<20)
	text(&r.Listen, "127.0.0.1:7480")
	text(&r.ClockDoubt, "2m")
	text(&r.PermitTerm, "60s")
	text(&r.Follow, "1s")
	text(&r.Grace, "15s")
	for i := range r.Datasets {
		text(&r.Datasets[i].Acknowledge, AcknowledgeOfficer)
	}
	if len(r.Region) == 0 {
		r.Region = []string{"EEA", "GB", "CH"}
	}
}

// duration reads one of the rules' durations; validate has parsed it before.
func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0
	}
	return d
}

// ReadBodiesToken returns the token that opens bodies and sessions, "" if the rules name none.
func (r *Rules) ReadBodiesToken(dir string) (string, error) {
	if r.BodiesToken == "" {
		return "", nil
	}
	return readSecret(within(dir, r.BodiesToken))
}

// ServerTLS is what the monitor in dir serves with; nil: http.
func (r *Rules) ServerTLS(dir string) (*tls.Config, error) {
	return certfile.Server(within(dir, r.Certificate), within(dir, r.ServerKey))
}
