package accesslog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

// notWitnessed requires that no proof comes within d, and that the error says why.
func notWitnessed(t *testing.T, ticket *accesslog.Ticket, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	start := time.Now()
	p, err := ticket.Witnessed(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || p != nil {
		t.Fatalf("Witnessed = %v, %v; want no proof and a deadline", p, err)
	}
	if over := time.Since(start) - d; over > 20*time.Second {
		t.Fatalf("Witnessed returned %v after its deadline", over)
	}
}

func TestWitnessAwayAtStart(t *testing.T) {
	f := newFixture(t, 0)
	w := witnesstest.New(t, "late.example", f.verifier)
	f.add(t, w)
	start := time.Now()
	l := f.open(t)
	if took := time.Since(start); took > 20*time.Second {
		t.Fatalf("Open took %v while a witness is away", took)
	}
	r := record(t, 1)
	ticket := appendRecord(t, l, r)
	notWitnessed(t, ticket, 400*time.Millisecond)
	w.Listen(t)
	back := time.Now()
	if _, err := f.trust.VerifyProof(witnessed(t, ticket), r.Leaf()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(back); took > 30*time.Second {
		t.Fatalf("publication resumed after %v", took)
	}
}

func TestWitnessThatHangsAtStartDoesNotHoldOpen(t *testing.T) {
	f := newFixture(t, 1)
	f.config.WitnessTimeout = 2 * time.Minute
	f.witnesses[0].Set(witnesstest.Silent, 0)
	start := time.Now()
	l := f.open(t)
	if took := time.Since(start); took > 20*time.Second {
		t.Fatalf("Open took %v", took)
	}
	notWitnessed(t, appendRecord(t, l, record(t, 1)), 200*time.Millisecond)
	f.witnesses[0].Set(witnesstest.Honest, 0)
}

func TestWitnessGoesAndComesBack(t *testing.T) {
	for name, mode := range map[string]witnesstest.Mode{"refuses": witnesstest.Away, "hangs": witnesstest.Silent, "forges": witnesstest.Forged} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 1)
			l := f.open(t)
			witnessed(t, appendRecord(t, l, record(t, 0)))
			f.witnesses[0].Set(mode, 0)
			r := record(t, 1)
			ticket := appendRecord(t, l, r)
			notWitnessed(t, ticket, 500*time.Millisecond)
			if c := l.Checkpoint(); c.Size != 1 {
				t.Fatalf("a checkpoint of size %d counts without its cosignature", c.Size)
			}
			f.witnesses[0].Set(witnesstest.Honest, 0)
			if _, err := f.trust.VerifyProof(witnessed(t, ticket), r.Leaf()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestQueueIsBoundedWhileWitnessesAreAway(t *testing.T) {
	f := newFixture(t, 1)
	f.config.MaxPending = 5
	l := f.open(t)
	f.witnesses[0].Set(witnesstest.Away, 0)
	var tickets []*accesslog.Ticket
	for i := range 5 {
		tickets = append(tickets, appendRecord(t, l, record(t, i)))
	}
	if _, err := l.Append(t.Context(), record(t, 9), nil); !errors.Is(err, accesslog.ErrFull) {
		t.Fatalf("Append beyond the bound: %v, want ErrFull", err)
	}
	f.witnesses[0].Set(witnesstest.Honest, 0)
	for _, ticket := range tickets {
		witnessed(t, ticket)
	}
	witnessed(t, appendRecord(t, l, record(t, 10)))
	if l.Size() != 6 {
		t.Fatalf("%d records, want 6: a refused one must not be in the log", l.Size())
	}
}

// TestRecordsAppendedTogetherAreAllThereOrNone: in their order, and none of them when there is
// no room for all or one is not of this log.
func TestRecordsAppendedTogetherAreAllThereOrNone(t *testing.T) {
	f := newFixture(t, 1)
	f.config.MaxPending = 5
	l := f.open(t)
	if err := l.AppendAll(t.Context(), []trefoil.Record{record(t, 0), record(t, 1), record(t, 2)}); err != nil {
		t.Fatal(err)
	}
	last := record(t, 3)
	witnessed(t, appendRecord(t, l, last))
	foreign := record(t, 4)
	foreign.Salt = foreign.Salt[1:]
	if err := l.AppendAll(t.Context(), []trefoil.Record{record(t, 5), foreign}); err == nil {
		t.Fatal("a record with a short salt is appended")
	}
	many := make([]trefoil.Record, 6)
	for i := range many {
		many[i] = record(t, 10+i)
	}
	if err := l.AppendAll(t.Context(), many); !errors.Is(err, accesslog.ErrFull) {
		t.Fatalf("more than there is room for: %v", err)
	}
	witnessed(t, appendRecord(t, l, record(t, 6)))
	if l.Size() != 5 {
		t.Fatalf("%d records, want 5", l.Size())
	}
	for i := range 3 {
		got, _, err := l.Body(uint64(i))
		if err != nil || !strings.Contains(string(got.Body), fmt.Sprintf("site-%d\"", i)) {
			t.Errorf("record %d is not at its place: %v", i, err)
		}
	}
}

func TestQuorumOfTwoHoldsWithOneAway(t *testing.T) {
	f := newFixture(t, 3)
	f.config.Quorum, f.trust.Quorum = 2, 2
	f.witnesses[0].Set(witnesstest.Away, 0)
	l := f.open(t)
	r := record(t, 0)
	p := witnessed(t, appendRecord(t, l, r))
	if _, err := f.trust.VerifyProof(p, r.Leaf()); err != nil {
		t.Fatal(err)
	}
	f.witnesses[1].Set(witnesstest.Away, 0)
	notWitnessed(t, appendRecord(t, l, record(t, 1)), 400*time.Millisecond)
	f.witnesses[1].Set(witnesstest.Honest, 0)
}

func TestOneWitnessCannotBeConfiguredTwice(t *testing.T) {
	f := newFixture(t, 1)
	w := f.config.Witnesses[0]
	again := accesslog.Witness{URL: w.URL + "/", Key: w.Key}
	f.config.Witnesses = append(f.config.Witnesses, again)
	if _, err := accesslog.Open(t.Context(), f.config); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Fatalf("Open with one witness named twice: %v", err)
	}
}

func TestLogWithoutWitnessesMustSaySo(t *testing.T) {
	f := newFixture(t, 0)
	if _, err := accesslog.Open(t.Context(), f.config); err == nil {
		t.Fatal("Open without a witness succeeded")
	}
	f.config.Quorum = -1
	l := f.open(t)
	witnessed(t, appendRecord(t, l, record(t, 0)))
}

func TestWitnessesMayChangeBetweenRuns(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	witnessed(t, appendRecord(t, l, record(t, 0)))
	closeLog(t, l)
	f.config.Witnesses, f.trust.Witnesses = nil, nil
	f.add(t, witnesstest.Start(t, "successor.example", f.verifier))
	l = f.open(t)
	r := record(t, 1)
	if _, err := f.trust.VerifyProof(witnessed(t, appendRecord(t, l, r)), r.Leaf()); err != nil {
		t.Fatal(err)
	}
}

func TestRecordOfAnotherLogIsRefused(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	r, err := trefoil.NewRecord(&trefoil.Body{At: time.Now(), Kind: trefoil.KindSite, Origin: "other.example", Site: &trefoil.SiteBody{}})
	if err != nil {
		t.Fatal(err)
	}
	short := record(t, 1)
	short.Salt = short.Salt[:31]
	spaced := record(t, 1)
	spaced.Body = append(spaced.Body, ' ')
	for name, bad := range map[string]trefoil.Record{"origin": r, "short salt": short, "white space": spaced} {
		if _, err := l.Append(t.Context(), bad, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// With a quorum of one in two, the faster witness must not displace the first: the monitor
// permits nothing under a checkpoint without its own cosignature.
func TestASlowFirstWitnessIsInEveryCheckpointWhileItAnswers(t *testing.T) {
	f := newFixture(t, 2)
	f.config.Quorum, f.trust.Quorum = 1, 1
	f.witnesses[0].Set(witnesstest.Honest, 60*time.Millisecond)
	l := f.open(t)
	first := &trefoil.Trust{Log: f.trust.Log, Witnesses: f.trust.Witnesses[:1]}
	for i := range 5 {
		r := record(t, i)
		if _, err := first.VerifyProof(witnessed(t, appendRecord(t, l, r)), r.Leaf()); err != nil {
			t.Fatalf("checkpoint %d without the first witness: %v", i, err)
		}
	}
	for _, away := range []witnesstest.Mode{witnesstest.Away, witnesstest.Silent} {
		f.witnesses[0].Set(away, 0)
		r := record(t, 9)
		p := witnessed(t, appendRecord(t, l, r))
		if _, err := f.trust.VerifyProof(p, r.Leaf()); err != nil {
			t.Fatalf("first witness away: %v", err)
		}
		if _, err := first.VerifyProof(p, r.Leaf()); err == nil {
			t.Fatal("a witness that is away cosigned")
		}
	}
}
