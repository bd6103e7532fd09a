package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	trefoil "github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// basis says why bytes may leave. The zero value is none.
type basis int

const (
	noBasis   basis = iota
	permitted       // a record of their own, with proof and permit (or other witnesses)
	covered         // the session's own permit
	own             // the gateway's own words, not the server's
)

// cleared says that the bytes it holds, and no others, may leave. Only this file makes one
// (a test of the repository looks). Its zero value lets nothing out.
type cleared struct {
	held  *held
	basis basis
	pass  pass
}

// pass is what the verification of a record, its proof and its permit gives.
type pass struct {
	request trefoil.PermitRequest
	leaf    [32]byte
	index   uint64
	expires time.Time // zero: unpermitted, cosigned by other witnesses
	epoch   uint64
}

// outlet owns the client's sending side.
type outlet struct{ w io.Writer }

// Errors of clearing. Each means that nothing leaves.
var (
	errNotCleared = errors.New("bytes are not cleared")
	errVoid       = errors.New("the permit has expired, or a stop came after it")
)

// letOut is the only function that writes to the client. It writes what was cleared, while
// its permit holds, and counts what the client's socket took.
func (s *Session) letOut(c cleared) error {
	switch {
	case c.held == nil || c.basis == noBasis:
		return errNotCleared
	case c.basis == permitted && !s.valid(c.pass):
		return errVoid
	case c.basis == covered && !s.start.open:
		return errNotCleared
	}
	n, err := c.held.writeTo(s.out.w)
	s.count(c.basis, n)
	if sabotage.Active("bytes") {
		s.count(c.basis, -1)
	}
	if err != nil {
		s.broken = n > 0 && n < c.held.n
		return fmt.Errorf("let out: %w", err)
	}
	return nil
}

// valid reports whether a pass still allows a release to begin.
func (s *Session) valid(p pass) bool {
	if p.expires.IsZero() {
		return s.AllowUnpermitted
	}
	return !s.Now().After(p.expires) && s.Epoch.current(p.epoch)
}

// clearOwn clears messages that the gateway itself made.
func (s *Session) clearOwn(messages []byte) (cleared, error) {
	h := newHeld(&budget{limit: int64(len(messages)) + segment}, s.pool, s.SpillDir, nil)
	if err := h.add(messages); err != nil {
		return cleared{}, err
	}
	return cleared{held: h, basis: own}, nil
}

// clearCovered clears a parcel that reads nothing but catalogs, under the session's permit,
// as long as the allowance that its record states lasts.
func (s *Session) clearCovered(ctx context.Context, p *parcel) (cleared, bool) {
	if !s.start.open || !s.startHolds(ctx) || p.held.n < 0 || s.coveredSoFar+p.held.n > s.start.allowance {
		return cleared{}, false
	}
	s.coveredSoFar += p.held.n
	return cleared{held: p.held, basis: covered}, true
}

// startHolds reports whether no stop came after the permit of the session's start. One that did
// may be about others: the monitor is asked again, once a stop. Until it permits, what would have
// been covered needs a record and a permit of its own, and the monitor's refusal says why.
func (s *Session) startHolds(ctx context.Context) bool {
	p := s.start.pass
	if p.expires.IsZero() || s.Epoch.current(p.epoch) {
		return true
	}
	seen := s.Epoch.Seen()
	if s.start.refused == seen {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, s.Limits.Wait)
	defer cancel()
	again, err := s.permit(ctx, p.request, p.leaf, p.index)
	if err != nil {
		s.start.refused = seen
		return false
	}
	s.start.pass = again
	return true
}

// clearRelease records a parcel, and clears it once record, proof and permit verify. appended
// is called as soon as the record is in the log's queue, so that the next one may follow.
func (s *Session) clearRelease(ctx context.Context, p *parcel, appended func()) (cleared, error) {
	defer appended()
	var ps pass
	var err error
	if sabotage.Hostile("skip") || p.held.n >= segment && sabotage.Point("unrecorded") != nil { // no record, no permit
		ps = pass{expires: s.Now().Add(time.Hour), epoch: math.MaxUint64}
	} else {
		ps, err = s.obtain(ctx, appended, func(unpermitted bool) (*trefoil.Body, []byte) {
			return p.body(s, unpermitted)
		})
	}
	if err != nil {
		return cleared{}, err
	}
	return cleared{held: p.held, basis: permitted, pass: ps}, nil
}

// obtain appends a record, waits for its cosigned proof, asks for the permit and verifies
// all of it. If the session may go on unpermitted and the monitor gives no answer, a second
// record says so and needs the proof of the other witnesses alone.
func (s *Session) obtain(ctx context.Context, appended func(), build func(bool) (*trefoil.Body, []byte)) (pass, error) {
	if s.AllowUnpermitted && s.monitorAway() {
		return s.unpermitted(ctx, appended, build)
	}
	wait := ctx
	if s.AllowUnpermitted { // leave time for the second way
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, s.Limits.Wait/2)
		defer cancel()
	}
	req, leaf, proof, err := s.record(wait, appended, build, false)
	if err == nil {
		var p pass
		if p, err = s.permit(wait, req, leaf, proof.Index); err == nil {
			return p, nil
		}
	}
	var d *denial
	if sabotage.Active("stop") && !(errors.As(err, &d) && d.refused()) {
		return pass{expires: s.Now().Add(time.Hour), epoch: math.MaxUint64}, nil
	}
	if errors.As(err, &d) && d.refused() || !s.AllowUnpermitted || ctx.Err() != nil {
		return pass{}, err
	}
	s.Logger.Warn("monitor gave no answer; going on under other witnesses", "session", s.Access.Session, "error", err)
	s.noteMonitorAway()
	return s.unpermitted(ctx, appended, build)
}

func (s *Session) unpermitted(ctx context.Context, appended func(), build func(bool) (*trefoil.Body, []byte)) (pass, error) {
	req, leaf, proof, err := s.record(ctx, appended, build, true)
	if err != nil {
		return pass{}, err
	}
	return pass{request: req, leaf: leaf, index: proof.Index}, nil
}

// record appends a record and verifies its proof: of the trusted witnesses, or of the others.
func (s *Session) record(ctx context.Context, appended func(), build func(bool) (*trefoil.Body, []byte), unpermitted bool) (req trefoil.PermitRequest, leaf [32]byte, proof *trefoil.Proof, err error) {
	body, opening := build(unpermitted)
	rec, err := trefoil.NewRecord(body)
	if err != nil {
		return req, leaf, nil, unrecorded(err)
	}
	if err := sabotage.Point("append"); err != nil {
		return req, leaf, nil, unrecorded(err)
	}
	ticket, err := s.Recorder.Append(ctx, rec, opening)
	if err == nil {
		err = sabotage.Point("appended")
	}
	if err != nil {
		return req, leaf, nil, unrecorded(err)
	}
	appended()
	if proof, err = ticket.Witnessed(ctx); err == nil {
		err = sabotage.Point("witnessed")
	}
	if err != nil {
		return req, leaf, nil, unanswered(err)
	}
	trust := s.Trust
	if unpermitted {
		trust = s.Others
	}
	cp, err := trust.VerifyProof(proof, rec.Leaf())
	if err != nil {
		return req, leaf, nil, unanswered(err)
	}
	if cp.Origin != s.Origin {
		return req, leaf, nil, unanswered(errors.New("the proof is of another log"))
	}
	req = trefoil.PermitRequest{Body: rec.Body, Salt: rec.Salt, Proof: proof.String(), Evidence: s.Evidence, Valve: s.Valve}
	return req, trefoil.LeafHash(rec.Leaf()), proof, nil
}

// permit asks the monitor and verifies its answer: signature, log, leaf, index, expiry, stops.
func (s *Session) permit(ctx context.Context, req trefoil.PermitRequest, leaf [32]byte, index uint64) (pass, error) {
	answer, err := s.Permitter.Permit(ctx, req)
	if err == nil {
		err = sabotage.Point("permitted")
	}
	switch {
	case err != nil:
		return pass{}, unanswered(err)
	case answer.Refusal != nil:
		return pass{}, refused(*answer.Refusal)
	}
	p, err := s.Trust.OpenPermit(answer.Permit, s.Now())
	if err != nil {
		return pass{}, unanswered(err)
	}
	switch {
	case p.Origin != s.Origin || p.Index != index || p.Leaf != leaf:
		return pass{}, unanswered(errors.New("the permit is for another record"))
	case s.Now().After(p.Expires):
		return pass{}, unanswered(errors.New("the permit has expired"))
	case !s.Epoch.raise(p.StopEpoch):
		return pass{}, unanswered(errors.New("the permit was signed before a stop"))
	}
	if err := s.Recorder.StorePermit(index, answer.Permit); err != nil {
		return pass{}, unrecorded(err)
	}
	if err := sabotage.Point("cleared"); err != nil {
		return pass{}, unrecorded(err)
	}
	return pass{request: req, leaf: leaf, index: index, expires: p.Expires, epoch: p.StopEpoch}, nil
}

// renew asks again for a permit that expired while earlier chunks waited for a slow client.
func (s *Session) renew(ctx context.Context, c cleared) (cleared, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Limits.Wait)
	defer cancel()
	p, err := s.permit(ctx, c.pass.request, c.pass.leaf, c.pass.index)
	if err != nil {
		return cleared{}, err
	}
	c.pass = p
	return c, nil
}
