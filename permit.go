package trefoil

import (
	"time"
)

// Permit is the monitor's signed consent to one release: of exactly one leaf of one log.
// Its signed form is a C2SP signed note (PermitHeader and the fields, a line each).
type Permit struct {
	Origin    string    // of the log
	Index     uint64    // of the leaf
	Leaf      [32]byte  // RFC 6962 leaf hash of the leaf
	Expires   time.Time // UTC, seconds: release may not begin after it
	StopEpoch uint64    // the monitor's count of stops when it signed
}

// PermitHeader is the first line of a permit.
const PermitHeader = "trefoil.eu/permit/v1"

// PermitRequest is the body of POST /permit (JSON). Proof is a C2SP tlog-proof with the
// cosigned checkpoint; Evidence are signed notes that the body refers to (grants).
type PermitRequest struct {
	Body     []byte   `json:"body"`
	Salt     []byte   `json:"salt"`
	Proof    string   `json:"proof"`
	Evidence []string `json:"evidence,omitempty"`

	// Valve is the valve's connection through which the client came, 32 hex digits; "" for
	// none. All requests of a session name the same. It enters no record.
	Valve string `json:"valve,omitempty"`
}

// PermitAnswer is the answer to POST /permit: 200 with Permit, or 403 with Refusal.
type PermitAnswer struct {
	Permit  string      `json:"permit,omitempty"` // the signed note
	Refusal *NoteReason `json:"refusal,omitempty"`
}

// NoteReason is why the monitor refused. It is safe to show to the client.
type NoteReason struct {
	Rule   string `json:"rule"`   // e.g. floor, dataset-not-acknowledged, lying-body, stopped
	Law    string `json:"law"`    // article, or ""
	Reason string `json:"reason"` // plain English
}
