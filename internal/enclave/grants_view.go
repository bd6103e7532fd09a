package enclave

import (
	"errors"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// States of a request, as they are shown.
const (
	StateWaiting = "waiting"
	StateGranted = "granted"
	StateNotYet  = "not yet"
	StateDenied  = "denied"
	StateRevoked = "revoked"
	StateExpired = "expired"
)

// GrantView is a request with what its answers come to.
type GrantView struct {
	Request grant.Request   `json:"request"`
	Hash    string          `json:"hash"` // of the request: what approvals sign
	Reason  string          `json:"reason,omitempty"`
	At      time.Time       `json:"at"`
	State   string          `json:"state"`
	Missing []grant.Missing `json:"missing,omitempty"` // who has to approve yet
	Answers []AnswerView    `json:"answers,omitempty"`
	Case    string          `json:"case,omitempty"`  // the dataset that is opened with it
	Stale   string          `json:"stale,omitempty"` // why no approval of it counts any more
}

// AnswerView is one answer.
type AnswerView struct {
	Kind     grant.Kind `json:"kind"`
	Approver string     `json:"approver"`
	At       time.Time  `json:"at"`
	Counts   bool       `json:"counts"` // an approval that the rules count
}

// View tells what the answers to a request come to at now.
func (r *Rules) View(g *control.Grant, now time.Time) GrantView {
	s, err := g.Weigh(r.Book(), r.Outside(g.Request.Principal), now)
	v := GrantView{Request: g.Request, Hash: g.Request.Hash(), Reason: g.Reason, At: g.At.UTC()}
	switch {
	case err == nil:
		v.State = StateGranted
	case errors.Is(err, grant.ErrDenied):
		v.State = StateDenied
	case errors.Is(err, grant.ErrRevoked):
		v.State = StateRevoked
	case errors.Is(err, grant.ErrExpired):
		v.State = StateExpired
	case errors.Is(err, grant.ErrNotYet):
		v.State = StateNotYet
	default:
		v.State, v.Missing = StateWaiting, s.Missing
		if g.Request.Policy != r.PolicyHash {
			v.Stale = "the policy has changed since: ask anew"
		}
	}
	for _, d := range g.Decisions {
		counts := slices.ContainsFunc(s.Approvals, func(a *grant.Signed) bool { return d.Kind == grant.KindApproval && a.Approver.Name == d.Approver })
		v.Answers = append(v.Answers, AnswerView{Kind: d.Kind, Approver: d.Approver, At: d.At.UTC(), Counts: counts})
	}
	if g.Request.Subjects != "" {
		v.Case = CaseName(g.Request.ID)
	}
	return v
}
