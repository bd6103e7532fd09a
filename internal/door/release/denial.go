package release

import (
	"context"
	"errors"
	"fmt"

	trefoil "github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// SQLSTATEs of what this package itself says.
const (
	stateRefused     = "42501" // insufficient_privilege
	stateUnavailable = "57P03" // cannot_connect_now
	stateShutdown    = "57P01" // admin_shutdown
	stateProtocol    = "08P01" // protocol_violation
	stateServerGone  = "08006" // connection_failure
)

// denial is why nothing of what is held may leave.
type denial struct {
	reason *trefoil.NoteReason // the monitor's own, if it refused
	cause  error
}

func (d *denial) refused() bool { return d.reason != nil }
func (d *denial) Unwrap() error { return d.cause }

func (d *denial) Error() string {
	if d.refused() {
		return "the monitor refused: rule " + d.reason.Rule
	}
	return d.cause.Error()
}

func refused(r trefoil.NoteReason) error { return &denial{reason: &r} }
func unrecorded(err error) error         { return &denial{cause: fmt.Errorf("record release: %w", err)} }
func unanswered(err error) error         { return &denial{cause: fmt.Errorf("obtain permit: %w", err)} }

// StopReason is why a session is ended from outside. Its texts are shown to the client.
type StopReason struct {
	Outcome  string // revoked, drained or error: as the session's end record says it
	SQLState string // default 42501 for revoked, 57P01 otherwise
	Message  string
	Detail   string
	Hint     string
	// Refusal, when the session is stopped before it began, is the reason of its refusal
	// record: one of trefoil.RefusalReasons. Without one there is no such record.
	Refusal string
	Rule    string // of that record
}

// Reasons to stop that the gateway uses.
var (
	Revoked = StopReason{
		Outcome: "revoked", SQLState: stateRefused,
		Message: "access to this dataset was revoked; nothing that was still held is released",
		Hint:    "trefoil request asks for access anew",
	}
	Drained = StopReason{
		Outcome: "drained", SQLState: stateShutdown,
		Message: "the gateway is shutting down; connect again",
	}
	otherStatement = StopReason{
		Outcome: "error", SQLState: stateRefused, Refusal: "policy", Rule: "grant-statement",
		Message: "this grant is for one statement, and this answer is to another; nothing of it was released",
		Detail:  "rule grant-statement; values may differ from the approved text, nothing else",
		Hint:    "trefoil request --statement FILE asks for another one, and without --statement for any",
	}
)

// errStopped carries a StopReason as a context's cause.
type errStopped struct{ StopReason }

func (e *errStopped) Error() string { return "session stopped: " + e.Outcome }

// Ends of a session that are nobody's fault.
var (
	errClosed       = errors.New("the client closed the session")
	errDisconnected = errors.New("the client disconnected")
	errServerClosed = errors.New("the dataset's server closed the connection")
	errProtocol     = errors.New("the client violated the protocol")
	errReading      = errors.New("held bytes could not be kept")
)

// outcomeOf is what the session's end record says.
func outcomeOf(cause error) string {
	var stop *errStopped
	switch {
	case errors.As(cause, &stop):
		return stop.Outcome
	case cause == nil || errors.Is(cause, errClosed):
		return "closed"
	case errors.Is(cause, errDisconnected):
		return "disconnected"
	case errors.Is(cause, context.Canceled):
		return "drained"
	}
	return "error"
}

// farewell is the last message of a session that ends for a reason the client should know;
// nil when there is none to tell.
func farewell(cause error) []byte {
	var stop *errStopped
	var d *denial
	f := wire.ErrorFields{Severity: wire.Fatal}
	switch {
	case errors.As(cause, &stop):
		f.SQLState, f.Message, f.Detail, f.Hint = stop.SQLState, stop.Message, stop.Detail, stop.Hint
		if f.SQLState == "" {
			f.SQLState = stateShutdown
		}
	case errors.As(cause, &d) && d.refused():
		f.SQLState = stateRefused
		f.Message = "the independent monitor refused this release: " + d.reason.Reason
		f.Detail = "rule " + d.reason.Rule
		if d.reason.Law != "" {
			f.Detail += "; " + d.reason.Law
		}
		f.Hint = "trefoil request asks for access; nothing was released"
	case errors.As(cause, &d):
		f.SQLState = stateUnavailable
		f.Message = "the independent monitor did not countersign the record of this answer; nothing was released"
		f.Hint = "try again; the session's data stays where it is"
	case errors.Is(cause, errProtocol):
		f.SQLState, f.Message = stateProtocol, "the message does not follow the protocol"
	case errors.Is(cause, errServerClosed):
		f.SQLState, f.Message = stateServerGone, "the dataset's server closed the connection"
	case errors.Is(cause, errReading):
		f.SQLState, f.Message = "53100", "the gateway could not hold the answer; nothing of it was released"
	case errors.Is(cause, context.Canceled):
		f.SQLState, f.Message = stateShutdown, Drained.Message
	default:
		return nil
	}
	return wire.AppendErrorResponse(nil, f)
}
