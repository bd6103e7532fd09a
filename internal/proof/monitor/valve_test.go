package monitor

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

const withValve = "staff_key: keys/staff\nvalve_token: keys/valve-token"

// through asks for a body's permit as one that goes through the valve's connection.
func (w *world) through(valve string, b *trefoil.Body) (*refusal, *trefoil.PermitRequest) {
	w.t.Helper()
	index := w.log.add(b)
	req := w.log.request(index, w.log.cosigned(w.m))
	req.Valve = valve
	_, no, err := w.m.Permit(context.Background(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	return no, req
}

func (w *world) passes(valve string, b *trefoil.Body) *trefoil.PermitRequest {
	w.t.Helper()
	no, req := w.through(valve, b)
	if no != nil {
		w.t.Fatalf("refused: %s", show(no))
	}
	return req
}

func (w *world) misplaced(valve string, b *trefoil.Body) {
	w.t.Helper()
	if no, _ := w.through(valve, b); no == nil || no.Rule != ruleValve {
		w.t.Fatalf("got %s, want a refusal by %q", show(no), ruleValve)
	}
}

var (
	oneValve = strings.Repeat("1a", 16)
	twoValve = strings.Repeat("2b", 16)
)

// TestTwoSessionsOnOneConnection: one connection of the valve, one session; also after a restart.
func TestTwoSessionsOnOneConnection(t *testing.T) {
	w := newWorld(t, "staff_key: keys/staff", withValve)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.passes(oneValve, w.start(a))
	w.misplaced(oneValve, w.start(w.access("chen", d)))
	w.misplaced("ANY", w.start(w.access("chen", d)))
	w.passes(twoValve, w.start(w.access("chen", d)))
	w.close()
	w.open()
	w.misplaced(oneValve, w.start(w.access("chen", d)))
	w.misplaced(twoValve, w.release(a, 0, 10, 10))
	w.passes(oneValve, w.release(a, 0, 10, 10))
}

// TestPermitReplayedForAnotherConnection: neither a chunk nor a permit asked for again moves
// to another connection, or to none.
func TestPermitReplayedForAnotherConnection(t *testing.T) {
	w := newWorld(t, "staff_key: keys/staff", withValve)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	start := w.passes(oneValve, w.start(a))
	chunk := w.passes(oneValve, w.release(a, 0, 10, 10))
	for _, valve := range []string{twoValve, ""} {
		for name, req := range map[string]trefoil.PermitRequest{"start": *start, "chunk": *chunk} {
			req.Valve = valve
			if text, no, err := w.m.Permit(context.Background(), &req); err != nil || text != "" || no == nil || no.Rule != ruleValve {
				t.Errorf("%s again on %q: %q, %s, %v; want a refusal by %q", name, valve, text, show(no), err, ruleValve)
			}
		}
		w.misplaced(valve, w.release(a, 1, 10, 20))
	}
	if text, no, err := w.m.Permit(context.Background(), chunk); err != nil || no != nil || text == "" {
		t.Errorf("the chunk again on its own: %q, %s, %v; want the same permit", text, show(no), err)
	}
	b := w.access("chen", d)
	w.passes("", w.start(b))
	w.misplaced(twoValve, w.release(b, 0, 10, 10))
}

func TestValveRequired(t *testing.T) {
	w := newWorld(t, "staff_key: keys/staff", withValve+"\nvalve: required")
	outside, inside := analyticsDefinition(), supportDefinition()
	w.acknowledged(outside, inside)
	w.misplaced("", w.start(w.access("chen", outside)))
	w.passes(oneValve, w.start(w.access("chen", outside)))
	w.passes("", w.start(w.access("aoife", inside))) // in the region: as before
}

// listen opens the monitor's stream.
func (w *world) listen(url, token string) (*credit.Reader, func(), int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/valve", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	return credit.NewReader(resp.Body), func() { cancel(); resp.Body.Close() }, resp.StatusCode
}

// next is the next line that is no beat.
func (w *world) next(r *credit.Reader) credit.Line {
	w.t.Helper()
	for {
		l, err := r.Next()
		if err != nil {
			w.t.Fatal(err)
		}
		if l.Kind != credit.Quiet {
			l.Seq = 0
			return *l
		}
	}
}

// TestValveHearsWhatIsPermitted, only that, and again from the start when it comes back.
func TestValveHearsWhatIsPermitted(t *testing.T) {
	w := newWorld(t, "staff_key: keys/staff", withValve)
	s := httptest.NewServer(w.m.Handler())
	defer s.Close()
	d := analyticsDefinition()
	w.acknowledged(d)
	r, end, code := w.listen(s.URL, w.m.valveToken)
	defer end()
	if code != 200 {
		t.Fatalf("status %d", code)
	}
	expect := func(r *credit.Reader, want credit.Line) {
		t.Helper()
		if got := w.next(r); got != want {
			t.Fatalf("heard %+v, want %+v", got, want)
		}
	}
	expect(r, credit.Line{Kind: credit.State})
	a := w.access("chen", d)
	w.passes(oneValve, w.start(a))
	expect(r, credit.Line{Kind: credit.Credit, Valve: oneValve, Session: a.Session, Allowance: 10000})
	chunk := w.passes(oneValve, w.release(a, 0, 700, 700))
	expect(r, credit.Line{Kind: credit.Credit, Valve: oneValve, Session: a.Session, Allowance: 10000, Bytes: 700, Releases: 1})
	w.misplaced(twoValve, w.release(a, 1, 50, 750)) // refused: nothing
	if _, _, err := w.m.Permit(context.Background(), chunk); err != nil {
		t.Fatal(err) // asked again: nothing
	}
	w.passes(oneValve, w.release(a, 1, 50, 750))
	all := credit.Line{Kind: credit.Credit, Valve: oneValve, Session: a.Session, Allowance: 10000, Bytes: 750, Releases: 2}
	expect(r, all)
	stop, held := w.stop(), all
	held.Held = true
	expect(r, credit.Line{Kind: credit.State, Stopped: true})
	expect(r, held)

	again, endAgain, _ := w.listen(s.URL, w.m.valveToken)
	expect(again, credit.Line{Kind: credit.State, Stopped: true})
	expect(again, held)
	endAgain()
	w.resume(stop)
	expect(r, credit.Line{Kind: credit.State})
	expect(r, all)
	w.m.EndStreams()
	if _, err := r.Next(); !errors.Is(err, credit.ErrStream) {
		t.Errorf("after the end: %v, want ErrStream", err)
	}
}

// TestStopOfOneReachesTheValve: a stop of a principal, a country or a purpose holds what was
// credited to the sessions that it covers, also after a restart, and no other.
func TestStopOfOneReachesTheValve(t *testing.T) {
	w := newWorld(t, "staff_key: keys/staff", withValve)
	outside, inside := analyticsDefinition(), supportDefinition()
	w.acknowledged(outside, inside)
	a, b := w.access("chen", outside), w.access("aoife", inside)
	w.passes(oneValve, w.start(a))
	w.passes(oneValve, w.release(a, 0, 700, 700))
	w.passes(twoValve, w.start(b))
	heldAre := func(what string, want map[string]bool) {
		t.Helper()
		s := httptest.NewServer(w.m.Handler())
		defer s.Close()
		r, end, _ := w.listen(s.URL, w.m.valveToken)
		defer end()
		if l := w.next(r); l.Kind != credit.State || l.Stopped {
			t.Fatalf("%s: heard %+v, want a state that is not stopped", what, l)
		}
		for range want {
			if l := w.next(r); l.Held != want[l.Valve] || l.Valve == oneValve && l.Bytes != 700 {
				t.Errorf("%s: heard %+v, want held: %v", what, l, want[l.Valve])
			}
		}
	}
	heldAre("before", map[string]bool{oneValve: false, twoValve: false})
	for what, scope := range map[string]officers.Scope{"principal": {Principals: []string{"chen"}}, "country": {Countries: []string{"CN"}}, "purpose": {Purposes: []string{a.Purpose}}} {
		stop := w.stopPart(scope)
		heldAre(what, map[string]bool{oneValve: true, twoValve: false})
		w.close()
		w.open()
		heldAre(what+", after a restart", map[string]bool{oneValve: true, twoValve: false})
		w.resume(stop)
		heldAre(what+", resumed", map[string]bool{oneValve: false, twoValve: false})
	}
}

// TestOnlyTheValveListens: no other token opens the stream, and none in the rules opens it to nobody.
func TestOnlyTheValveListens(t *testing.T) {
	for _, rules := range []string{"staff_key: keys/staff", withValve} {
		w := newWorld(t, "staff_key: keys/staff", rules)
		s := httptest.NewServer(w.m.Handler())
		for _, token := range []string{"", "guess", w.m.token, w.m.bodies} {
			_, end, code := w.listen(s.URL, token)
			end()
			if code != http.StatusUnauthorized {
				t.Errorf("token %q: %d, want 401", token, code)
			}
		}
		s.Close()
	}
}

// TestValveReportIsAFinding: what the valve stopped is written down.
func TestValveReportIsAFinding(t *testing.T) {
	w := newWorld(t, "staff_key: keys/staff", withValve)
	s := httptest.NewServer(w.m.Handler())
	defer s.Close()
	for body, want := range map[string]int{`{"valve":"` + oneValve + `","sent":5,"limit":5}`: 204, `{"valve":"x"}`: 400, `[]`: 400} {
		if code, _, _ := post(t, s.URL, "/valve", w.m.valveToken, []byte(body)); code != want {
			t.Errorf("%s: %d, want %d", body, code, want)
		}
	}
	if n := w.found("valve"); n != 1 {
		t.Errorf("%d findings, want 1", n)
	}
}
