// Package enclave reads an enclave's configuration and wires its parts together: the only
// package, with demo, that knows the door.
//
// The invariant it keeps: a part gets only what it needs. Keys and passwords are named by
// file path and read here; strict decoding reports every unknown key with its line.
package enclave

import (
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// Config is enclave.yaml. Relative paths are relative to the file's own directory.
type Config struct {
	Version          int                 `yaml:"version"`
	Name             string              `yaml:"name"`
	Mode             string              `yaml:"mode,omitempty"`   // enforce (default), or observe: account for the service path before deciding
	Site             string              `yaml:"site"`             // the site this process runs at
	Region           []string            `yaml:"region,omitempty"` // countries and groups; default EEA, GB, CH
	Exporter         Entity              `yaml:"exporter"`
	Sites            []Site              `yaml:"sites"`
	Databases        map[string]Database `yaml:"databases"`
	Clusters         map[string]Cluster  `yaml:"clusters"` // inside, outside
	Control          string              `yaml:"control"`  // DSN of the control store (database trefoil)
	Gateway          Gateway             `yaml:"gateway"`
	Log              Log                 `yaml:"log"`
	Monitor          Monitor             `yaml:"monitor"`
	Keys             Keys                `yaml:"keys"`
	Regulator        *Regulator          `yaml:"regulator,omitempty"` // who is told when the monitor has been away for a day
	Entities         map[string]Entity   `yaml:"entities"`            // employers: importers of a transfer
	Instruments      []Instrument        `yaml:"instruments,omitempty"`
	Approvers        []Approver          `yaml:"approvers,omitempty"`
	Approvals        []grant.Rule        `yaml:"approvals,omitempty"`         // who has to approve what; none: one approver of the purpose
	Callers          []Caller            `yaml:"callers,omitempty"`           // programs that ask for grants at gateway.api
	Networks         []Network           `yaml:"networks,omitempty"`          // first match wins
	NetworkCountries string              `yaml:"network_countries,omitempty"` // an mmdb file; a hint, never proof

	Catalogs []string `yaml:"catalogs,omitempty"` // default [catalog.yaml]
	Datasets string   `yaml:"datasets,omitempty"` // default datasets.yaml
	Purposes string   `yaml:"purposes,omitempty"` // default purposes.yaml
	People   string   `yaml:"people,omitempty"`   // default people.yaml
	Policy   string   `yaml:"policy,omitempty"`   // default policy (a directory of *.cedar and corpus/)
	Tokens   string   `yaml:"tokens,omitempty"`   // default tokens.yaml; written by trefoil token

	Identity Identity `yaml:"identity,omitempty"` // ways to log in beside passwords and access tokens

	path    string // the file this was read from
	runtime Runtime
}

// Modes.
const (
	ModeEnforce = "enforce"
	ModeObserve = "observe"
)

// Identity are ways to log in that others than people.yaml vouch for.
type Identity struct {
	OIDC         []identity.IssuerConfig     `yaml:"oidc,omitempty"`
	Certificates *identity.CertificateConfig `yaml:"certificates,omitempty"`
}

// Entity is a legal entity. Scopes are the facts that an adequacy decision's scope test asks
// for: us-dpf, ca-commercial, jp-appi.
type Entity struct {
	Name    string   `yaml:"name"`
	Country string   `yaml:"country"`
	Role    string   `yaml:"role"`
	Scopes  []string `yaml:"scopes,omitempty"`
}

// Site is one data centre.
type Site struct {
	Name      string `yaml:"name"`
	Country   string `yaml:"country"`
	Simulated bool   `yaml:"simulated,omitempty"`
}

// Database is a source: an operator's PostgreSQL.
type Database struct {
	Site   string `yaml:"site"`
	DSN    string `yaml:"dsn"`              // where the gateway sends service sessions; user and dbname are replaced per session, TLS options kept
	Reader string `yaml:"reader,omitempty"` // a role with SELECT on the catalogued columns; builds datasets
	DBName string `yaml:"dbname,omitempty"` // name on the server; default the key
	Retain string `yaml:"retain,omitempty"` // how much of its log it may keep for a dataset that is not being followed; default 32GiB
	Auth   string `yaml:"auth,omitempty"`   // a role that may ask the server for its users' password verifiers; trefoil check prints what it needs
	Route  *Route `yaml:"route,omitempty"`  // several servers carry it: follow the primary
	Pool   *Pool  `yaml:"pool,omitempty"`   // service sessions share database sessions
}

// Route names the servers of a database's cluster, the nearest first. Whether one is the
// primary is asked of Patroni where a member names its REST API, else of the server, with the
// login of the database's reader.
type Route struct {
	Members  []RouteMember `yaml:"members"`
	ReadOnly string        `yaml:"read_only,omitempty"` // a second name: its sessions only read, on the nearest replica that is fresh enough
	MaxLag   int64         `yaml:"max_lag,omitempty"`   // bytes that such a replica may be behind; default 16 MiB
	Interval string        `yaml:"interval,omitempty"`  // between two questions; default 1s
}

// RouteMember is one server of a cluster.
type RouteMember struct {
	Address string `yaml:"address"`           // host:port
	Patroni string `yaml:"patroni,omitempty"` // base URL of its REST API
}

// Cluster is a dataset cluster: embedded (Trefoil runs it) or the operator's by DSN.
type Cluster struct {
	Embedded *Embedded `yaml:"embedded,omitempty"`
	DSN      string    `yaml:"dsn,omitempty"`     // for the gateway: client certificate, no password
	Steward  string    `yaml:"steward,omitempty"` // for building: owns dataset databases and creates roles
}

// Embedded is a PostgreSQL instance that Trefoil sets up and starts.
type Embedded struct {
	Directory string `yaml:"directory"`
	Port      int    `yaml:"port"`
	Bin       string `yaml:"bin,omitempty"` // directory of initdb and postgres; default found
}

// Gateway is the door's own configuration.
type Gateway struct {
	Listen string `yaml:"listen"`

	Valve             *Valve   `yaml:"valve,omitempty"`       // the listener of the monitor's valve
	ListenAlso        []string `yaml:"listen_also,omitempty"` // more addresses; unix:PATH is a socket
	Certificate       string   `yaml:"certificate"`           // shown to clients
	Key               string   `yaml:"key"`
	ClientCertificate string   `yaml:"client_certificate"` // shown to databases whose DSN names none (sslcert)
	ClientKey         string   `yaml:"client_key"`
	RequireTLS        bool     `yaml:"require_tls,omitempty"`
	SpillDir          string   `yaml:"spill_dir,omitempty"`
	ChunkBytes        int64    `yaml:"chunk_bytes,omitempty"`
	MemoryBytes       int64    `yaml:"memory_bytes,omitempty"`        // held in memory per session before it spills
	CatalogAllowance  int64    `yaml:"catalog_allowance,omitempty"`   // bytes per session under the session's permit
	TemporaryBytes    int64    `yaml:"temporary_bytes,omitempty"`     // temporary tables of one session on the release path; default 4 GiB
	TemporaryBytesAll int64    `yaml:"temporary_bytes_all,omitempty"` // of all sessions on one dataset cluster; default 16 GiB
	SummaryInterval   string   `yaml:"summary_interval,omitempty"`
	MaxSessions       int      `yaml:"max_sessions,omitempty"`
	Limits            Limits   `yaml:"limits,omitempty"`
	LogLevel          string   `yaml:"log_level,omitempty"` // debug, info (default), warn, error
	Metrics           string   `yaml:"metrics,omitempty"`   // address of /metrics, /healthz and /readyz; none: not served
	Traces            *Traces  `yaml:"traces,omitempty"`
	Status            string   `yaml:"status,omitempty"` // socket for trefoil gateway status; default gateway.sock
	API               string   `yaml:"api,omitempty"`    // address where signed requests for grants and answers are taken; none: not served
}

// Limits bound what one principal can make the gateway do. Zero means the default.
type Limits struct {
	SessionsPer      int `yaml:"sessions_per_principal,omitempty"` // at once; default 500
	PersonSessions   int `yaml:"sessions_per_person,omitempty"`    // at once; default 50
	PersonPerSec     int `yaml:"person_per_second,omitempty"`      // new sessions of a person, after a burst of 20 times as many; default 5
	ServicePerSec    int `yaml:"service_per_second,omitempty"`     // the same of a service; default 2000
	RefusedPerMinute int `yaml:"refused_per_minute,omitempty"`     // refusals after the login; then the principal waits; default 60
}

// Log is the access log of this site.
type Log struct {
	Origin    string            `yaml:"origin"`
	Directory string            `yaml:"directory"`
	Listen    string            `yaml:"listen"`              // serves checkpoint and tile/ to anyone, body/ to the monitor
	Key       string            `yaml:"key"`                 // file with the log's note signing key
	Retention map[string]string `yaml:"retention,omitempty"` // kind → duration, e.g. release: 8760h
	Witnesses []Witness         `yaml:"witnesses,omitempty"` // besides the monitor's
	Quorum    int               `yaml:"quorum,omitempty"`    // how many of all must cosign; default all

	Certificate string `yaml:"certificate,omitempty"` // serve the log over https
	ServerKey   string `yaml:"server_key,omitempty"`  // the certificate's key
}

// Witness is a C2SP tlog-witness.
type Witness struct {
	URL       string `yaml:"url"`
	Key       string `yaml:"key"`                 // cosignature vkey
	Authority string `yaml:"authority,omitempty"` // PEM file behind an https URL; default the system's
}

// Monitor is what the gateway knows of the monitor: where it is, and its public keys.
type Monitor struct {
	URL     string `yaml:"url"`
	Witness string `yaml:"witness"`        // cosignature vkey
	Permit  string `yaml:"permit"`         // permit vkey
	Stop    string `yaml:"stop,omitempty"` // stop vkey: the count of stops is asked for every second; without it a stop waits for the next permit
	Token   string `yaml:"token"`          // file; shared with the monitor, both ways, for /permit and body/

	Authority string `yaml:"authority,omitempty"` // PEM file behind an https URL; default the system's

	Successions []string `yaml:"successions,omitempty"` // files: notes by which keys above were replaced, in their order
}

// Keys names secret files of the enclave.
type Keys struct {
	Pseudonyms string `yaml:"pseudonyms"` // ring of the keys of pseudonyms; never in a dataset cluster
	Staff      string `yaml:"staff"`      // staff pseudonyms of a period; the monitor has it too
	Statements string `yaml:"statements"` // keys statement fingerprints
	Digests    string `yaml:"digests"`    // keys dataset digests

	KMS      string `yaml:"kms,omitempty"`       // wraps the keys of pseudonyms: openbao://HOST[:PORT]/MOUNT/keys/NAME
	KMSToken string `yaml:"kms_token,omitempty"` // file with the token for it
	KMSCA    string `yaml:"kms_ca,omitempty"`    // file with the certificates that vouch for it; default the system's
}

// Instrument is a registered tool of GDPR art. 46.
type Instrument struct {
	ID       string   `yaml:"id"`
	Article  string   `yaml:"article"`
	Date     string   `yaml:"date"`
	Entity   string   `yaml:"entity"` // the importer
	Purposes []string `yaml:"purposes"`
	TIA      string   `yaml:"tia"`
	TIADate  string   `yaml:"tia_date"`
	Until    string   `yaml:"until,omitempty"`
}

// Approver may sign grants.
type Approver struct {
	Name      string   `yaml:"name"`
	Principal string   `yaml:"principal,omitempty"` // who that is in people.yaml, if they are there: nobody approves their own request
	Key       string   `yaml:"key"`                 // vkey
	Purposes  []string `yaml:"purposes"`

	Monitor bool `yaml:"monitor,omitempty"` // the monitor's: it is shown no reasons

	From  string `yaml:"from,omitempty"`  // a day or a time from which the key approves
	Until string `yaml:"until,omitempty"` // and until which: what it approved gives nothing after it
}

// Caller is a program, such as a ticket system, that asks for grants for people.
type Caller struct {
	Name       string   `yaml:"name"`
	Key        string   `yaml:"key"`        // vkey
	Principals []string `yaml:"principals"` // for whom; "*": everybody in people.yaml
}

// Network maps addresses to a country by configuration.
type Network struct {
	CIDR    string `yaml:"cidr"`
	Country string `yaml:"country"`
}
