package cheat

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/anomaly"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

var monday = time.Date(2026, 11, 16, 9, 0, 0, 0, time.UTC)

func config(t testing.TB) Config {
	t.Helper()
	region, err := law.NewRegion([]string{"EEA", "GB", "CH"})
	if err != nil {
		t.Fatal(err)
	}
	return Config{Region: region, Who: func(p string, _ time.Time) string {
		return map[string]string{"pshop": "shop-api", "pother": "other"}[p]
	},
		Services: []Service{{Principal: "shop-api", Fingerprints: []string{"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"}, RowsPerHour: 1000, Unparsed: 2}}}
}

// history makes records one after the other.
type history struct {
	d      *Detector
	index  uint64
	alerts []anomaly.Alert
	all    []anomaly.Record
}

func (h *history) add(at time.Time, b *trefoil.Body) {
	b.At = at
	r := anomaly.Record{Origin: "log", Index: h.index, Body: b}
	h.index++
	h.all = append(h.all, r)
	h.alerts = append(h.alerts, h.d.Observe(r)...)
}

func (h *history) rules() []string {
	var out []string
	for _, a := range h.alerts {
		if !slices.Contains(out, a.Rule) {
			out = append(out, a.Rule)
		}
	}
	slices.Sort(out)
	return out
}

func summary(principal string, rows, unparsed int64, prints ...string) *trefoil.Body {
	b := &trefoil.SummaryBody{Access: trefoil.Access{Principal: principal}, Rows: rows, Unparsed: unparsed}
	for _, p := range prints {
		b.Statements = append(b.Statements, trefoil.StatementSummary{Fingerprint: p, Calls: 3, Rows: rows, Kind: "select"})
	}
	return &trefoil.Body{Kind: trefoil.KindSummary, Summary: b}
}

func session(principal, entity, employer, workplace, network string, evidence ...string) *trefoil.Body {
	e := append(slices.Clone(evidence), "declared", "declared")
	return &trefoil.Body{Kind: trefoil.KindSession, Session: &trefoil.SessionBody{Event: "start", Path: "release", Access: trefoil.Access{
		Principal: principal, Importer: trefoil.Party{Entity: entity, Country: employer}, Location: []trefoil.Place{
			{Source: law.Employer, Country: employer, Evidence: e[0]}, {Source: law.Workplace, Country: workplace, Evidence: e[1]},
			{Source: law.Network, Country: network, Evidence: "network"}}}}}
}

// expect checks that exactly these rules spoke, and that every alert can be followed to records.
func (h *history) expect(t *testing.T, rules ...string) {
	t.Helper()
	if got := h.rules(); !slices.Equal(got, rules) {
		t.Errorf("alerts of %v, not %v: %+v", got, rules, h.alerts)
	}
	for _, a := range h.alerts {
		if len(a.Records) == 0 || a.Principal == "" || len(a.Records) > maxRefs {
			t.Errorf("an alert names %d records: %+v", len(a.Records), a)
		}
	}
}

func TestAHumanBehindAServicesAccountIsFoundByTheStatement(t *testing.T) {
	h := &history{d: New(config(t))}
	for i := range 50 {
		h.add(monday.Add(time.Duration(i)*time.Minute), summary("pshop", 10, 0, "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"))
	}
	h.expect(t)
	h.add(monday.Add(time.Hour), summary("pshop", 1, 0, "cccccccccccccccc"))
	h.expect(t, RuleStatement)
	if a := h.alerts[0]; a.Detail != "cccccccccccccccc" || a.Records[0].Index != 50 {
		t.Errorf("the alert says %+v", a)
	}
	h.add(monday.Add(61*time.Minute), summary("pshop", 1, 0, "cccccccccccccccc"))
	if len(h.alerts) != 1 {
		t.Error("the same statement is told twice on one day")
	}
}

func TestAHumanBehindAServicesAccountIsFoundByTheRows(t *testing.T) {
	h := &history{d: New(config(t))}
	for i := range 9 {
		h.add(monday.Add(time.Duration(i)*time.Minute), summary("pshop", 100, 0, "aaaaaaaaaaaaaaaa"))
	}
	h.add(monday.Add(time.Hour), summary("pshop", 900, 0, "aaaaaaaaaaaaaaaa")) // another hour
	h.expect(t)
	h.add(monday.Add(65*time.Minute), summary("pshop", 200, 0, "aaaaaaaaaaaaaaaa"))
	h.expect(t, RuleRows)
	if a := h.alerts[0]; a.Observed != 1100 || a.Threshold != 1000 || len(a.Records) != 2 {
		t.Errorf("the alert says %+v", a)
	}
}

func TestAHumanBehindAServicesAccountCannotHideInWhatIsNotParsed(t *testing.T) {
	h := &history{d: New(config(t))}
	h.add(monday, summary("pshop", 1, 2, "aaaaaaaaaaaaaaaa"))
	h.expect(t)
	h.add(monday.Add(time.Minute), summary("pshop", 1, 1, "aaaaaaaaaaaaaaaa"))
	h.expect(t, RuleUnparsed)
}

func TestAServicesAccountThatNobodyDescribedIsFound(t *testing.T) {
	h := &history{d: New(config(t))}
	h.add(monday, summary("pother", 1, 0, "aaaaaaaaaaaaaaaa"))
	h.add(monday, summary("pnobody", 1, 0, "aaaaaaaaaaaaaaaa"))
	h.expect(t, RuleUnlisted)
	if len(h.alerts) != 2 {
		t.Errorf("%d alerts of two accounts", len(h.alerts))
	}
	silent := config(t)
	silent.Services = nil
	h = &history{d: New(silent)}
	h.add(monday, summary("pother", 1, 0, "aaaaaaaaaaaaaaaa"))
	h.expect(t)
}

func TestARemoteDesktopInTheRegionContradictsTheWorkplace(t *testing.T) {
	h := &history{d: New(config(t))}
	h.add(monday, session("p", "Clover Beijing", "CN", "CN", "IE"))
	h.expect(t, RulePlaces)
	h = &history{d: New(config(t))}
	h.add(monday, session("p", "Clover Beijing", "CN", "CN", "CN"))
	h.add(monday.Add(3*time.Hour), session("q", "Clover", "IE", "IE", "NO"))
	h.add(monday.Add(4*time.Hour), session("q", "Clover", "IE", "IE", ""))
	h.expect(t)
}

func TestAShellEmployerWhosePeopleAreAllElsewhere(t *testing.T) {
	h := &history{d: New(config(t))}
	for i := range shellSessions {
		h.add(monday.Add(time.Duration(i)*24*time.Hour), session(fmt.Sprint("p", i), "Letterbox Ltd", "IE", "CN", "CN"))
	}
	h.expect(t, RuleShell)
	if a := h.alerts[0]; a.Detail != "Letterbox Ltd" || len(a.Records) != shellSessions {
		t.Errorf("the alert says %+v", a)
	}
	h = &history{d: New(config(t))}
	for i := range 40 { // one of five is in the office
		network := "CN"
		if i%shellSessions == 0 {
			network = "IE"
		}
		h.add(monday.Add(time.Duration(i)*24*time.Hour), session(fmt.Sprint("p", i), "Clover", "IE", "CN", network))
	}
	if slices.Contains(h.rules(), RuleShell) {
		t.Error("an employer with people at home is no shell")
	}
}

func TestAPlaceThatIsChangedUsedAndRestored(t *testing.T) {
	h := &history{d: New(config(t))}
	h.add(monday, session("p", "Clover", "IE", "CN", ""))
	h.add(monday.Add(24*time.Hour), session("p", "Clover", "IE", "IE", ""))
	h.expect(t)
	h.add(monday.Add(48*time.Hour), session("p", "Clover", "IE", "CN", ""))
	h.expect(t, RuleRestored)
	if a := h.alerts[0]; a.Detail != "workplace CN, IE, CN" || len(a.Records) != 2 {
		t.Errorf("the alert says %+v", a)
	}
	h = &history{d: New(config(t))} // somebody who moves, and comes back after a posting
	h.add(monday, session("p", "Clover", "IE", "IE", ""))
	h.add(monday.Add(24*time.Hour), session("p", "Clover", "IE", "NO", ""))
	h.add(monday.Add(90*24*time.Hour), session("p", "Clover", "IE", "IE", ""))
	h.expect(t)
}

func TestAPlaceThatIsAttestedByLessThanBefore(t *testing.T) {
	h := &history{d: New(config(t))}
	h.add(monday, session("p", "Clover", "IE", "IE", "", "certificate", "token"))
	h.add(monday.Add(time.Hour), session("p", "Clover", "IE", "IE", "", "certificate", "token"))
	h.expect(t)
	h.add(monday.Add(2*time.Hour), session("p", "Clover", "IE", "IE", "", "certificate", "declared"))
	h.expect(t, RuleWeaker)
}

func TestTwoCountriesInOneHour(t *testing.T) {
	h := &history{d: New(config(t))}
	h.add(monday, session("p", "Clover", "IE", "IE", "IE"))
	h.add(monday.Add(3*time.Hour), session("p", "Clover", "IE", "IE", "NO"))
	h.expect(t)
	h.add(monday.Add(4*time.Hour), session("p", "Clover", "IE", "IE", "IE"))
	h.expect(t, RuleTravel)
}

// TestPlantedDictionaryValues: who planted known persons, and asks for their pseudonyms by value in
// the datasets of two purposes, leaves look-ups that go to and fro, whatever the values.
func TestPlantedDictionaryValues(t *testing.T) {
	d := anomaly.New(nil, nil)
	var found []anomaly.Alert
	for i := range 400 {
		purpose := []string{"analytics", "research"}[i%2]
		b := &trefoil.Body{Kind: trefoil.KindRelease, At: monday.Add(time.Duration(i) * 10 * time.Second), Release: &trefoil.ReleaseBody{Rows: 1, Final: true, Outcome: "complete",
			Access:     trefoil.Access{Principal: "p", Purpose: purpose, Dataset: purpose, Forms: map[string][]string{"identifier": {"pseudonymised"}}, Session: fmt.Sprintf("%032d", i%2)},
			Statements: []trefoil.Statement{{Fingerprint: "aaaaaaaaaaaaaaaa", Kind: "select", Tables: []string{"public.person"}}}, Chunk: int64(i / 2)}}
		found = append(found, d.Observe(anomaly.Record{Origin: "log", Index: uint64(i), Body: b})...)
	}
	if !slices.ContainsFunc(found, func(a anomaly.Alert) bool { return a.Rule == anomaly.RuleReidentify }) {
		t.Errorf("look-ups of the same persons in two purposes are not found: %d alerts", len(found))
	}
}

// ordinary makes half a year of people and services that do nothing wrong.
func ordinary(h *history) {
	for day := range 180 {
		at := monday.Add(time.Duration(day) * 24 * time.Hour)
		for i := range 20 {
			network := "IE"
			if i%7 == 3 {
				network = "" // an address that no file knows
			}
			if (day+i)%30 == 0 {
				network = "NO" // a day's journey
			}
			h.add(at.Add(time.Duration(i)*time.Minute), session(fmt.Sprint("p", i), "Clover", "IE", "IE", network, "certificate", "token"))
			h.add(at.Add(time.Duration(i)*time.Minute+5*time.Hour), session(fmt.Sprint("p", i), "Clover", "IE", "IE", network, "certificate", "token"))
		}
		for hour := range 24 {
			h.add(at.Add(time.Duration(hour)*time.Hour), summary("pshop", 900, 1, "aaaaaaaaaaaaaaaa"))
		}
	}
}

func TestOrdinaryMonthsGiveNoAlert(t *testing.T) {
	h := &history{d: New(config(t))}
	ordinary(h)
	h.expect(t)
}

// TestARestartChangesNothing replays a history with cheats, saving and restoring all the time.
func TestARestartChangesNothing(t *testing.T) {
	h := &history{d: New(config(t))}
	ordinary(h)
	for i := range 10 {
		at := monday.Add(time.Duration(200+i) * 24 * time.Hour)
		h.add(at, session(fmt.Sprint("q", i), "Letterbox Ltd", "IE", "CN", "CN"))
		h.add(at.Add(time.Minute), session("r", "Clover", "IE", []string{"CN", "IE"}[i%2], "IE"))
		h.add(at.Add(2*time.Minute), summary("pshop", 700, 1, fmt.Sprintf("%016d", i)))
		h.add(at.Add(3*time.Minute), summary("pshop", 700, 2, "aaaaaaaaaaaaaaaa"))
	}
	d, err := New(config(t)), error(nil)
	var alerts []anomaly.Alert
	for i, r := range h.all {
		alerts = append(alerts, d.Observe(r)...)
		if i%97 != 0 && i < len(h.all)-40 {
			continue
		}
		raw, serr := d.Snapshot()
		if d, err = Restore(config(t), raw); err != nil || serr != nil {
			t.Fatal(err, serr)
		}
	}
	if !reflect.DeepEqual(alerts, h.alerts) || len(alerts) == 0 {
		t.Errorf("%d alerts with restarts, %d without", len(alerts), len(h.alerts))
	}
}

func TestAMemoryThatIsNoneIsRefused(t *testing.T) {
	for _, raw := range []string{"", "{", "null", `{"services":null}`, `[]`} {
		if d, err := Restore(config(t), []byte(raw)); err == nil && (d.m.People == nil || d.m.Services == nil) {
			t.Errorf("%q gives a detector without memory", raw)
		}
	}
}

func TestMemoryIsBoundedByPeople(t *testing.T) {
	h := &history{d: New(config(t))}
	for i := range maxPeople + 5000 {
		h.d.Observe(anomaly.Record{Body: withTime(session(fmt.Sprint("p", i), fmt.Sprint("e", i), "IE", "IE", "CN"), monday.Add(time.Duration(i)*time.Second))})
	}
	if n := len(h.d.m.People); n > maxPeople {
		t.Errorf("%d people are remembered", n)
	}
	if n := len(h.d.m.Entities); n > maxPeople {
		t.Errorf("%d entities are remembered", n)
	}
}

func withTime(b *trefoil.Body, at time.Time) *trefoil.Body {
	b.At = at
	return b
}

func TestLearnedRulesFitWhatTheyWereLearnedFrom(t *testing.T) {
	h := &history{d: New(config(t))}
	ordinary(h)
	c := config(t)
	c.Services = Learn(h.all, c.Who)
	if len(c.Services) != 1 || c.Services[0].RowsPerHour != 1800 || !slices.Equal(c.Services[0].Fingerprints, []string{"aaaaaaaaaaaaaaaa"}) {
		t.Fatalf("learned %+v", c.Services)
	}
}
