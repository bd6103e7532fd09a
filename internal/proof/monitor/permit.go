package monitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
	"golang.org/x/mod/sumdb/note"
)

// errUnproved means that a request names no record of a watched log: its body, salt, proof
// and checkpoint do not belong together. Ask with what the log gave; nothing was kept.
var errUnproved = errors.New("request proves no record of a watched log")

// predecessorWait is how long a chunk waits for the one before it: chunks are asked for at
// the same time, and the network may turn them round.
const predecessorWait = time.Second

// renewFor is how long after a permitted record's time its permit may be renewed: chunks that
// wait for a slow client outlive their first permit.
const renewFor = 30 * time.Minute

// proved is a record that is in a watched log under a checkpoint this monitor cosigned.
type proved struct {
	log   int
	index uint64
	leaf  [32]byte
	body  *trefoil.Body
	raw   []byte
	salt  []byte
	cp    *trefoil.Checkpoint
	valve string // the valve's connection that the request names
}

func (p *proved) key() recordKey { return recordKey{p.log, p.index} }

// prove checks that the request's record is what the log holds. Errors wrap errUnproved.
func (m *Monitor) prove(r *trefoil.PermitRequest) (*proved, error) {
	body, err := trefoil.DecodeBody(r.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnproved, err)
	}
	if len(r.Salt) != trefoil.SaltSize {
		return nil, fmt.Errorf("%w: salt size", errUnproved)
	}
	p, err := trefoil.ParseProof(r.Proof)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnproved, err)
	}
	log, watched := m.state.logs[body.Origin]
	if !watched {
		return nil, fmt.Errorf("%w: origin is not watched", errUnproved)
	}
	leaf := trefoil.Record{Body: r.Body, Salt: r.Salt}.Leaf()
	cp, err := m.followers[log].trust.VerifyProof(p, leaf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnproved, err)
	}
	if cp.Size > m.followers[log].witness.size() {
		m.setBack(log, p.Checkpoint)
	}
	return &proved{log: log, index: p.Index, leaf: trefoil.LeafHash(leaf), body: body, raw: r.Body, salt: r.Salt, cp: cp, valve: r.Valve}, nil
}

// setBack takes note that the monitor signed more than its disk remembers.
func (m *Monitor) setBack(log int, cp []byte) {
	w := m.followers[log].witness
	learned, err := w.learn(cp)
	if err != nil {
		m.logger.Error("keep own checkpoint", "error", err)
	}
	if learned {
		m.setBackHalt()
		m.finding(Finding{Rule: "state-set-back", Origin: w.log.Name(),
			Text: "a checkpoint that this monitor signed is larger than the one it kept: its disk was restored from an older copy", Evidence: string(cp)})
	}
}

// Permit judges one request. It returns the signed permit, or a refusal, or an error that
// wraps errUnproved (the request) or errJournal (the monitor's disk).
func (m *Monitor) Permit(ctx context.Context, r *trefoil.PermitRequest) (string, *refusal, error) {
	p, err := m.prove(r)
	if err != nil {
		return "", nil, err
	}
	now := m.now()
	deadline := time.NewTimer(predecessorWait)
	defer deadline.Stop()
	by := m.book()
	zone, no := m.judge(p, r.Evidence, now)
	for late := false; ; {
		if other := m.rulesChanged(by); other != nil { // nothing is decided by rules that no longer count
			by = other
			zone, no = m.judge(p, r.Evidence, now)
			continue
		}
		seq, permit, refused, wait := m.decide(p, by, zone, no, now, late)
		if wait == nil {
			return m.answer(seq, permit, refused)
		}
		select {
		case <-wait:
		case <-deadline.C:
			late = true
		case <-ctx.Done():
			return "", nil, fmt.Errorf("wait for the chunk before: %w", ctx.Err())
		}
	}
}

// rulesChanged returns the rules in force if they are others than by.
func (m *Monitor) rulesChanged(by *book) *book {
	if now := m.book(); now != by {
		return now
	}
	return nil
}

// answer waits until the decision is on disk, then signs.
func (m *Monitor) answer(seq uint64, permit *trefoil.Permit, no *refusal) (string, *refusal, error) {
	if err := m.journal.wait(seq); err != nil {
		return "", nil, err
	}
	if err := sabotage.Point("permit-kept"); err != nil {
		return "", nil, err
	}
	if no != nil {
		return "", no, nil
	}
	first, others := m.keys.permitAt(m.now())
	text, err := trefoil.SignPermit(*permit, first, others...)
	if err != nil {
		return "", nil, fmt.Errorf("permit: %w", err)
	}
	return text, nil, nil
}

// judge applies the rules that need no session: kind, clock, access, ceilings.
func (m *Monitor) judge(p *proved, evidence []string, now time.Time) (law.Zone, *refusal) {
	b := p.body
	access, no := judged(b)
	if no != nil {
		return law.ZoneUnknown, no
	}
	late := m.book().doubt
	m.state.mu.Lock()
	if r := m.state.records.get(p.key()); r != nil && r.permitted {
		late = max(late, renewFor)
		if x := m.state.sessions[access.Session]; b.Session != nil && x != nil && x.closed == 0 {
			late = math.MaxInt64 // a stop of others voided the start of a session that goes on
		}
	}
	m.state.mu.Unlock()
	if m.clockBack(now) {
		return law.ZoneUnknown, refuse(ruleClock, "", "the monitor's own clock was set back: it permits nothing until it is right")
	}
	if d := now.Sub(b.At); d > late || d < -m.book().doubt {
		return law.ZoneUnknown, refuse(ruleClock, "", "the record's time is too far from the monitor's clock")
	}
	c := &accessCase{access: access, recorded: b.At, evidence: evidence, release: b.Release, revoked: m.revoked, now: now}
	m.state.mu.Lock()
	c.definition = m.state.acknowledged(access.Dataset, access.Hashes.Dataset)
	c.parents = m.state.parents(c.definition)
	if x := m.state.sessions[access.Session]; x != nil {
		c.began = x.startAt
	}
	m.state.mu.Unlock()
	zone, no := m.book().judge(c)
	if no != nil {
		return zone, no
	}
	return zone, m.book().ceilings(b)
}

// judged returns the access of a body that a permit can be asked for.
func judged(b *trefoil.Body) (*trefoil.Access, *refusal) {
	switch {
	case !trefoil.NeedsPermit(b):
		return nil, refuse(ruleKind, "", "records of this kind need no permit")
	case trefoil.Unpermitted(b):
		return nil, refuse(ruleUnpermitted, "", "the record says that it went out without a permit: it gets none afterwards")
	case b.Release != nil:
		return &b.Release.Access, nil
	}
	return &b.Session.Access, nil
}

// ceilings bounds one record.
func (b *book) ceilings(body *trefoil.Body) *refusal {
	c := b.rules.Ceilings
	no := refuse(ruleCeiling, "GDPR art. 5(1)(c)", "more than the monitor's rules let out at once")
	switch {
	case body.Release != nil:
		r := body.Release
		if r.Bytes < 0 || r.Rows < 0 || r.Chunk < 0 || r.Bytes > c.ChunkBytes || r.Rows > c.ChunkRows || r.Cumulative > c.SessionBytes {
			return no
		}
	case body.Session.Allowance < 0 || body.Session.Allowance > c.Allowance:
		return no
	}
	return nil
}

func (m *Monitor) revoked(id string) bool {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	return m.state.revoked[id]
}

// decide puts the record in its session's chain and appends the decision to the journal, in
// one step. A non-nil channel means: the chunk before is not decided yet; ask again when it
// closes, or with late when it takes too long.
func (m *Monitor) decide(p *proved, by *book, zone law.Zone, no *refusal, now time.Time, late bool) (uint64, *trefoil.Permit, *refusal, <-chan struct{}) {
	s := m.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.rulesChanged(by) != nil {
		again := make(chan struct{})
		close(again)
		return 0, nil, nil, again
	}
	e := recordEntry(p.body, p.index, p.leaf, p.salt, now)
	known := s.records.get(p.key())
	stopped := m.stopOf(p.body, now)
	misplaced := m.bound(p, e.Session, zone)
	if s.sessions[e.Session] == nil {
		e.Valve = p.valve
	}
	switch {
	case stopped != nil:
		no = stopped
	case known != nil && known.leaf != half(p.leaf):
		no = refuse(ruleReplay, "", "the log holds another record at this place than it held before")
	case misplaced != nil:
		if no == nil {
			no = misplaced
		}
	case known != nil && known.permitted && known.epoch == s.epoch && now.Unix() < known.expires: // asked again: the same permit
		return m.journal.last(), m.permitOf(p, known.expires, known.epoch), nil, nil
	case known != nil && known.permitted: // it ran out, or a stop voided it: judged anew
		if x := s.sessions[e.Session]; no == nil && (x == nil || x.closed != 0) {
			no = refuse(ruleSession, "", "the session has ended")
		}
	case no == nil:
		var wait <-chan struct{}
		if no, wait = m.chain(p, e, zone, late); wait != nil {
			return 0, nil, nil, wait
		}
		if m.counted(e, p.body, now); no == nil {
			no = s.usage.exceeds(e, &m.book().rules.Ceilings)
		}
	}
	if no != nil {
		e.Rule, e.Law, e.Who, e.Grant, e.Rows = no.Rule, no.Law, "", "", 0
	} else {
		e.Permitted, e.Expires, e.Epoch = true, now.Add(m.book().term).Unix(), s.epoch
	}
	raw := p.raw
	if known != nil {
		raw = nil // the journal has the body
	}
	seq, err := m.step(e, raw)
	if err != nil {
		m.logger.Error("append decision", "error", err)
		return 0, nil, refuse(ruleDisk, "", "the monitor cannot write its journal"), nil
	}
	m.anomalies.note(seq, e, p.body, known == nil)
	return seq, m.permitOf(p, e.Expires, e.Epoch), no, nil
}

func (m *Monitor) permitOf(p *proved, expires int64, epoch uint64) *trefoil.Permit {
	return &trefoil.Permit{Origin: p.body.Origin, Index: p.index, Leaf: p.leaf, Expires: time.Unix(expires, 0).UTC(), StopEpoch: epoch}
}

// chain checks the record against its session. The state's lock is held.
func (m *Monitor) chain(p *proved, e *entry, zone law.Zone, late bool) (*refusal, <-chan struct{}) {
	x := m.state.sessions[e.Session]
	lenient := zone == law.ZoneRegion
	switch {
	case len(e.Session) != 32:
		return refuse(ruleSession, "", "the session's name is not 32 hex digits"), nil
	case e.Kind == trefoil.KindSession && x != nil:
		return refuse(ruleReplay, "", "a session of this name began before"), nil
	case e.Kind == trefoil.KindSession:
		return nil, nil
	case x == nil && !lenient:
		return refuse(ruleSession, "", "no start of this session was permitted"), nil
	case x == nil:
		return m.gap(p, "a session in the region that began without the monitor"), nil
	case x.log != p.log:
		return refuse(ruleReplay, "", "the session belongs to another log"), nil
	case x.closed != 0:
		return refuse(ruleSession, "", "the session has ended"), nil
	case !x.permitted && !lenient:
		return refuse(ruleSession, "", "the start of this session was not permitted"), nil
	case x.access != [32]byte(e.Access):
		return refuse(ruleAccess, "", "the access is not that of the session's start"), nil
	case e.Chunk < x.next:
		return refuse(ruleReplay, "", "another record was permitted for this chunk"), nil
	case e.Chunk > x.next && !late:
		return nil, x.changed
	case e.Chunk > x.next && !lenient:
		return refuse(ruleGap, "", "the chunk before was not permitted"), nil
	case e.Cumulative != x.total+e.Bytes && !lenient:
		return refuse(ruleGap, "", "the bytes do not add up to those of the chunks before"), nil
	case e.Cumulative < x.total+e.Bytes:
		return refuse(ruleGap, "", "the bytes are fewer than those of the chunks before"), nil
	case e.Chunk > x.next || e.Cumulative != x.total+e.Bytes:
		return m.gap(p, "chunks of a session in the region are missing before this one"), nil
	}
	return nil, nil
}

// gap notes what is tolerated in the region and nowhere else.
func (m *Monitor) gap(p *proved, text string) *refusal {
	m.finding(Finding{Rule: "gap", Origin: p.body.Origin, Index: &p.index, Text: text})
	return nil
}

// trustOf is what a proof to this monitor must carry: the log's signature and its own.
func trustOf(log, own note.Verifier) *trefoil.Trust {
	return &trefoil.Trust{Log: log, Witnesses: []note.Verifier{own}}
}
