package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/audit/secrets"
	"github.com/trefoil-eu/trefoil/internal/proof/valve/kept"
)

// Input is what an audit needs. All of it is read, nothing is changed.
type Input struct {
	Kept    *kept.Connection // the valve's file
	Secrets *secrets.Session // the gateway's
	Log     Log              // of the site
	Trust   *trefoil.Trust   // the log's, the witnesses' and the permit key

	// Opened, when set, is given the data after the comparison: the examiner may read it.
	Opened func(x *Stream) error
}

// Run audits one session. The error is of disk or configuration; what does not hold is in the
// report.
func Run(ctx context.Context, in Input) (*Report, error) {
	session := in.Secrets.Session
	keys, err := ParseSecrets(in.Secrets.Lines)
	if err != nil {
		return nil, err
	}
	x, err := OpenStream(in.Kept, in.Kept.Size, in.Kept.Up, keys)
	var problem *Problem
	if err != nil && !errors.As(err, &problem) {
		return nil, fmt.Errorf("open ciphertext: %w", err)
	}
	claims, err := Collect(ctx, in.Log, in.Trust, session, in.Kept.Began)
	if err != nil {
		return nil, err
	}
	r, err := Compare(x, claims)
	if err != nil {
		return nil, err
	}
	r.Connection, r.Ciphertext = in.Kept.ID, in.Kept.Size
	r.Differences = append(differences(in, x, problem), r.Differences...)
	r.Holds = len(r.Differences) == 0
	if !in.Kept.Whole {
		r.Notes = append(r.Notes, "the valve's file has no end: the connection is open, or the valve was killed")
	}
	if in.Kept.Session == "" {
		r.Notes = append(r.Notes, "the monitor never named this connection's session: that it is this one is the gateway's word")
	}
	if in.Opened != nil {
		err = in.Opened(x)
	}
	return r, err
}

// differences are those of the connection itself.
func differences(in Input, x *Stream, problem *Problem) []Difference {
	var out []Difference
	add := func(rule, format string, args ...any) {
		out = append(out, Difference{Rule: rule, Text: fmt.Sprintf(format, args...), From: x.Size, To: x.Size})
	}
	if in.Kept.Session != "" && in.Kept.Session != in.Secrets.Session {
		add("connection", "by the monitor's word this ciphertext is of session %s", in.Kept.Session)
	}
	if in.Kept.ID != in.Secrets.Connection {
		add("connection", "the gateway says that the session came through connection %s; this ciphertext is of %s", in.Secrets.Connection, in.Kept.ID)
	}
	switch {
	case x.Before > 0:
		add("clear-text", "%d bytes went to the client without TLS", x.Before)
	case problem != nil:
		add("tls", "from byte %d of %d on the ciphertext cannot be opened: %s", problem.At, in.Kept.Size, problem.Text)
	case !x.Hello:
		add("handshake", "the handshake is not the one that these secrets are of")
	}
	return out
}
