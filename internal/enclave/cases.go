package enclave

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// AskCase is what a case is opened with: an approved grant, or a name with a dataset and a time.
type AskCase struct {
	Grant    string // id; its dataset and its end are the case's
	Name     string // after case_; "" takes it from the grant
	Dataset  string
	Subjects []string

	Principals []string      // who may open it through the gateway, without a grant: nobody by default. A grant's case is its principal's
	For        time.Duration // shortens a grant's end; needed without a grant
}

// CaseName is the name of a grant's case.
func CaseName(grantID string) string { return "case_" + grantID[:min(12, len(grantID))] }

// SubjectsDigest binds a list of subjects' keys, as a case's definition does.
func (r *Rules) SubjectsDigest(subjects []string) (string, error) {
	return dataset.SubjectsDigest(r.Config.Keys.Digests, subjects)
}

// BuildCase opens a case and builds it. When it cannot be built nothing of it is left but its
// name. One that a follower was quicker to take is being built when it returns.
func (r *Rules) BuildCase(ctx context.Context, s *control.Store, b *dataset.Builder, a AskCase, now time.Time) (*control.Case, error) {
	c, err := r.OpenCase(ctx, s, b, a, now)
	if err != nil {
		return nil, err
	}
	if _, _, err := b.Build(ctx, c.Name); err != nil && !errors.Is(err, dataset.ErrBusy) {
		_, undo := r.EndCase(context.WithoutCancel(ctx), s, b, c.Name, now)
		return nil, errors.Join(err, undo)
	}
	return c, nil
}

// OpenCase stores a case and tells the builder of it. Who follows datasets builds it, or else
// the gateway.
func (r *Rules) OpenCase(ctx context.Context, s *control.Store, b *dataset.Builder, a AskCase, now time.Time) (*control.Case, error) {
	c := control.Case{Dataset: a.Dataset, Grant: a.Grant, Subjects: a.Subjects, At: now.UTC(), Until: now.UTC().Add(a.For)}
	switch {
	case a.Grant != "":
		q, err := r.granted(ctx, s, a.Grant, now)
		if err != nil {
			return nil, err
		}
		if a.Dataset != "" && a.Dataset != q.Dataset {
			return nil, fmt.Errorf("grant %s is for dataset %s, not for %s", a.Grant, q.Dataset, a.Dataset)
		}
		if c.Dataset = q.Dataset; a.For <= 0 || c.Until.After(q.Until) {
			c.Until = q.Until
		}
		if err := r.sameSubjects(q, a.Subjects); err != nil {
			return nil, err
		}
		if len(a.Principals) > 0 {
			return nil, errors.New("the case of a grant is opened by the grant's principal and nobody else")
		}
		a.Principals = []string{q.Principal}
		if a.Name == "" {
			a.Name = strings.TrimPrefix(CaseName(a.Grant), "case_")
		}
	case a.Name == "" || a.Dataset == "" || a.For <= 0:
		return nil, errors.New("a case without a grant needs a name, a dataset and a time: --case NAME --dataset DATASET --for 4h")
	case a.For > grant.MaxTerm:
		return nil, fmt.Errorf("a case lasts %d days at the most", int(grant.MaxTerm.Hours()/24))
	}
	for _, p := range a.Principals {
		if a.Grant == "" && !r.People.Known(p) {
			return nil, errors.New("the case is for somebody whom the people file does not name")
		}
		c.Who = append(c.Who, trefoil.CasePseudonym(r.StaffKey, "case_"+a.Name, p))
	}
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("draw id: %w", err)
	}
	c.ID, c.Name, c.Until = hex.EncodeToString(id), "case_"+a.Name, c.Until.Truncate(time.Second)
	if err := b.CheckCase(caseOf(c)); err != nil {
		return nil, err
	}
	if err := s.AddCase(ctx, c); err != nil {
		return nil, err
	}
	return &c, LoadCases(ctx, s, b)
}

// granted returns the request of a grant that is approved and in force now.
func (r *Rules) granted(ctx context.Context, s *control.Store, id string, now time.Time) (*grant.Request, error) {
	g, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	def := r.Definitions[g.Request.Dataset]
	if def == nil {
		return nil, fmt.Errorf("grant %s: its dataset %s is not defined any more", id, g.Request.Dataset)
	}
	use := control.Use{Principal: g.Request.Principal, Dataset: g.Request.Dataset, Definition: trefoil.DefinitionHash(def),
		Subjects: g.Request.Subjects, Outside: r.Outside(g.Request.Principal), At: now}
	if _, _, err := control.Held([]control.Grant{*g}, r.Book(), use); err != nil {
		return nil, fmt.Errorf("grant %s: %w", id, err)
	}
	return &g.Request, nil
}

func caseOf(c control.Case) dataset.Case {
	return dataset.Case{ID: c.ID, Name: c.Name, Of: c.Dataset, Grant: c.Grant, Subjects: c.Subjects, Until: c.Until, Who: c.Who}
}

// LoadCases tells a builder which cases there are.
func LoadCases(ctx context.Context, s *control.Store, b *dataset.Builder) error {
	stored, err := s.Cases(ctx)
	if err != nil {
		return err
	}
	cases := make([]dataset.Case, len(stored))
	for i, c := range stored {
		cases[i] = caseOf(c)
	}
	return b.SetCases(cases)
}

// Overdue lists the cases that are to end now: their time is over, or their grant is in force
// no more.
func (r *Rules) Overdue(ctx context.Context, s *control.Store, now time.Time) ([]string, error) {
	stored, err := s.Cases(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range stored {
		over := !now.Before(c.Over)
		if !over && c.Grant != "" {
			_, err := r.granted(ctx, s, c.Grant, now)
			over = errors.Is(err, control.ErrNoApproval) || errors.Is(err, control.ErrNotFound)
		}
		if over {
			out = append(out, c.Name)
		}
	}
	return out, nil
}

// EndCase drops a case, destroys its key, and forgets its subjects. The records of it stand
// before the store says that it ended; a case that is being followed is refused (dataset.ErrBusy).
func (r *Rules) EndCase(ctx context.Context, s *control.Store, b *dataset.Builder, name string, now time.Time) (*dataset.Dropped, error) {
	c, ok := b.Case(name)
	if !ok {
		return nil, fmt.Errorf("there is no case %s", name)
	}
	d, err := b.EndCase(ctx, name)
	if err != nil {
		return nil, err
	}
	record := &trefoil.Body{At: now.UTC().Truncate(time.Microsecond), Kind: trefoil.KindKey, Origin: r.Config.Log.Origin,
		Key: &trefoil.KeyBody{Event: "destroyed", Key: dataset.CaseKey(c.ID) + "/" + strconv.Itoa(1), Use: "pseudonyms"}}
	if err := s.EndCase(ctx, name, now.UTC(), record); err != nil {
		return d, err
	}
	return d, LoadCases(ctx, s, b)
}
