package enclave

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// endUngranted ends the sessions whose grant is in force no more: revoked, run out by the
// latest time that any gateway saw, gone from the store, or resting on an approver who is one
// no more.
func (r *Rules) endUngranted(ctx context.Context, s *control.Store, g sessions, now time.Time, logger *slog.Logger) error {
	held := map[string]bool{}
	for _, x := range g.Sessions() {
		if x.Grant != "" {
			held[x.Grant] = true
		}
	}
	if len(held) == 0 {
		return nil
	}
	now, err := s.Latest(ctx, now)
	errs := []error{err}
	for id := range held {
		found, err := s.Get(ctx, id)
		if err != nil && !errors.Is(err, control.ErrNotFound) {
			errs = append(errs, err)
			continue
		}
		why := "the grant behind this session is not known any more"
		if found != nil {
			_, err := found.Weigh(r.Book(), r.Outside(found.Request.Principal), now)
			if err == nil {
				continue
			}
			why = endedBecause(err)
		}
		n := g.CloseSessions(func(x gateway.SessionInfo) bool { return x.Grant == id }, why)
		logger.Info("grant is in force no more", "grant", id, "why", why, "sessions", n)
	}
	return errors.Join(errs...)
}

func endedBecause(err error) string {
	switch {
	case errors.Is(err, grant.ErrExpired):
		return "the grant behind this session has expired"
	case errors.Is(err, grant.ErrRevoked), errors.Is(err, grant.ErrDenied):
		return "the grant was revoked"
	}
	return "the grant was revoked: its approvals do not suffice any more"
}

// terms notes the time, so that a clock that is set back revives nothing, and records the
// grants that have run out.
func (d *duties) terms(ctx context.Context) error {
	now, err := d.store.Seen(ctx, d.scribe.now())
	if err != nil {
		return err
	}
	r := d.now.get()
	_, err = d.store.Expire(ctx, now, func(g control.Grant) *trefoil.Body {
		b := r.grantRecord(grant.Envelope{At: now.Truncate(time.Second), Hash: g.Request.Hash(), Request: g.Request}, "expired", "")
		return b
	})
	return err
}

// openGranted opens a case for each grant with subjects that is approved now. It can stop
// anywhere: the list of subjects goes when the case has it.
func (r *Rules) openGranted(ctx context.Context, s *control.Store, b *dataset.Builder, now time.Time, logger *slog.Logger) error {
	waiting, err := s.Waiting(ctx)
	if err != nil || len(waiting) == 0 {
		return err
	}
	cases, err := s.Cases(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i := range waiting {
		g := &waiting[i]
		opened := slices.ContainsFunc(cases, func(c control.Case) bool { return c.Grant == g.Request.ID })
		if !opened {
			_, err := g.Weigh(r.Book(), r.Outside(g.Request.Principal), now)
			switch {
			case errors.Is(err, grant.ErrMissing), errors.Is(err, grant.ErrNotYet):
				continue
			case err == nil:
				err = r.openCaseOf(ctx, s, b, g, now)
				if err != nil {
					errs = append(errs, fmt.Errorf("grant %s: %w", g.Request.ID, err))
					continue
				}
				logger.Info("case opened", "grant", g.Request.ID, "case", CaseName(g.Request.ID))
			}
		}
		errs = append(errs, s.ForgetSubjects(ctx, g.Request.ID))
	}
	return errors.Join(errs...)
}

func (r *Rules) openCaseOf(ctx context.Context, s *control.Store, b *dataset.Builder, g *control.Grant, now time.Time) error {
	subjects, err := s.Subjects(ctx, g.Request.ID)
	if err != nil || len(subjects) == 0 {
		return err
	}
	_, err = r.OpenCase(ctx, s, b, AskCase{Grant: g.Request.ID, Subjects: subjects}, now)
	return err
}
