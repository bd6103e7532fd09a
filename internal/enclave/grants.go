package enclave

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/policy"
)

// Ask is what somebody asks for on the command line.
type Ask struct {
	Principal string
	Dataset   string
	Purpose   string // default the dataset's
	For       time.Duration
	Reason    string
}

// Request stores a request for a dataset as it is defined now, and returns it. It does not
// look whether a rule could ever allow it: the answer to that is given where it is opened.
func (r *Rules) Request(ctx context.Context, s *control.Store, a Ask, now time.Time) (*grant.Request, error) {
	def, ok := r.Definitions[a.Dataset]
	if !ok {
		return nil, fmt.Errorf("no dataset is named %q: trefoil dataset list", a.Dataset)
	}
	if a.Purpose == "" {
		a.Purpose = def.Purpose
	}
	if strings.TrimSpace(a.Reason) == "" {
		return nil, errors.New("a request needs a reason: --reason")
	}
	if a.For <= 0 {
		return nil, errors.New("a request needs a time: --for 4h")
	}
	if !r.People.Known(a.Principal) {
		return nil, fmt.Errorf("nobody in the people file has the id %q", a.Principal)
	}
	id, salt := make([]byte, 16), make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("draw id: %w", err)
	}
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("draw salt: %w", err)
	}
	e := grant.New(grant.KindRequest, grant.Request{
		Dataset: a.Dataset, Definition: trefoil.DefinitionHash(def), Policy: r.PolicyHash,
		From: now, Until: now.Add(a.For), ID: hex.EncodeToString(id),
		Principal: a.Principal, Purpose: a.Purpose, Reason: grant.ReasonHash(salt, a.Reason),
	}, a.Principal, now)
	if err := s.Add(ctx, e, a.Reason, salt, r.grantRecord(e, "requested", "")); err != nil {
		return nil, err
	}
	return &e.Request, nil
}

// Decide signs an answer to a request with the approver's key and stores it. Whoever signs
// must be listed under approvers with that key.
func (r *Rules) Decide(ctx context.Context, s *control.Store, id string, kind grant.Kind, keyFile string, now time.Time) (*grant.Request, error) {
	signer, err := readSigner(keyFile)
	if err != nil {
		return nil, err
	}
	approver, err := r.approverOf(signer)
	if err != nil {
		return nil, err
	}
	g, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	e := grant.New(kind, g.Request, approver.Name, now)
	signed, err := grant.Sign(e, signer)
	if err != nil {
		return nil, err
	}
	if kind == grant.KindApproval { // say at once what the gateway would say later
		if g.Request.Policy != r.PolicyHash {
			return nil, errors.New("the policy has changed since the request was made: ask anew, so that what is approved is what was asked under it")
		}
		if err := grant.Check(signed, r.Approvers, g.Request.Principal, g.Request.Dataset, g.Request.Definition, now); err != nil {
			return nil, err
		}
		if err := r.mayApprove(approver, g.Request); err != nil {
			return nil, err
		}
	}
	event := map[grant.Kind]string{grant.KindApproval: "approved", grant.KindDenial: "denied", grant.KindRevocation: "revoked"}[kind]
	d := control.Decision{Kind: kind, Approver: approver.Name, Envelope: signed, At: e.At}
	if err := s.Decide(ctx, id, d, r.grantRecord(e, event, grant.KeyID(approver.Verifier))); err != nil {
		return nil, err
	}
	return &g.Request, nil
}

// mayApprove asks the policy whether this approver may sign for this dataset.
func (r *Rules) mayApprove(a *grant.Approver, q grant.Request) error {
	def := r.Definitions[q.Dataset]
	if def == nil || trefoil.DefinitionHash(def) != q.Definition {
		return fmt.Errorf("dataset %s is not defined as it was when the request was made: ask anew", q.Dataset)
	}
	d := r.Policy.Approve(policy.ApproveRequest{Approver: a.Name, Purposes: a.Purposes,
		Dataset: policyDataset(def, r.Classes[q.Dataset]), Self: a.Name == q.Principal || slices.Contains(a.Persons, q.Principal)})
	if !d.Allow {
		return fmt.Errorf("%s (rule %s; %s)", d.Reason, d.Rule, strings.Join(d.Law, "; "))
	}
	return nil
}

func (r *Rules) approverOf(signer note.Signer) (*grant.Approver, error) {
	for i, a := range r.Approvers {
		if a.Verifier.Name() == signer.Name() && a.Verifier.KeyHash() == signer.KeyHash() {
			return &r.Approvers[i], nil
		}
	}
	return nil, errors.New("this key is not listed under approvers in the enclave's configuration")
}

// grantRecord is the record of one step of a grant: the principal under the period's
// pseudonym, the request by its hash.
func (r *Rules) grantRecord(e grant.Envelope, event, key string) *trefoil.Body {
	kind := trefoil.KindGrant
	switch event {
	case "approved", "denied":
		kind = trefoil.KindApproval
	case "revoked":
		kind = trefoil.KindRevocation
	}
	return &trefoil.Body{At: e.At, Kind: kind, Grant: &trefoil.GrantBody{
		Dataset: e.Request.Dataset, Event: event, Grant: e.Request.ID, Hash: e.Hash, Key: key,
		Principal: trefoil.StaffPseudonym(r.StaffKey, e.At, e.Request.Principal), Until: e.Request.Until,
	}}
}

// readSigner reads a note signing key from a file.
func readSigner(path string) (note.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	s, err := note.NewSigner(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("read signing key %s: not a note signing key", path)
	}
	return s, nil
}
