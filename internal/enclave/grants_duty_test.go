package enclave

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

var quiet = slog.New(slog.DiscardHandler)

// askCase stores a request for a case of subjects, with answers of kinds.
func askCase(t *testing.T, r *Rules, s *control.Store, signer note.Signer, digit string, subjects []string, kinds ...grant.Kind) grant.Request {
	t.Helper()
	digest, err := r.SubjectsDigest(subjects)
	if err != nil {
		t.Fatal(err)
	}
	hash := trefoil.DefinitionHash(r.Definitions["support"])
	e := grant.New(grant.KindRequest, grant.Request{Dataset: "support", Definition: hash, From: caseStart, Until: caseStart.Add(4 * time.Hour), ID: strings.Repeat(digit, 32),
		Policy: hash, Principal: "ann", Purpose: "care", Reason: grant.ReasonHash(make([]byte, 16), "x"), Subjects: digest}, "ann", caseStart)
	record := &trefoil.Body{At: caseStart, Kind: trefoil.KindGrant, Grant: &trefoil.GrantBody{Dataset: "support", Event: "requested", Grant: e.Request.ID, Until: e.Request.Until}}
	if err := s.AddFor(t.Context(), e, "ticket", make([]byte, 16), subjects, record); err != nil {
		t.Fatal(err)
	}
	answer(t, s, signer, e.Request, kinds...)
	return e.Request
}

func answer(t *testing.T, s *control.Store, signer note.Signer, q grant.Request, kinds ...grant.Kind) {
	t.Helper()
	for _, kind := range kinds {
		signed, err := grant.Sign(grant.New(kind, q, "dpo", caseStart), signer)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Decide(t.Context(), q.ID, control.Decision{Kind: kind, Approver: "dpo", Envelope: signed, At: caseStart},
			&trefoil.Body{At: caseStart, Kind: trefoil.KindApproval, Grant: &trefoil.GrantBody{Dataset: "support", Event: "approved", Grant: q.ID, Until: q.Until}}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheLastApprovalOpensTheCase, once; until then, and after a denial, there is none.
func TestTheLastApprovalOpensTheCase(t *testing.T) {
	r, s, b, signer := caseWorld(t)
	r.Config.Keys.Digests = filepath.Join(t.TempDir(), "digests")
	if err := os.WriteFile(r.Config.Keys.Digests, bytes.Repeat([]byte{3}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	look := func(want ...string) {
		t.Helper()
		if err := r.openGranted(t.Context(), s, b, caseStart, quiet); err != nil {
			t.Fatal(err)
		}
		stored, err := s.Cases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range stored {
			got = append(got, c.Grant[:1]+":"+strings.Join(c.Subjects, ","))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("cases %v, want %v", got, want)
		}
	}
	waiting := askCase(t, r, s, signer, "a", []string{"7", "8"})
	denied := askCase(t, r, s, signer, "b", []string{"9"}, grant.KindApproval, grant.KindDenial)
	look()
	if left, err := s.Subjects(t.Context(), denied.ID); len(left) != 0 || err != nil {
		t.Errorf("the list of a denied request stayed: %d, %v", len(left), err)
	}
	answer(t, s, signer, waiting, grant.KindApproval)
	look("a:7,8")
	if left, err := s.Subjects(t.Context(), waiting.ID); len(left) != 0 || err != nil {
		t.Errorf("the list is there twice: %d, %v", len(left), err)
	}
	look("a:7,8")
	answer(t, s, signer, waiting, grant.KindRevocation)
	if over, err := r.Overdue(t.Context(), s, caseStart); err != nil || !slices.Equal(over, []string{CaseName(waiting.ID)}) {
		t.Errorf("after its revocation the case to end is %v, %v", over, err)
	}
}

// TestAnAlteredListOfSubjectsOpensNoCase: somebody with write access to the control store adds a person.
func TestAnAlteredListOfSubjectsOpensNoCase(t *testing.T) {
	r, s, b, signer := caseWorld(t)
	r.Config.Keys.Digests = filepath.Join(t.TempDir(), "digests")
	if err := os.WriteFile(r.Config.Keys.Digests, bytes.Repeat([]byte{3}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	q := askCase(t, r, s, signer, "a", []string{"7"}, grant.KindApproval)
	if _, err := r.OpenCase(t.Context(), s, b, AskCase{Grant: q.ID, Subjects: []string{"7", "8"}}, caseStart); err == nil {
		t.Error("a case of more subjects than were approved was opened")
	}
	if _, err := r.OpenCase(t.Context(), s, b, AskCase{Grant: q.ID, Subjects: []string{"7", "7"}}, caseStart); err != nil {
		t.Errorf("the approved list: %v", err)
	}
}

// TestSessionsEndWithTheirGrant: by revocation, by time, by the loss of an approver, and when
// nobody knows the grant.
func TestSessionsEndWithTheirGrant(t *testing.T) {
	r, s, _, signer := caseWorld(t)
	good := askGrant(t, r, s, signer, "a", grant.KindApproval)
	revoked := askGrant(t, r, s, signer, "b", grant.KindApproval, grant.KindRevocation)
	o := &opened{ended: map[string]string{}, of: []gateway.SessionInfo{{ID: "good", Grant: good}, {ID: "revoked", Grant: revoked},
		{ID: "unknown", Grant: strings.Repeat("9", 32)}, {ID: "none"}}}
	ended := func(at time.Time, want ...string) {
		t.Helper()
		clear(o.ended)
		if err := r.endUngranted(t.Context(), s, o, at, quiet); err != nil {
			t.Fatal(err)
		}
		for _, x := range o.of {
			if (o.ended[x.ID] != "") != slices.Contains(want, x.ID) {
				t.Errorf("at %s: session %s ended because %q", at.Format(time.TimeOnly), x.ID, o.ended[x.ID])
			}
		}
	}
	ended(caseStart, "revoked", "unknown")
	if !strings.Contains(o.ended["revoked"], "revoked") {
		t.Errorf("said: %v", o.ended)
	}
	// The clock is set back after another gateway saw the grant's end.
	if _, err := s.Seen(t.Context(), caseStart.Add(5*time.Hour)); err != nil {
		t.Fatal(err)
	}
	ended(caseStart, "good", "revoked", "unknown")
	if !strings.Contains(o.ended["good"], "expired") {
		t.Errorf("said: %v", o.ended)
	}
}

func TestSessionsEndWhenTheirApproverIsRemoved(t *testing.T) {
	r, s, _, signer := caseWorld(t)
	id := askGrant(t, r, s, signer, "a", grant.KindApproval)
	o := &opened{ended: map[string]string{}, of: []gateway.SessionInfo{{ID: "x", Grant: id}}}
	if err := r.endUngranted(t.Context(), s, o, caseStart, quiet); err != nil || len(o.ended) != 0 {
		t.Fatalf("%v %v", o.ended, err)
	}
	r.Config.Approvals = []grant.Rule{{Purposes: []string{"*"}, AllOf: []grant.Group{{Name: "two", Of: []string{"dpo", "ciso"}, Count: 2}}}}
	if err := r.endUngranted(t.Context(), s, o, caseStart, quiet); err != nil || !strings.Contains(o.ended["x"], "do not suffice") {
		t.Errorf("a rule asks for two now: %v %v", o.ended, err)
	}
	clear(o.ended)
	r.Config.Approvals, r.Approvers = nil, nil
	if err := r.endUngranted(t.Context(), s, o, caseStart, quiet); err != nil || o.ended["x"] == "" {
		t.Errorf("its only approver is one no more: %v %v", o.ended, err)
	}
}
