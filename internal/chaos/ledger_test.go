package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// slack is what the gateway's own fixed messages may amount to: SCRAM, a notice, a refusal.
const slack = 4 << 10

// entry is what the monitor's mirror knows of one session.
type entry struct {
	principal string
	start     *trefoil.Body // with its permit
	end       *trefoil.SessionBody
	permitted int64 // bytes of its release records that the monitor permitted
	recorded  int64 // bytes of all its release records
}

// ledger reads the mirror: sessions of the release path by principal.
func ledger(t *testing.T, e *enclave) map[string][]*entry {
	t.Helper()
	records, err := monitor.Records(e.Path("monitor"))
	if err != nil {
		t.Fatal(err)
	}
	byID, out := map[string]*entry{}, map[string][]*entry{}
	session := func(a *trefoil.Access) *entry {
		if byID[a.Session] == nil {
			byID[a.Session] = &entry{principal: a.Principal}
			out[a.Principal] = append(out[a.Principal], byID[a.Session])
		}
		return byID[a.Session]
	}
	for _, r := range records {
		switch b := r.Body; {
		case b.Session != nil && b.Session.Path == "release" && b.Session.Event == "start" && r.Permitted:
			session(&b.Session.Access).start = b
		case b.Session != nil && b.Session.Path == "release" && b.Session.Event == "end":
			session(&b.Session.Access).end = b.Session
		case b.Release != nil:
			s := session(&b.Release.Access)
			s.recorded += b.Release.Bytes
			if r.Permitted {
				s.permitted += b.Release.Bytes
			}
		}
	}
	return out
}

// books are the sums of an audit.
type books struct {
	visits, open, equal, partial int
	socket, permitted            int64
}

// audit compares what every visit saw with the mirror. It returns what does not add up.
func (e *enclave) audit(t *testing.T, visits []*visit) (books, []string) {
	t.Helper()
	staff, err := os.ReadFile(e.Path("monitor", "keys", "staff"))
	if err != nil {
		t.Fatal(err)
	}
	sessions := ledger(t, e)
	var sum books
	var faults []string
	for _, v := range visits {
		sum.visits++
		sum.socket += v.login + v.after
		if !v.open {
			if v.login > slack || v.after != 0 || v.rows != 0 {
				faults = append(faults, fmt.Sprintf("%s was never let in and got %d bytes", v.who, v.login+v.after))
			}
			continue
		}
		sum.open++
		var mine []*entry
		for _, s := range sessions[trefoil.StaffPseudonym(staff, v.from, v.who)] {
			if s.start != nil && !s.start.At.Before(v.from.UTC().Truncate(time.Microsecond)) && !s.start.At.After(v.to) {
				mine = append(mine, s)
			}
		}
		if len(mine) != 1 {
			faults = append(faults, fmt.Sprintf("%s: %d permitted sessions in the mirror between %s and %s",
				v.who, len(mine), v.from.Format(time.TimeOnly), v.to.Format(time.TimeOnly)))
			continue
		}
		sum.permitted += mine[0].permitted
		if fault := e.settle(v, mine[0], &sum); fault != "" {
			faults = append(faults, fmt.Sprintf("%s (ended by %v): %s", v.who, v.err, fault))
		}
	}
	return sum, faults
}

// settle compares one visit with its session: never more than was permitted, and where both
// sides ended it properly the same to the byte.
func (e *enclave) settle(v *visit, s *entry, sum *books) string {
	most := s.permitted
	if v.covered {
		most += s.start.Session.Allowance
	}
	if v.state != "" {
		most += slack // the gateway's last words
	}
	switch {
	case v.login > s.start.Session.Allowance+slack:
		return fmt.Sprintf("%d bytes at login", v.login)
	case v.after > most:
		return fmt.Sprintf("%d bytes at the socket, %d in permitted records", v.after, most)
	case s.end != nil && v.login+v.after > s.end.Released+s.end.Covered+s.end.Fixed:
		return fmt.Sprintf("%d bytes at the socket, the session's end says %+v", v.login+v.after, *s.end)
	case s.end != nil && s.end.Released > s.permitted:
		return fmt.Sprintf("%d bytes released, %d permitted", s.end.Released, s.permitted)
	case s.end == nil && !e.killedAfter(v.to):
		return "its end is in no record, though its gateway lived on"
	case v.clean && s.end != nil && s.end.Outcome != "closed" && !e.crossed(v):
		return "the client said Terminate, and the session's end says " + s.end.Outcome
	case !v.clean || s.end == nil || e.crossed(v): // a database's last words may have crossed with the client's
		sum.partial++
		return ""
	}
	if v.login+v.after != s.end.Released+s.end.Covered+s.end.Fixed || s.end.Released != s.permitted || s.permitted != s.recorded {
		return fmt.Sprintf("%d bytes at the socket; released %d, covered %d, fixed %d; permitted %d, recorded %d", v.login+v.after,
			s.end.Released, s.end.Covered, s.end.Fixed, s.permitted, s.recorded)
	}
	sum.equal++
	return ""
}

// killedAfter says whether the gateway was killed so soon after a session's end that its last
// record may never have been written.
func (e *enclave) killedAfter(end time.Time) bool {
	for _, at := range e.kills {
		if d := at.Sub(end); d > -10*time.Second && d < 20*time.Second {
			return true
		}
	}
	return false
}

// crossed says whether the visit's database was killed while the visit ended.
func (e *enclave) crossed(v *visit) bool {
	for _, at := range e.hurt[clusterOf[v.dataset]] {
		if d := at.Sub(v.to); d > -2*time.Second && d < 2*time.Second {
			return true
		}
	}
	return false
}

// settled audits until everything adds up: end records come a moment after the sockets close,
// and the mirror a moment after them.
func (e *enclave) settled(ctx context.Context, t *testing.T, visits []*visit) books {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Millisecond) {
		_, head := e.checkpoint(ctx)
		mirrored := e.mirrored(ctx, t)
		sum, faults := e.audit(t, visits)
		if len(faults) == 0 && mirrored >= head.Size {
			return sum
		}
		if time.Now().After(deadline) {
			t.Errorf("%d of %d visits do not add up (mirror %d of %d):\n%s", len(faults), len(visits), mirrored, head.Size,
				strings.Join(faults[:min(len(faults), 20)], "\n"))
			return sum
		}
	}
}

// status asks the monitor as its own reader does.
func (e *enclave) status(ctx context.Context, t *testing.T) *monitor.Status {
	t.Helper()
	token, err := os.ReadFile(e.Path("monitor", "keys", "bodies.token"))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.env["MONITOR_URL"]+"/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s := new(monitor.Status)
	if err := json.NewDecoder(resp.Body).Decode(s); err != nil || resp.StatusCode != http.StatusOK || len(s.Logs) != 1 {
		t.Fatalf("the monitor's status: HTTP %d, %v, %+v", resp.StatusCode, err, s)
	}
	return s
}

func (e *enclave) mirrored(ctx context.Context, t *testing.T) uint64 {
	return e.status(ctx, t).Logs[0].Bodies
}

// verify re-reads the log as an outsider, against every checkpoint that was seen, and lets the
// monitor re-read its mirror.
func (e *enclave) verify(ctx context.Context, t *testing.T, seen [][]byte) {
	t.Helper()
	fetcher := trefoil.NewClient(e.env["LOG_URL"], &http.Client{Timeout: 20 * time.Second})
	report, err := trefoil.VerifyLog(ctx, fetcher, e.trust(), trefoil.LogOptions{Tiles: true})
	if err != nil {
		t.Errorf("the log does not verify: %v", err)
		return
	}
	t.Logf("log of %d leaves verifies, tiles too", report.Leaves)
	for i, earlier := range seen {
		if _, err := trefoil.VerifyLog(ctx, fetcher, e.trust(), trefoil.LogOptions{Earlier: earlier}); err != nil {
			t.Errorf("the log does not hold what it held after round %d: %v", i+1, err)
		}
	}
	out, err := exec.CommandContext(ctx, e.binary, "monitor", "verify", "--dir", e.Path("monitor")).CombinedOutput()
	t.Logf("$ trefoil monitor verify\n%s", out)
	if err != nil {
		t.Errorf("the mirror does not verify: %v", err)
	}
	// A gateway that dies between a record and its permit leaves a record that nobody asked
	// for, which the monitor says, rightly. It must have nothing else to say of the gateway; that the
	// load is an unusual analyst, whose declared country is not the network's, is said too.
	s := e.status(ctx, t)
	t.Logf("the monitor's findings: %v", s.ByRule)
	expected := s.ByRule["release-without-permit"]
	for rule, n := range s.ByRule {
		if strings.HasPrefix(rule, "anomaly-") || strings.HasPrefix(rule, "place-") {
			expected += n
		}
	}
	if s.Findings != expected {
		findings, err := os.ReadFile(e.Path("monitor", "state", "findings.jsonl"))
		t.Errorf("the monitor has findings: %v (%v)\n%s", s.ByRule, err, findings)
	}
}

// nothingHeld waits until the gateway holds no spill file, with a name or without.
func (e *enclave) nothingHeld(t *testing.T) {
	t.Helper()
	var held []string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		held = nil
		named, err := filepath.Glob(e.Path("spill", "*"))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, named...)
		open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", e.pid("gateway")))
		if err != nil || len(open) == 0 {
			t.Fatalf("the gateway's open files cannot be listed: %v", err)
		}
		for _, fd := range open {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, e.Path("spill")) {
				held = append(held, to)
			}
		}
		if len(held) == 0 {
			return
		}
	}
	t.Errorf("spill files that nobody needs: %v", held)
}
