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
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/policy"
)

// Ask is what somebody asks for.
type Ask struct {
	Principal string
	Dataset   string
	Purpose   string // default the dataset's
	For       time.Duration
	Reason    string
	Subjects  []string // keys: a case of these alone
	Statement string   // SQL: only answers to statements of this shape leave
}

// Request stores a request for a dataset as it is defined now, and returns it. It does not
// look whether a rule could ever allow it: the answer to that is given where it is opened.
func (r *Rules) Request(ctx context.Context, s *control.Store, a Ask, now time.Time) (*grant.Request, error) {
	def := r.Definitions[a.Dataset]
	if def == nil || !slices.Contains(r.standingDatasets(), a.Dataset) {
		return nil, fmt.Errorf("%w: no dataset is named %q: trefoil dataset list", ErrAsk, a.Dataset)
	}
	if a.Purpose == "" {
		a.Purpose = def.Purpose
	}
	switch {
	case strings.TrimSpace(a.Reason) == "":
		return nil, fmt.Errorf("%w: a request needs a reason: --reason", ErrAsk)
	case len(a.Reason) > maxReason:
		return nil, fmt.Errorf("%w: a reason has %d bytes at most", ErrAsk, maxReason)
	case a.For <= 0:
		return nil, fmt.Errorf("%w: a request needs a time: --for 4h", ErrAsk)
	case a.Purpose != def.Purpose:
		return nil, fmt.Errorf("%w: dataset %s is for purpose %s", ErrAsk, a.Dataset, def.Purpose)
	case !utf8.ValidString(a.Reason) || strings.ContainsRune(a.Reason, 0):
		return nil, fmt.Errorf("%w: the reason is not text", ErrAsk)
	case len(a.Subjects) > maxSubjects || slices.ContainsFunc(a.Subjects, func(s string) bool {
		return s == "" || len(s) > 256 || !utf8.ValidString(s) || strings.ContainsRune(s, 0)
	}):
		return nil, fmt.Errorf("%w: a case has %d subjects at most, each named by a key", ErrAsk, maxSubjects)
	case !r.People.Known(a.Principal):
		return nil, fmt.Errorf("%w: nobody in the people file has this id", ErrAsk)
	}
	now, err := s.Latest(ctx, now)
	if err != nil {
		return nil, err
	}
	e, salt, err := r.envelope(a, def, now)
	if err != nil {
		return nil, err
	}
	if err := s.AddFor(ctx, *e, a.Reason, salt, a.Subjects, r.grantRecord(*e, "requested", "")); err != nil {
		return nil, err
	}
	return &e.Request, nil
}

// ErrAsk means that what was asked for cannot be asked for as it stands; ErrRefused, that an
// answer cannot count as things are now.
var (
	ErrAsk     = errors.New("cannot ask")
	ErrRefused = errors.New("cannot answer")
)

const (
	maxReason   = 4 << 10 // bytes of free text
	maxSubjects = 10_000  // as many as a case has
)

// envelope makes a request's envelope, and the salt of its reason.
func (r *Rules) envelope(a Ask, def *trefoil.Definition, now time.Time) (*grant.Envelope, []byte, error) {
	id, salt := make([]byte, 16), make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, nil, fmt.Errorf("draw id: %w", err)
	}
	if _, err := rand.Read(salt); err != nil {
		return nil, nil, fmt.Errorf("draw salt: %w", err)
	}
	q := grant.Request{Dataset: a.Dataset, Definition: trefoil.DefinitionHash(def), Policy: r.PolicyHash,
		From: now, Until: now.Add(a.For), ID: hex.EncodeToString(id),
		Principal: a.Principal, Purpose: a.Purpose, Reason: grant.ReasonHash(salt, a.Reason)}
	var err error
	if len(a.Subjects) > 0 {
		if q.Subjects, err = r.SubjectsDigest(a.Subjects); err != nil {
			return nil, nil, err
		}
	}
	if a.Statement != "" {
		if q.Statement, err = r.fingerprint(a.Statement); err != nil {
			return nil, nil, err
		}
	}
	e := grant.New(grant.KindRequest, q, a.Principal, now)
	if _, err := e.Text(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrAsk, err)
	}
	return &e, salt, nil
}

// fingerprint is what records say of a statement of this text.
func (r *Rules) fingerprint(text string) (string, error) {
	secret, err := readSecret(r.Config.Keys.Statements, "statements key")
	if err != nil {
		return "", err
	}
	k := keyer{secret: secret, classifier: statement.NewClassifier(nil)}
	info := k.classifier.Analyze(text)
	if info.Fingerprint == "" || info.Count != 1 {
		return "", fmt.Errorf("%w: the text is not one statement that can be read", ErrAsk)
	}
	return k.key(info.Fingerprint), nil
}

// sameSubjects reports whether a list is the one that a request was made for.
func (r *Rules) sameSubjects(q *grant.Request, subjects []string) error {
	if q.Subjects == "" {
		return nil
	}
	digest, err := r.SubjectsDigest(subjects)
	if err == nil && digest != q.Subjects {
		err = fmt.Errorf("the list is not the one that was approved: %w", grant.ErrAltered)
	}
	return err
}

// Answered is a request after an answer to it.
type Answered struct {
	Request grant.Request   `json:"request"`
	Kind    grant.Kind      `json:"kind"`
	By      string          `json:"by"`
	Granted bool            `json:"granted"`           // approved as the rules want it
	Missing []grant.Missing `json:"missing,omitempty"` // who has to approve yet
}

// Decide signs an answer to a request with the approver's key and stores it. Whoever signs
// must be listed under approvers with that key.
func (r *Rules) Decide(ctx context.Context, s *control.Store, id string, kind grant.Kind, keyFile string, now time.Time) (*Answered, error) {
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
	signed, err := grant.Sign(grant.New(kind, g.Request, approver.Name, now), signer)
	if err != nil {
		return nil, err
	}
	return r.Answer(ctx, s, signed, now)
}

// Answer verifies a signed answer, wherever it was signed, and stores it. What the gateway
// would not count is refused here, and said.
func (r *Rules) Answer(ctx context.Context, s *control.Store, signed string, now time.Time) (*Answered, error) {
	open, err := grant.Open(signed, r.Approvers)
	if err != nil {
		return nil, err
	}
	e := open.Envelope
	g, err := s.Get(ctx, e.Request.ID)
	if err != nil {
		return nil, err
	}
	if err := open.CheckAnswers(g.Request); err != nil {
		return nil, err
	}
	if now, err = s.Latest(ctx, now); err != nil {
		return nil, err
	}
	event := map[grant.Kind]string{grant.KindApproval: "approved", grant.KindDenial: "denied", grant.KindRevocation: "revoked"}[e.Kind]
	if event == "" {
		return nil, grant.ErrKind
	}
	if e.Kind == grant.KindApproval {
		if err := r.mayCount(open, g, now); err != nil {
			return nil, err
		}
	}
	d := control.Decision{Kind: e.Kind, Approver: open.Approver.Name, Envelope: signed, At: e.At}
	if err := s.Decide(ctx, e.Request.ID, d, r.grantRecord(e, event, open.Key)); err != nil {
		return nil, err
	}
	return r.answered(ctx, s, e, now)
}

// mayCount says of an approval at once what the gateway would say later.
func (r *Rules) mayCount(open *grant.Signed, g *control.Grant, now time.Time) error {
	_, err := g.Weigh(r.Book(), r.Outside(g.Request.Principal), now)
	switch {
	case errors.Is(err, grant.ErrDenied), errors.Is(err, grant.ErrRevoked), errors.Is(err, grant.ErrExpired):
		return fmt.Errorf("request %s takes no approval any more: %w", g.Request.ID, err)
	case g.Request.Policy != r.PolicyHash:
		return fmt.Errorf("%w: the policy has changed since the request was made: ask anew, so that what is approved is what was asked under it", ErrRefused)
	}
	if err := open.Check(g.Request.Principal, g.Request.Dataset, g.Request.Definition, now); err != nil {
		return err
	}
	return r.mayApprove(&open.Approver, g.Request)
}

func (r *Rules) answered(ctx context.Context, s *control.Store, e grant.Envelope, now time.Time) (*Answered, error) {
	g, err := s.Get(ctx, e.Request.ID)
	if err != nil {
		return nil, err
	}
	standing, err := g.Weigh(r.Book(), r.Outside(g.Request.Principal), now)
	out := &Answered{Request: g.Request, Kind: e.Kind, By: e.By, Granted: err == nil}
	if e.Kind == grant.KindApproval {
		out.Missing = standing.Missing
	}
	return out, nil
}

// mayApprove asks the policy whether this approver may sign for this dataset.
func (r *Rules) mayApprove(a *grant.Approver, q grant.Request) error {
	def := r.Definitions[q.Dataset]
	if def == nil || trefoil.DefinitionHash(def) != q.Definition {
		return fmt.Errorf("%w: dataset %s is not defined as it was when the request was made: ask anew", ErrRefused, q.Dataset)
	}
	purposes := a.Purposes
	if slices.Contains(purposes, "*") { // policies know no such word
		purposes = append(slices.Clone(purposes), def.Purpose)
	}
	d := r.Policy.Approve(policy.ApproveRequest{Approver: a.Name, Purposes: purposes,
		Dataset: policyDataset(def, r.Classes[q.Dataset]), Self: a.Name == q.Principal || slices.Contains(a.Persons, q.Principal)})
	if !d.Allow {
		return fmt.Errorf("%w: %s (rule %s; %s)", ErrRefused, d.Reason, d.Rule, strings.Join(d.Law, "; "))
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
