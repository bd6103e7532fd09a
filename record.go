package trefoil

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"
)

// LeafVersion is the first byte of every leaf that this version of the format writes.
const LeafVersion = 0x01

// SaltSize is the length in bytes of a record's salt.
const SaltSize = 32

// LeafSize is the length in bytes of a leaf: version ‖ SHA-256(salt ‖ body).
const LeafSize = 1 + sha256.Size

// Kind says what a record is about. The zero value is not a valid kind.
type Kind string

// The kinds of record (docs/record-format.md, "Kinds").
const (
	KindSession    Kind = "session"
	KindSummary    Kind = "summary"
	KindRelease    Kind = "release"
	KindRefusal    Kind = "refusal"
	KindDisclosure Kind = "disclosure"
	KindGrant      Kind = "grant"
	KindApproval   Kind = "approval"
	KindRevocation Kind = "revocation"
	KindPolicy     Kind = "policy"
	KindCatalog    Kind = "catalog"
	KindSite       Kind = "site"
	KindResidence  Kind = "residence"
	KindMigration  Kind = "migration"
	KindErasure    Kind = "erasure"
	KindCommitment Kind = "commitment"
	KindIncident   Kind = "incident"
	KindKey        Kind = "key"
	KindModel      Kind = "model"
	KindBan        Kind = "ban"
	KindPermit     Kind = "permit" // only in a monitor's own log
)

// Record is one entry of the access log: a body and the salt that hides it in its leaf.
// Body is deterministic JSON (EncodeBody); Salt has SaltSize random bytes.
type Record struct {
	Body []byte
	Salt []byte
}

// NewRecord encodes body and draws a fresh salt from crypto/rand.
func NewRecord(b *Body) (Record, error) {
	enc, err := EncodeBody(b)
	if err != nil {
		return Record{}, err
	}
	salt := make([]byte, SaltSize)
	if _, err := rand.Read(salt); err != nil {
		return Record{}, fmt.Errorf("draw salt: %w", err)
	}
	return Record{Body: enc, Salt: salt}, nil
}

// Leaf returns what the log stores: LeafVersion ‖ SHA-256(Salt ‖ Body), LeafSize bytes.
func (r Record) Leaf() []byte {
	h := sha256.New()
	h.Write(r.Salt)
	h.Write(r.Body)
	return h.Sum([]byte{LeafVersion})
}

// Body is the content of a record: a header and exactly one part, the one that Kind names.
// Its JSON has its keys in byte order, no insignificant white space, integers only.
type Body struct {
	At     time.Time `json:"at"`     // UTC, microseconds
	Kind   Kind      `json:"kind"`   //
	Origin string    `json:"origin"` // the log's origin, as in its checkpoint

	Catalog  *CatalogBody  `json:"catalog,omitempty"`
	Grant    *GrantBody    `json:"grant,omitempty"` // also for approval and revocation
	Policy   *PolicyBody   `json:"policy,omitempty"`
	Refusal  *RefusalBody  `json:"refusal,omitempty"`
	Release  *ReleaseBody  `json:"release,omitempty"`
	Session  *SessionBody  `json:"session,omitempty"`
	Site     *SiteBody     `json:"site,omitempty"`
	Summary  *SummaryBody  `json:"summary,omitempty"`
	Incident *IncidentBody `json:"incident,omitempty"`
	Key      *KeyBody      `json:"key,omitempty"`
	Permit   *PermitBody   `json:"permit,omitempty"`
	Model    *ModelBody    `json:"model,omitempty"`
	Order    *OrderBody    `json:"order,omitempty"`
}

// Party is one legal entity of an access: the exporter or the importer.
type Party struct {
	Country string `json:"country"` // ISO 3166-1 alpha-2, "" unknown
	Entity  string `json:"entity"`
	Role    string `json:"role"` // controller, joint controller, processor
}

// Place is one country that a session counts as being in, with where the claim comes from.
type Place struct {
	At       time.Time `json:"at"`       // when it was attested
	By       string    `json:"by"`       // who attested it
	Country  string    `json:"country"`  // ISO 3166-1 alpha-2, "" unknown
	Evidence string    `json:"evidence"` // certificate, token, network, declared
	Source   string    `json:"source"`   // employer, workplace, network
}

// Instrument is the tool of GDPR chapter V under which a release is made.
type Instrument struct {
	Article  string `json:"article"`            // "45", "46", or "" when Transfer is false ("not a transfer; art. 32")
	ID       string `json:"id,omitempty"`       // name of the registered instrument or adequacy decision
	Date     string `json:"date,omitempty"`     // YYYY-MM-DD of the instrument
	TIA      string `json:"tia,omitempty"`      // version of the transfer impact assessment
	TIADate  string `json:"tia_date,omitempty"` // YYYY-MM-DD
	Transfer bool   `json:"transfer"`           // whether the access counts as a transfer
}

// Hashes are lower-case hex SHA-256 of what was in force at the time.
type Hashes struct {
	Binary  string `json:"binary"` // self-reported
	Catalog string `json:"catalog"`
	Dataset string `json:"dataset"`
	Law     string `json:"law"`
	Policy  string `json:"policy"`
}

// Access says who looked, from where, at what and under which rule. It is the same in
// every record of one session.
type Access struct {
	Dataset    string              `json:"dataset"`
	Exporter   Party               `json:"exporter"`
	Forms      map[string][]string `json:"forms"` // category → forms that the dataset holds, sorted
	Grant      string              `json:"grant,omitempty"`
	Approvals  []string            `json:"approvals,omitempty"` // key ids of the approvers
	Hashes     Hashes              `json:"hashes"`
	Importer   Party               `json:"importer"`
	Instrument Instrument          `json:"instrument"`
	Location   []Place             `json:"location"`
	Principal  string              `json:"principal"` // the pseudonym of the period
	Purpose    string              `json:"purpose"`
	Session    string              `json:"session"` // 32 hex digits
}

// Statement describes what was run without any literal, alias or identifier the user chose.
type Statement struct {
	Commitment  string   `json:"commitment"`  // hex SHA-256(opening salt ‖ text)
	Fingerprint string   `json:"fingerprint"` // keyed, 16 hex digits; "" if not parsed
	Kind        string   `json:"kind"`        // select, copy, set, …, unparsed
	Tables      []string `json:"tables"`      // only names that the dataset defines; others count as "?"
}

// ReleaseBody is one chunk of held server bytes that may leave once it is permitted.
type ReleaseBody struct {
	Access       Access      `json:"access"`
	Bytes        int64       `json:"bytes"` // every byte the server side originated in this chunk
	Chunk        int64       `json:"chunk"` // from 0, per session
	Cumulative   int64       `json:"cumulative"`
	Final        bool        `json:"final"`   // last chunk of its statement cycle
	Outcome      string      `json:"outcome"` // complete, partial, error, cancelled
	Result       string      `json:"result"`  // hex SHA-256(opening salt ‖ bytes)
	Rows         int64       `json:"rows"`
	SQLState     string      `json:"sqlstate,omitempty"`
	Statements   []Statement `json:"statements"`
	Subjects     *int64      `json:"subjects"`      // null until subject tags exist
	SubjectsRoot *string     `json:"subjects_root"` // likewise
	Unpermitted  bool        `json:"unpermitted,omitempty"`
}

// SessionBody opens or ends a session on either path.
type SessionBody struct {
	Access    Access `json:"access"`
	Allowance int64  `json:"allowance"` // start: bytes that catalog statements may use under this record's permit
	Covered   int64  `json:"covered"`   // end: bytes that left under the allowance
	Event     string `json:"event"`     // start, end
	Fixed     int64  `json:"fixed"`     // end: bytes of the gateway's own fixed messages
	Outcome   string `json:"outcome"`   // end: closed, disconnected, drained, revoked, error
	Path      string `json:"path"`      // service, release
	Released  int64  `json:"released"`  // end: bytes that left under release records

	// Unpermitted marks a session inside the region that went on without the monitor.
	Unpermitted bool `json:"unpermitted,omitempty"`
}

// RefusalBody is something that was asked and not given.
type RefusalBody struct {
	Access Access `json:"access"`
	Reason string `json:"reason"` // of a closed set: docs/record-format.md
	Rule   string `json:"rule"`   // policy id or "floor"
	Law    string `json:"law"`    // article
	Stage  string `json:"stage"`  // startup, authentication, open, release
}

// SummaryBody counts what a service session did in one interval.
type SummaryBody struct {
	Access     Access             `json:"access"`
	BytesIn    int64              `json:"bytes_in"`
	BytesOut   int64              `json:"bytes_out"`
	Final      bool               `json:"final"`
	From       time.Time          `json:"from"`
	Rows       int64              `json:"rows"`
	Statements []StatementSummary `json:"statements"`
	To         time.Time          `json:"to"`
	TypesIn    map[string]int64   `json:"types_in,omitempty"` // bytes by message type, headers included
	TypesOut   map[string]int64   `json:"types_out,omitempty"`
	Unparsed   int64              `json:"unparsed"` // statements counted but not attributed
}

// StatementSummary counts one normalised statement of a service.
type StatementSummary struct {
	Calls       int64  `json:"calls"`
	Fingerprint string `json:"fingerprint"`
	Kind        string `json:"kind"`
	Rows        int64  `json:"rows"`
}

// Definition is a dataset's definition as it is hashed, logged and acknowledged.
type Definition struct {
	Cluster string            `json:"cluster"`         // inside, outside
	Columns []DefinedColumn   `json:"columns"`         // sorted by table, column; withheld columns that are absent are not listed
	Epoch   int64             `json:"epoch,omitempty"` // of the keys of its pseudonyms; 0 when it holds none
	K       int64             `json:"k"`               // smallest cell over the person table's clear and generalised columns, 0 when not enforced
	Name    string            `json:"name"`
	Person  string            `json:"person"` // the person table
	Purpose string            `json:"purpose"`
	Regimes []string          `json:"regimes"` // EU, UK, CH that its subjects may be exported under, sorted
	Rows    map[string]string `json:"rows"`    // how subjects are chosen: residence, list, condition
}

// DefinedColumn is one column of a dataset.
type DefinedColumn struct {
	Category string `json:"category"`
	Column   string `json:"column"`
	Detail   string `json:"detail"` // unit of a generalisation, domain of a pseudonym, "null" for withheld: null
	Form     string `json:"form"`
	Table    string `json:"table"` // schema.table
	Trait    string `json:"trait"` // birth, time, key, … or ""
	Type     string `json:"type"`
}

// CatalogBody publishes a dataset's definition or its build.
type CatalogBody struct {
	Definition *Definition `json:"definition,omitempty"`
	Event      string      `json:"event"` // defined, built, verified, dropped
	Hash       string      `json:"hash"`  // of the definition
	Measured   *Measured   `json:"measured,omitempty"`
}

// Measured is what a build found. Counts only.
type Measured struct {
	BadValues    int64  `json:"bad_values"`
	Digest       string `json:"digest"` // keyed
	LeftOut      int64  `json:"left_out"`
	Orphans      int64  `json:"orphans"`
	Rows         int64  `json:"rows"`
	SmallestCell int64  `json:"smallest_cell"`
	Subjects     int64  `json:"subjects"`
	Suppressed   int64  `json:"suppressed"`
}

// PolicyBody says which rules are in force from now on.
type PolicyBody struct {
	Hashes Hashes `json:"hashes"`
}

// GrantBody is a request, an approval or a revocation. The signed text itself stays in the control store.
type GrantBody struct {
	Dataset   string    `json:"dataset"`
	Event     string    `json:"event"` // requested, approved, denied, revoked, expired
	Grant     string    `json:"grant"`
	Hash      string    `json:"hash"` // of the exact request
	Key       string    `json:"key"`  // key id of who signed
	Principal string    `json:"principal"`
	Until     time.Time `json:"until"`
}

// SiteBody is a start or stop of a part of the enclave.
type SiteBody struct {
	Country   string `json:"country"`
	Event     string `json:"event"` // started, stopped, gap
	Part      string `json:"part"`  // gateway, log, …
	Simulated bool   `json:"simulated"`
	Site      string `json:"site"`
}

// IncidentBody opens or closes a finding of the operator's own side.
type IncidentBody struct {
	Event  string `json:"event"` // opened, closed
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// KeyBody announces a public key, or tells what became of a key of pseudonyms.
type KeyBody struct {
	Event string `json:"event"` // announced, retired; of pseudonyms: rotated, destroyed
	Key   string `json:"key"`   // the verifier key (vkey), or a token's id; of pseudonyms purpose and epoch, as in research/2
	Use   string `json:"use"`   // log, witness, permit, approver, gateway, token, pseudonyms
}

// ModelBody says which ranking model a surface serves, and publishes its parameter sheet. The
// hashes are lower-case hex SHA-256 of the files as they are.
type ModelBody struct {
	Event    string `json:"event"`    // production, retired, sheet
	Features string `json:"features"` // of the file that says the model's features in words
	Format   string `json:"format"`   // lightgbm, xgboost
	Model    string `json:"model"`    // of the model's file
	Sheet    string `json:"sheet"`    // event sheet: of the parameter sheet's JSON; else ""
	Surface  string `json:"surface"`  // where it ranks, as configured
}

// PermitBody is one decision of a monitor, in the monitor's own log. It names the watched
// log's record and repeats nothing of its content.
type PermitBody struct {
	Epoch   int64     `json:"epoch"`             // the count of stops at the time
	Event   string    `json:"event"`             // issued, refused
	Expires time.Time `json:"expires,omitempty"` // issued: end of the permit
	Index   int64     `json:"index"`             // of the watched log's leaf; -1 when it is about no record
	Law     string    `json:"law"`               // refused: article
	Leaf    string    `json:"leaf"`              // its RFC 6962 leaf hash, hex
	Log     string    `json:"log"`               // origin of the watched log
	Rule    string    `json:"rule"`              // refused: why
}
