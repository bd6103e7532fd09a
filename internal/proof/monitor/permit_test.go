package monitor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"golang.org/x/mod/sumdb/note"
)

func TestHonestReleasesArePermitted(t *testing.T) {
	w := newWorld(t)
	w.acknowledged(supportDefinition(), analyticsDefinition())
	for _, c := range []struct {
		who string
		d   *trefoil.Definition
	}{{"aoife", supportDefinition()}, {"chen", analyticsDefinition()}} {
		a := w.access(c.who, c.d)
		w.permitted(w.start(a))
		w.permitted(w.release(a, 0, 100, 100))
		text, no, req := w.ask(w.release(a, 1, 50, 150))
		if no != nil {
			t.Fatalf("%s: %s", c.who, show(no))
		}
		p, err := trefoil.OpenPermit(text, w.trust.Permit)
		if err != nil {
			t.Fatal(err)
		}
		if p.Leaf != trefoil.LeafHash(trefoil.Record{Body: req.Body, Salt: req.Salt}.Leaf()) || p.Origin != testOrigin || p.Index != w.log.size()-1 {
			t.Errorf("permit %+v is for another record", p)
		}
		if got, want := p.Expires, w.clock.now().Add(time.Minute); !got.Equal(want) {
			t.Errorf("permit expires %v, want %v", got, want)
		}
	}
	if s := w.m.Status(true); s.Logs[0].Permitted != 300 || s.Logs[0].Bytes != 300 || len(s.Sessions) != 2 {
		t.Errorf("status = %s, want 300 permitted bytes in 2 sessions", show(s))
	}
}

// TestGatewayThatSaysYesGetsNoPermitForClearInChina is the floor held for the second time:
// whatever the gateway claims, and whoever approved it.
func TestGatewayThatSaysYesGetsNoPermitForClearInChina(t *testing.T) {
	w := newWorld(t, "where: adequate, class: clear }", "where: adequate, class: clear }\n      - { groups: [\"*\"], where: region, class: clear }")
	w.acknowledged(supportDefinition())
	d := supportDefinition()
	id, approval := w.approve("dpo", w.approver, "chen", d, time.Hour)
	a := w.access("chen", d)
	a.Grant, a.Approvals = id, []string{grant.KeyID(w.m.book().grants.Approvers[0].Verifier)}
	w.refused("floor", w.start(a), approval)

	lies := map[string]func(*trefoil.Access){
		"says the employer is in Ireland": func(a *trefoil.Access) { a.Importer = a.Exporter },
		"says the workplace is in Ireland": func(a *trefoil.Access) {
			for i := range a.Location {
				a.Location[i].Country = "IE"
			}
		},
		"leaves the workplace out": func(a *trefoil.Access) { a.Location = a.Location[:2] },
		"gives a place of another kind": func(a *trefoil.Access) {
			a.Location = append(a.Location, trefoil.Place{Source: "office", Country: "IE"})
		},
		"says another exporter": func(a *trefoil.Access) { a.Exporter.Country = "DE" },
		"shows fewer forms":     func(a *trefoil.Access) { a.Forms = map[string][]string{"contact": {"pseudonymised"}} },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			a := w.access("chen", d)
			lie(&a)
			w.refused(ruleLying, w.start(a), approval)
		})
	}
	// A lie that is true of somebody else: the pseudonym of an Irish colleague.
	a = w.access("aoife", d)
	a.Location[1].Country = "CN" // but the network is Chinese
	w.refused("floor", w.start(a))
	a.Location = []trefoil.Place{a.Location[0], a.Location[2]} // or unknown
	w.refused("floor", w.start(a))
}

func TestLyingBodyAboutInstrument(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	for name, lie := range map[string]func(*trefoil.Instrument){
		"no transfer": func(i *trefoil.Instrument) { *i = trefoil.Instrument{} },
		"another TIA": func(i *trefoil.Instrument) { i.TIA = "tia-4" },
		"another day": func(i *trefoil.Instrument) { i.Date = "2026-02-01" },
		"art. 45":     func(i *trefoil.Instrument) { i.Article = "45" },
	} {
		t.Run(name, func(t *testing.T) {
			a := w.access("chen", d)
			lie(&a.Instrument)
			w.refused(ruleLying, w.start(a))
		})
	}
	a := w.access("chen", d)
	a.Instrument.ID = "invented"
	w.refused("floor-no-instrument", w.start(a))
	w.clock.add(60 * 24 * time.Hour) // the instrument has run out
	w.refused("floor-no-instrument", w.start(w.access("chen", d)))
}

func TestUnknownIsRefused(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	for rule, change := range map[string]func(*trefoil.Body){
		rulePrincipal:    func(b *trefoil.Body) { b.Session.Access.Principal = strings.Repeat("A", 20) },
		ruleDataset:      func(b *trefoil.Body) { b.Session.Access.Dataset = "everything" },
		rulePurpose:      func(b *trefoil.Body) { b.Session.Access.Purpose = "curiosity" },
		ruleAcknowledged: func(b *trefoil.Body) { b.Session.Access.Hashes.Dataset = strings.Repeat("0", 64) },
		ruleClock:        func(b *trefoil.Body) { b.At = b.At.Add(-3 * time.Minute) },
		ruleCeiling:      func(b *trefoil.Body) { b.Session.Allowance = 50001 },
		ruleSession:      func(b *trefoil.Body) { b.Session.Access.Session = "short" },
		ruleUnpermitted:  func(b *trefoil.Body) { b.Session.Unpermitted = true },
		ruleKind:         func(b *trefoil.Body) { b.Session.Event = "end" },
		ruleOpening:      func(b *trefoil.Body) { b.Session.Access = w.access("yuki", d) },
	} {
		b := w.start(w.access("chen", d))
		change(b)
		t.Run(rule, func(t *testing.T) { w.refused(rule, b) })
	}
	w.permitted(w.start(w.access("chen", d)))
}

func TestPseudonymOfThePreviousMonth(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.clock.t = time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)
	w.acknowledged(d)
	a := w.access("chen", d)
	b := w.start(a)
	w.clock.add(10 * time.Second)
	w.permitted(b) // recorded in November, judged in December
	w.clock.add(48 * time.Hour)
	w.permitted(w.release(a, 0, 1, 1)) // the session keeps the name it began with
	w.refused(rulePrincipal, w.start(func() trefoil.Access { x := w.access("chen", d); x.Principal = a.Principal; return x }()))
}

func TestSessionChain(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.refused(ruleSession, w.release(a, 0, 10, 10)) // before its start
	w.permitted(w.start(a))
	w.refused(ruleReplay, w.start(a)) // a second start of one session
	w.permitted(w.release(a, 0, 10, 10))
	w.refused(ruleReplay, w.release(a, 0, 10, 10)) // another leaf for the same chunk
	w.refused(ruleGap, w.release(a, 1, 10, 19))    // bytes that do not add up
	w.refused(ruleGap, w.release(a, 1, 10, 21))
	other := w.access("chen", d)
	other.Session = a.Session
	other.Location[1].Country = "IE"
	w.refused(ruleAccess, w.release(other, 1, 10, 20))
	w.refused(ruleCeiling, w.release(a, 1, -10, 0))
	w.refused(ruleCeiling, w.release(a, 1, 1_000_001, 1_000_011))
	w.permitted(w.release(a, 1, 10, 20))
}

// A gateway logs the start of a session outside the region as if the monitor were away, and
// then asks for its chunks.
func TestASessionWhoseStartWasNotPermittedGetsNoChunkOutside(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	b := w.start(a)
	b.Session.Unpermitted = true
	w.log.add(b)
	w.log.cosigned(w.m)
	w.synced()
	w.refused(ruleSession, w.release(a, 0, 10, 10))
}

func TestMissingChunkIsRefusedAndLateOneWaitedFor(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.permitted(w.start(a))
	w.refused(ruleGap, w.release(a, 1, 10, 20)) // chunk 0 never comes

	// Asked for in the wrong order at the same time, both are permitted.
	first, second := w.log.add(w.release(a, 0, 10, 10)), w.log.add(w.release(a, 1, 10, 20))
	cp := w.log.cosigned(w.m)
	var wg sync.WaitGroup
	refusals := make([]*refusal, 2)
	for i, index := range []uint64{second, first} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var err error
			if _, refusals[i], err = w.m.Permit(context.Background(), w.log.request(index, cp)); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(10 * time.Millisecond) // let the later chunk arrive first
	}
	wg.Wait()
	if refusals[0] != nil || refusals[1] != nil {
		t.Errorf("refusals %s, %s; want none", show(refusals[0]), show(refusals[1]))
	}
}

func TestSameRecordGetsTheSamePermit(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	first, no, req := w.ask(w.start(a))
	if no != nil {
		t.Fatal(show(no))
	}
	w.clock.add(30 * time.Second)
	w.close()
	w.open()
	again, no, err := w.m.Permit(context.Background(), req)
	if err != nil || no != nil || again != first {
		t.Errorf("asked again: %q, %s, %v; want %q", again, show(no), err, first)
	}
	if s := w.m.Status(false); s.Logs[0].Permits != 1 {
		t.Errorf("%d permits counted, want 1", s.Logs[0].Permits)
	}
}

// Chunks wait for a slow client longer than a permit lasts: it is renewed by all the rules of
// now, and counted once.
func TestPermitThatRanOutIsRenewedByTheRulesOfNow(t *testing.T) {
	w := newWorld(t)
	d := supportDefinition()
	w.acknowledged(d)
	id, approval := w.approve("dpo", w.approver, "yuki", d, 20*time.Minute)
	a := w.access("yuki", d)
	a.Grant, a.Approvals = id, []string{grant.KeyID(w.m.book().grants.Approvers[0].Verifier)}
	w.permitted(w.start(a), approval)
	_, no, req := w.ask(w.release(a, 0, 100, 100), approval)
	if no != nil {
		t.Fatal(show(no))
	}
	again := func(rule string) {
		t.Helper()
		text, no, err := w.m.Permit(context.Background(), req)
		switch {
		case err != nil:
			t.Fatal(err)
		case rule != "":
			if no == nil || no.Rule != rule || text != "" {
				t.Errorf("permit %q, refusal %s; want refusal %q", text, show(no), rule)
			}
			return
		case no != nil:
			t.Fatalf("refused: %s", show(no))
		}
		p, err := trefoil.OpenPermit(text, w.trust.Permit)
		if err != nil || !p.Expires.Equal(w.clock.now().Add(time.Minute)) {
			t.Errorf("permit %+v, %v; want one that lasts a minute from now", p, err)
		}
	}
	for range 3 {
		w.clock.add(3 * time.Minute)
		again("")
	}
	if s := w.m.Status(false); s.Logs[0].Permits != 2 || s.Logs[0].Permitted != 100 {
		t.Errorf("status = %s, want 2 permits and 100 bytes", show(s.Logs[0]))
	}
	w.close()
	w.open()
	again("") // what was renewed is remembered
	w.clock.add(15 * time.Minute)
	again(ruleGrant)
	w.clock.add(time.Hour)
	again(ruleClock)
}

func TestPermitOfAnEndedSessionIsNotRenewed(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.permitted(w.start(a))
	_, no, req := w.ask(w.release(a, 0, 100, 100))
	if no != nil {
		t.Fatal(show(no))
	}
	w.log.add(&trefoil.Body{At: w.clock.now(), Kind: trefoil.KindSession, Origin: w.log.origin,
		Session: &trefoil.SessionBody{Access: a, Event: "end", Path: "release", Outcome: "closed", Released: 100}})
	w.log.cosigned(w.m)
	w.synced()
	w.clock.add(2 * time.Minute)
	if text, no, err := w.m.Permit(context.Background(), req); err != nil || text != "" || no == nil || no.Rule != ruleSession {
		t.Errorf("permit %q, refusal %s, %v; want a refusal", text, show(no), err)
	}
}

func TestPermitOfAnotherRecordAndAlteredBytes(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	text, no, req := w.ask(w.start(a))
	if no != nil {
		t.Fatal(show(no))
	}
	// A receipt with this permit for another record does not verify.
	index := w.log.add(w.release(a, 0, 5, 5))
	cp := w.log.cosigned(w.m)
	other := w.log.request(index, cp)
	receipt := &trefoil.Receipt{Record: trefoil.Record{Body: other.Body, Salt: other.Salt}, Proof: other.Proof, Permit: text}
	var verr *trefoil.VerifyError
	if _, err := w.trust.VerifyReceipt(receipt); !errors.As(err, &verr) || verr.Reason != trefoil.ReasonPermitOther {
		t.Errorf("replayed permit: %v, want %s", err, trefoil.ReasonPermitOther)
	}
	// Altered body, salt or index prove nothing.
	for name, alter := range map[string]func(*trefoil.PermitRequest){
		"body": func(r *trefoil.PermitRequest) {
			r.Body = []byte(strings.Replace(string(r.Body), `"bytes":5`, `"bytes":4`, 1))
		},
		"salt":        func(r *trefoil.PermitRequest) { r.Salt = append([]byte{r.Salt[0] ^ 1}, r.Salt[1:]...) },
		"short salt":  func(r *trefoil.PermitRequest) { r.Salt = r.Salt[:16] },
		"white space": func(r *trefoil.PermitRequest) { r.Body = append(r.Body, ' ') },
		"index": func(r *trefoil.PermitRequest) {
			r.Proof = strings.Replace(r.Proof, fmt.Sprint("index ", index), "index 0", 1)
		},
		"other proof": func(r *trefoil.PermitRequest) { r.Proof = req.Proof },
		"no cosignature": func(r *trefoil.PermitRequest) {
			r.Proof = strings.Join(strings.SplitAfter(r.Proof, "\n")[:strings.Count(r.Proof, "\n")-1], "")
		},
	} {
		r := *other
		r.Body = append([]byte(nil), other.Body...)
		alter(&r)
		if r.Proof == other.Proof && string(r.Body) == string(other.Body) && string(r.Salt) == string(other.Salt) {
			t.Fatalf("%s: nothing was altered", name)
		}
		if text, _, err := w.m.Permit(context.Background(), &r); text != "" || !errors.Is(err, errUnproved) {
			t.Errorf("%s: %q, %v; want %v", name, text, err, errUnproved)
		}
	}
	if text, no, err := w.m.Permit(context.Background(), other); text == "" {
		t.Errorf("unaltered: %s, %v", show(no), err)
	}
}

func TestGrantForClearInAdequateCountry(t *testing.T) {
	d := supportDefinition()
	altered := supportDefinition()
	altered.Columns[0].Column = "phone"
	for name, c := range map[string]struct {
		evidence func(w *world) (string, []string)
		want     string
	}{
		"none": {func(w *world) (string, []string) { return "", nil }, ruleGrant},
		"valid": {func(w *world) (string, []string) {
			id, n := w.approve("dpo", w.approver, "yuki", d, time.Hour)
			return id, []string{n}
		}, ""},
		"expired": {func(w *world) (string, []string) {
			id, n := w.approve("dpo", w.approver, "yuki", d, -time.Minute)
			return id, []string{n}
		}, ruleGrant},
		"colleague": {func(w *world) (string, []string) {
			id, n := w.approve("dpo", w.approver, "chen", d, time.Hour)
			return id, []string{n}
		}, ruleGrant},
		"altered": {func(w *world) (string, []string) {
			id, n := w.approve("dpo", w.approver, "yuki", altered, time.Hour)
			return id, []string{n}
		}, ruleGrant},
		"stranger": {func(w *world) (string, []string) {
			s, _ := newKey(w.t, "dpo")
			id, n := w.approve("dpo", s, "yuki", d, time.Hour)
			return id, []string{n}
		}, ruleGrant},
		"other id": {func(w *world) (string, []string) {
			_, n := w.approve("dpo", w.approver, "yuki", d, time.Hour)
			return strings.Repeat("0", 32), []string{n}
		}, ruleGrant},
		"edited": {func(w *world) (string, []string) {
			id, n := w.approve("dpo", w.approver, "yuki", d, time.Hour)
			return id, []string{strings.Replace(n, `"principal":"yuki"`, `"principal":"chen"`, 1)}
		}, ruleGrant},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.acknowledged(d)
			a := w.access("yuki", d)
			id, evidence := c.evidence(w)
			a.Grant, a.Approvals = id, []string{grant.KeyID(w.m.book().grants.Approvers[0].Verifier)}
			if c.want == "" {
				w.permitted(w.start(a), evidence...)
				return
			}
			w.refused(c.want, w.start(a), evidence...)
		})
	}
}

// TestSelfApprovedGrant: an approver's key that a principal holds approves nothing for them.
func TestSelfApprovedGrant(t *testing.T) {
	w := newWorld(t)
	d := supportDefinition()
	w.acknowledged(d)
	self, key := newKey(t, "yuki")
	v, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	w.m.book().grants.Approvers[1].Verifier = v // known to the monitor, for every purpose
	now := w.clock.now()
	e := grant.New(grant.KindApproval, grant.Request{Dataset: d.Name, Definition: trefoil.DefinitionHash(d), From: now.Add(-time.Hour),
		ID: strings.Repeat("a", 32), Policy: strings.Repeat("0", 64), Principal: "yuki", Purpose: d.Purpose,
		Reason: strings.Repeat("1", 64), Until: now.Add(time.Hour)}, "yuki", now)
	text, err := e.Text()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, self) // grant.Sign would not
	if err != nil {
		t.Fatal(err)
	}
	a := w.access("yuki", d)
	a.Grant, a.Approvals = e.Request.ID, []string{grant.KeyID(v)}
	w.refused(ruleGrant, w.start(a), string(signed))
}

// TestRegionIsLessStrict: where no transfer is made, a session that began without the monitor
// goes on, and what is missing is a finding; outside it is a refusal.
func TestRegionIsLessStrict(t *testing.T) {
	w := newWorld(t)
	w.acknowledged(supportDefinition(), analyticsDefinition())
	a := w.access("aoife", supportDefinition())
	w.permitted(w.release(a, 3, 10, 40)) // its start was cosigned by another witness
	w.permitted(w.release(a, 4, 10, 50))
	w.refused(ruleReplay, w.release(a, 4, 10, 50))
	w.permitted(w.release(a, 6, 10, 70)) // chunk 5 went without the monitor
	w.refused(ruleGap, w.release(a, 7, 10, 60))
	if got := w.found("gap"); got != 2 {
		t.Errorf("%d gaps found, want 2", got)
	}
	w.refused(ruleSession, w.release(w.access("chen", analyticsDefinition()), 3, 10, 40))
}

func TestRevokedGrantGivesNothing(t *testing.T) {
	w := newWorld(t)
	d := supportDefinition()
	w.acknowledged(d)
	id, approval := w.approve("dpo", w.approver, "yuki", d, time.Hour)
	a := w.access("yuki", d)
	a.Grant, a.Approvals = id, []string{grant.KeyID(w.m.book().grants.Approvers[0].Verifier)}
	w.permitted(w.start(a), approval)
	w.log.add(&trefoil.Body{At: w.clock.now(), Kind: trefoil.KindRevocation, Origin: testOrigin,
		Grant: &trefoil.GrantBody{Dataset: "support", Event: "revoked", Grant: id, Until: w.clock.now()}})
	w.log.cosigned(w.m)
	if err := w.m.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.refused(ruleGrant, w.release(a, 0, 1, 1), approval)
	w.close()
	w.open()
	w.refused(ruleGrant, w.release(a, 0, 1, 1), approval)
}

func TestStopAndResume(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	_, _, req := w.ask(w.start(a))
	id := w.stop()
	w.refused(ruleStopped, w.release(a, 0, 1, 1))
	if _, no, err := w.m.Permit(context.Background(), req); err != nil || no == nil || no.Rule != ruleStopped {
		t.Errorf("permit asked for again while stopped: %s, %v", show(no), err)
	}
	w.close()
	w.open() // a restart does not resume
	w.refused(ruleStopped, w.release(a, 0, 1, 1))
	w.resume(id)
	p, err := trefoil.OpenPermit(w.permitted(w.release(a, 0, 1, 1)), w.trust.Permit)
	if err != nil || p.StopEpoch != 1 {
		t.Errorf("permit %+v, %v; want stop epoch 1", p, err)
	}
}
