package control_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var (
	t0  = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	def = strings.Repeat("ab", 32)
)

func open(t *testing.T) (*control.Store, string) {
	t.Helper()
	dsn := pgtest.Start(t).Database(t)
	s, err := control.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := errors.Join(s.Prepare(t.Context()), s.Prepare(t.Context())); err != nil {
		t.Fatal(err)
	}
	return s, dsn
}

type approver struct {
	grant.Approver
	signer note.Signer
}

func newApprover(t *testing.T, name string) approver {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return approver{grant.Approver{Name: name, Verifier: v, Purposes: []string{"care"}}, s}
}

func request(id string) grant.Envelope {
	return grant.New(grant.KindRequest, grant.Request{Dataset: "support", Definition: def, From: t0, Until: t0.Add(time.Hour),
		ID: strings.Repeat(id, 32), Policy: def, Principal: "ann", Purpose: "care", Reason: grant.ReasonHash(make([]byte, 16), "x")}, "ann", t0)
}

func body(e grant.Envelope, event string) *trefoil.Body {
	return &trefoil.Body{At: e.At, Kind: trefoil.KindGrant, Grant: &trefoil.GrantBody{Dataset: "support", Event: event, Grant: e.Request.ID, Until: e.Request.Until}}
}

func decide(t *testing.T, s *control.Store, e grant.Envelope, kind grant.Kind, a approver) {
	t.Helper()
	signed, err := grant.Sign(grant.New(kind, e.Request, a.Name, t0), a.signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Decide(t.Context(), e.Request.ID, control.Decision{Kind: kind, Approver: a.Name, Envelope: signed, At: t0}, body(e, string(kind))); err != nil {
		t.Fatal(err)
	}
}

// approved asks at a time, as the gateway does.
func approved(t *testing.T, s *control.Store, a approver, at time.Time) error {
	t.Helper()
	found, err := s.Current(t.Context(), "ann", "support", at)
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = control.Approved(found, []grant.Approver{a.Approver}, "ann", "support", def, at)
	return err
}

func TestAGrantHoldsFromApprovalToRevocation(t *testing.T) {
	s, _ := open(t)
	a, e := newApprover(t, "dpo"), request("1")
	if err := s.Add(t.Context(), e, "ticket 1", make([]byte, 16), body(e, "requested")); err != nil {
		t.Fatal(err)
	}
	if err := approved(t, s, a, t0); err == nil {
		t.Error("a request without an answer was a grant")
	}
	decide(t, s, e, grant.KindApproval, a)
	if err := approved(t, s, a, t0); err != nil {
		t.Errorf("approved, and still refused: %v", err)
	}
	if err := approved(t, s, a, t0.Add(2*time.Hour)); err == nil {
		t.Error("an expired grant was a grant")
	}
	decide(t, s, e, grant.KindRevocation, a)
	if err := approved(t, s, a, t0); err == nil {
		t.Error("a revoked grant was a grant")
	}
}

// An operator with write access to the control store adds an approval by hand.
func TestARowWrittenByHandApprovesNothing(t *testing.T) {
	s, dsn := open(t)
	dpo, stranger, e := newApprover(t, "dpo"), newApprover(t, "dpo"), request("2")
	if err := s.Add(t.Context(), e, "ticket 2", make([]byte, 16), body(e, "requested")); err != nil {
		t.Fatal(err)
	}
	decide(t, s, e, grant.KindApproval, stranger) // right name, other key
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // test
	if _, err := conn.Exec(t.Context(), `insert into trefoil.decisions values ($1, 'approval', 'boss', 'yes', now())`, e.Request.ID); err != nil {
		t.Fatal(err)
	}
	if err := approved(t, s, dpo, t0); err == nil {
		t.Error("an approval that nobody known signed was a grant")
	}
}

// An approval of one request is stored as the answer to another.
func TestAnApprovalOfAnotherRequestApprovesNothing(t *testing.T) {
	s, _ := open(t)
	a, e, other := newApprover(t, "dpo"), request("3"), request("4")
	other.Request.Until = t0.Add(30 * time.Minute)
	other = grant.New(grant.KindRequest, other.Request, "ann", t0)
	for _, x := range []grant.Envelope{e, other} {
		if err := s.Add(t.Context(), x, "ticket", make([]byte, 16), body(x, "requested")); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := grant.Sign(grant.New(grant.KindApproval, other.Request, a.Name, t0), a.signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Decide(t.Context(), e.Request.ID, control.Decision{Kind: grant.KindApproval, Approver: a.Name, Envelope: signed, At: t0}, body(e, "approved")); err != nil {
		t.Fatal(err)
	}
	if err := approved(t, s, a, t0); err == nil {
		t.Error("the approval of another request was a grant")
	}
}

func TestTheOutboxLosesNoRecord(t *testing.T) {
	s, _ := open(t)
	e := request("5")
	if err := s.Add(t.Context(), e, "ticket", make([]byte, 16), body(e, "requested")); err != nil {
		t.Fatal(err)
	}
	if err := s.Enqueue(t.Context(), body(e, "expired")); err != nil {
		t.Fatal(err)
	}
	down := errors.New("the log is away")
	if n, err := s.Drain(t.Context(), func(context.Context, *trefoil.Body) error { return down }); n != 0 || !errors.Is(err, down) {
		t.Fatalf("drained %d with %v while the log was away", n, err)
	}
	var events []string
	n, err := s.Drain(t.Context(), func(_ context.Context, b *trefoil.Body) error {
		events = append(events, b.Grant.Event)
		return nil
	})
	if err != nil || n != 2 || strings.Join(events, " ") != "requested expired" {
		t.Fatalf("drained %d %v: %v", n, events, err)
	}
	if n, err := s.Drain(t.Context(), func(context.Context, *trefoil.Body) error { return nil }); n != 0 || err != nil {
		t.Errorf("drained %d again: %v", n, err)
	}
}

func TestAnAnswerGivenTwiceIsOneAnswer(t *testing.T) {
	s, _ := open(t)
	a, e := newApprover(t, "dpo"), request("6")
	if err := s.Add(t.Context(), e, "ticket", make([]byte, 16), body(e, "requested")); err != nil {
		t.Fatal(err)
	}
	decide(t, s, e, grant.KindApproval, a)
	decide(t, s, e, grant.KindApproval, a)
	g, err := s.Get(t.Context(), e.Request.ID)
	if err != nil || len(g.Decisions) != 1 {
		t.Fatalf("%d answers: %v", len(g.Decisions), err)
	}
	if _, err := s.Get(t.Context(), "none"); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("an unknown grant: %v", err)
	}
	n, err := s.Drain(t.Context(), func(context.Context, *trefoil.Body) error { return nil })
	if err != nil || n != 2 {
		t.Errorf("%d records of a request and one answer: %v", n, err)
	}
}
