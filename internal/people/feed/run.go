package feed

import (
	"context"
	"errors"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
)

// Run looks for new models, checks, measures and expires until the context ends. It returns
// once nothing of it runs any more.
func (s *Service) Run(ctx context.Context) error {
	reload, checks := time.NewTicker(time.Duration(s.config.Reload)), time.NewTicker(time.Duration(s.config.Checks.Every))
	defer reload.Stop()
	defer checks.Stop()
	s.duties(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload.C:
			if err := s.Reload(ctx); err != nil && ctx.Err() == nil {
				s.logger.Error("look for new models", "err", err)
			}
		case <-checks.C:
			s.duties(ctx)
		}
	}
}

// dayMaker is a store that has partitions to make ahead of their day.
type dayMaker interface {
	EnsureDay(ctx context.Context, at time.Time) error
}

// Duties does once what Run does at every interval of checks, and returns what failed.
func (s *Service) Duties(ctx context.Context) error {
	now := s.now()
	days := []time.Time{now}
	if now.Sub(decision.Day(now)) < 2*time.Duration(s.config.Checks.Every) {
		days = append(days, now.AddDate(0, 0, -1)) // its last hours were not checked yet
	}
	_, err := s.CheckAll(ctx, days...)
	err = errors.Join(err, s.CheckSheets(ctx))
	_, expired := s.store.Expire(ctx, now.AddDate(0, 0, -s.config.Retention))
	err = errors.Join(err, expired)
	if m, ok := s.store.(dayMaker); ok {
		err = errors.Join(err, m.EnsureDay(ctx, now), m.EnsureDay(ctx, now.AddDate(0, 0, 1)))
	}
	return err
}

func (s *Service) duties(ctx context.Context) {
	if err := s.Duties(ctx); err != nil && ctx.Err() == nil {
		s.logger.Error("duties of the feed", "err", err)
	}
}
