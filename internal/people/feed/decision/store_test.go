package decision_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func postgres(t *testing.T) (*decision.Postgres, *pgxpool.Pool) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.Start(t).Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	p := decision.NewPostgres(pool)
	if err := errors.Join(p.Prepare(t.Context()), p.Prepare(t.Context())); err != nil {
		t.Fatal(err)
	}
	return p, pool
}

// both runs a test against each kind of store.
func both(t *testing.T, test func(t *testing.T, s decision.Store)) {
	t.Run("postgres", func(t *testing.T) {
		p, _ := postgres(t)
		test(t, p)
	})
	t.Run("memory", func(t *testing.T) { test(t, decision.NewMemory(10_000)) })
}

func save(t *testing.T, s decision.Store, d *decision.Decision) *decision.Decision {
	t.Helper()
	if err := s.Save(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestADecisionComesBackFromItsStore(t *testing.T) {
	both(t, func(t *testing.T, s decision.Store) {
		d := save(t, s, made("anna", noon, 30, random()))
		back, err := s.Get(t.Context(), d.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, back, d)
		if _, err := s.Get(t.Context(), decision.NewID(noon)); !errors.Is(err, decision.ErrNotFound) {
			t.Errorf("an unknown id: %v", err)
		}
	})
}

func TestErasureLeavesNothingOfTheSubjectAndAllOfOthers(t *testing.T) {
	both(t, func(t *testing.T, s decision.Store) {
		for day := range 3 {
			for _, who := range []string{"anna", "bert", "anna' or 'a'='a"} {
				save(t, s, made(who, noon.AddDate(0, 0, day), 3, random()))
			}
		}
		if err := s.Restrict(t.Context(), "anna", true); err != nil {
			t.Fatal(err)
		}
		held, err := s.Access(t.Context(), "anna")
		if err != nil || len(held) != 3 || held[0].At().After(held[2].At()) {
			t.Fatalf("access gave %d of 3: %v", len(held), err)
		}
		if n, err := s.Erase(t.Context(), "anna"); err != nil || n != 3 {
			t.Fatalf("erased %d of 3: %v", n, err)
		}
		if left, err := s.Access(t.Context(), "anna"); err != nil || len(left) != 0 {
			t.Errorf("%d decisions outlived their erasure: %v", len(left), err)
		}
		if on, err := s.Restricted(t.Context(), "anna"); err != nil || on {
			t.Errorf("the restriction outlived the erasure: %v", err)
		}
		if left, err := s.Access(t.Context(), "bert"); err != nil || len(left) != 3 {
			t.Errorf("%d of another's decisions are left: %v", len(left), err)
		}
	})
}

func TestARestrictedSubjectIsSampledForNothing(t *testing.T) {
	both(t, func(t *testing.T, s decision.Store) {
		for range 5 {
			save(t, s, made("anna", noon, 3, random()))
			save(t, s, made("bert", noon, 3, random()))
		}
		count := func() map[string]int {
			found, err := s.Sample(t.Context(), "for-you", noon, 100)
			if err != nil {
				t.Fatal(err)
			}
			by := map[string]int{}
			for _, d := range found {
				by[d.Subject]++
			}
			return by
		}
		if got := fmt.Sprint(count()); got != "map[anna:5 bert:5]" {
			t.Errorf("before: %s", got)
		}
		if err := s.Restrict(t.Context(), "anna", true); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(count()); got != "map[bert:5]" {
			t.Errorf("restricted: %s", got)
		}
		if held, err := s.Access(t.Context(), "anna"); err != nil || len(held) != 5 {
			t.Errorf("restriction took away what it keeps: %d, %v", len(held), err)
		}
		if err := s.Restrict(t.Context(), "anna", false); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(count()); got != "map[anna:5 bert:5]" {
			t.Errorf("lifted: %s", got)
		}
	})
}

func TestASampleIsOfItsDayAndSurfaceAndNoLargerThanAsked(t *testing.T) {
	both(t, func(t *testing.T, s decision.Store) {
		for i := range 20 {
			d := made(fmt.Sprint(i), noon, 2, random())
			if i%2 == 0 {
				d.Surface = "search"
			}
			save(t, s, d)
		}
		save(t, s, made("late", noon.AddDate(0, 0, 1), 2, random()))
		for _, n := range []int{1, 4, 10, 50} {
			found, err := s.Sample(t.Context(), "for-you", noon, n)
			if err != nil || len(found) != min(n, 10) {
				t.Errorf("asked for %d, got %d: %v", n, len(found), err)
			}
			seen := map[decision.ID]bool{}
			for _, d := range found {
				if seen[d.ID] || d.Surface != "for-you" || d.Subject == "late" {
					t.Errorf("a wrong decision in the sample")
				}
				seen[d.ID] = true
			}
		}
	})
}

func TestRetentionDropsWholeDays(t *testing.T) {
	both(t, func(t *testing.T, s decision.Store) {
		var ids []decision.ID
		for day := range 5 {
			ids = append(ids, save(t, s, made("anna", noon.AddDate(0, 0, day), 2, random())).ID)
		}
		if n, err := s.Expire(t.Context(), noon.AddDate(0, 0, 2)); err != nil || n != 2 {
			t.Fatalf("dropped %d days of 2: %v", n, err)
		}
		for day, id := range ids {
			if _, err := s.Get(t.Context(), id); errors.Is(err, decision.ErrNotFound) != (day < 2) {
				t.Errorf("day %d: %v", day, err)
			}
		}
		save(t, s, made("anna", noon, 2, random())) // a late one finds its partition made again
	})
}

// The partition is dropped by one process while another still believes that it exists.
func TestAPartitionThatVanishedIsMadeAgain(t *testing.T) {
	p, pool := postgres(t)
	save(t, p, made("anna", noon, 2, random()))
	if _, err := pool.Exec(t.Context(), "drop table trefoil_feed.decisions_20260501"); err != nil {
		t.Fatal(err)
	}
	save(t, p, made("anna", noon, 2, random()))
}

func TestManyDecisionsAtMidnightMakeOnePartition(t *testing.T) {
	p, _ := postgres(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() { errs[i] = p.Save(ctx, made("anna", noon.Add(12*time.Hour), 2, random())) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestAnAlteredPayloadIsNotReadAsADecision(t *testing.T) {
	p, pool := postgres(t)
	d := save(t, p, made("anna", noon, 5, random()))
	if _, err := pool.Exec(t.Context(), "update trefoil_feed.decisions set payload = substring(payload for 40)"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Get(t.Context(), d.ID); err == nil {
		t.Error("half a decision was a decision")
	}
}
