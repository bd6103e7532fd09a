package anomaly

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// stable maps a generated pseudonym to its principal, as a monitor's staff key does.
func stable(pseudonym string, _ time.Time) string {
	id, _, _ := strings.Cut(pseudonym, "-")
	return id
}

func run(d *Detector, records []Record) []Alert {
	var all []Alert
	for _, r := range records {
		all = append(all, d.Observe(r)...)
	}
	return all
}

// falseOfPeople is the most false alerts a person-day that docs/design/anomalies.md states.
// Dashboards under two purposes are one alert each, on their first day.
const falseOfPeople = 1.0 / 1000

func TestOrdinaryHistoriesRaiseFewAlerts(t *testing.T) {
	const people, days, seeds = 60, 30, 1
	for seed := range uint64(seeds) {
		records := ordinary(seed, people, days).sorted()
		all := run(New(nil, stable), records)
		machines := 0
		for _, a := range all {
			if a.Rule == RuleReidentify {
				machines++
			}
		}
		total := float64(people * days)
		t.Logf("seed %d: %d records, %d person-days: %d alerts of people, %d of dashboards", seed, len(records), people*days, len(all)-machines, machines)
		if float64(len(all)-machines)/total > falseOfPeople || machines > people/10 {
			for _, a := range all {
				t.Log(a.Text())
			}
			t.Error("more false alerts than stated")
		}
	}
}

// attacks are what each rule is there for, by somebody with sixty ordinary days behind them.
func attacks() map[string]func(h *history, s *staff, day time.Time) {
	noon := func(day time.Time) time.Time { return day.Add(11 * time.Hour) }
	return map[string]func(h *history, s *staff, day time.Time){
		RuleVolume: func(h *history, s *staff, day time.Time) {
			for i := range 40 {
				h.look(s, noon(day).Add(time.Duration(i)*time.Minute), s.purposes[0], "00000000000000aa", 10_000+int64(i))
			}
		},
		RulePurpose: func(h *history, s *staff, day time.Time) { h.look(s, noon(day), "advertising", "00000000000000aa", 5) },
		RuleCountry: func(h *history, s *staff, day time.Time) {
			away := *s
			away.country = "US"
			h.look(&away, noon(day), s.purposes[0], "00000000000000aa", 5)
		},
		RuleLookups: func(h *history, s *staff, day time.Time) { // one person after the other
			for i := range 400 {
				h.look(s, noon(day).Add(time.Duration(i)*5*time.Second), s.purposes[0], "00000000000000aa", 1)
			}
		},
		RuleMisses: func(h *history, s *staff, day time.Time) { // guessing which keys there are
			for i := range 200 {
				h.look(s, noon(day).Add(time.Duration(i)*5*time.Second), s.purposes[0], "00000000000000aa", int64(i%2))
			}
		},
		RulePages: func(h *history, s *staff, day time.Time) { // the whole table, page by page, below the volume
			for i := range 250 {
				h.look(s, noon(day).Add(time.Duration(i)*3*time.Second), s.purposes[0], "00000000000000aa", 50)
			}
		},
		RuleHours: func(h *history, s *staff, day time.Time) {
			h.look(s, day.Add(3*time.Hour), s.purposes[0], "00000000000000aa", 300)
		},
		RuleRefusals: func(h *history, s *staff, day time.Time) {
			for i := range 12 {
				h.refuse(s, noon(day).Add(time.Duration(i)*time.Minute), "support")
			}
		},
		RuleDoors: func(h *history, s *staff, day time.Time) {
			for i := range 4 {
				h.refuse(s, noon(day).Add(time.Duration(i)*time.Minute), fmt.Sprintf("dataset-%d", i))
			}
		},
		RuleReidentify: func(h *history, s *staff, day time.Time) { // a person here, the same person there
			for i := range 30 {
				at := noon(day).Add(time.Duration(i) * time.Minute)
				h.look(s, at, "product-analytics", "00000000000000aa", 1)
				h.look(s, at.Add(10*time.Second), "support", "00000000000000ab", 1)
			}
		},
	}
}

func TestEachAttackIsFoundByItsRule(t *testing.T) {
	cases := attacks()
	if len(cases) != len(Rules()) {
		t.Fatalf("%d attacks for %d rules", len(cases), len(Rules()))
	}
	for rule, attack := range cases {
		t.Run(rule, func(t *testing.T) {
			h := ordinary(7, 1, 0)
			s := &staff{id: "mallory", country: "CN", purposes: []string{"product-analytics"}}
			for d := range 60 {
				h.analyst(s, begin.AddDate(0, 0, d))
			}
			if rule == RuleReidentify { // both purposes are theirs
				for d := range 60 {
					h.look(s, begin.AddDate(0, 0, d).Add(10*time.Hour), "support", "00000000000000ac", 40)
				}
			}
			day := begin.AddDate(0, 0, 63) // a Monday
			attack(h, s, day)
			records := h.sorted()
			var found *Alert
			for _, a := range run(New(nil, stable), records) {
				if a.Rule == rule && !a.At.Before(day) {
					found = &a
				}
			}
			if found == nil {
				t.Fatal("not found")
			}
			if found.Observed < found.Threshold && found.Rule != RulePurpose && found.Rule != RuleCountry || found.Days == 0 || len(found.Records) == 0 ||
				len(found.Records) > maxRefs || found.Of < int64(len(found.Records)) || !strings.HasPrefix(found.Principal, "mallory-") {
				t.Errorf("the alert does not explain itself: %+v", *found)
			}
			for _, r := range found.Records {
				if at := records[r.Index].Body.At; at.Before(day) || access(records[r.Index].Body).Principal != found.Principal {
					t.Errorf("record %d is not part of it", r.Index)
				}
			}
			off := run(New(&Thresholds{Off: []string{rule}}, stable), records)
			if slices.ContainsFunc(off, func(a Alert) bool { return a.Rule == rule }) {
				t.Error("the rule is off and found it")
			}
		})
	}
}

func TestAlertsAreTheSameAfterAnyRestart(t *testing.T) {
	h := ordinary(3, 4, 15)
	s := &staff{id: "mallory", country: "CN", purposes: []string{"product-analytics"}}
	for d := range 15 {
		h.analyst(s, begin.AddDate(0, 0, d))
	}
	for _, attack := range attacks() {
		attack(h, s, begin.AddDate(0, 0, 16))
	}
	records := h.sorted()
	want := run(New(nil, stable), records)
	if len(want) < 5 {
		t.Fatalf("%d alerts: the test compares nothing", len(want))
	}
	d := New(nil, stable)
	var got []Alert
	for i, r := range records {
		if i%499 == 0 {
			raw, err := d.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if d, err = Restore(nil, stable, raw); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, d.Observe(r)...)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("with restarts: %v\nwithout:       %v", got, want)
	}
}

// TestPseudonymsOfAMonthHaveTheirOwnHistory: without a staff key the next month begins anew,
// and says nothing of habits until it has days enough.
func TestPseudonymsOfAMonthHaveTheirOwnHistory(t *testing.T) {
	h := ordinary(5, 1, 0)
	s := &staff{id: "mallory", country: "CN", purposes: []string{"product-analytics"}}
	for d := range 40 { // into the second week of February
		h.analyst(s, begin.AddDate(0, 0, d))
	}
	h.look(s, time.Date(2026, 2, 2, 11, 0, 0, 0, time.UTC), "advertising", "00000000000000aa", 5)
	records := h.sorted()
	habit := func(a Alert) bool { return a.Rule == RulePurpose }
	if !slices.ContainsFunc(run(New(nil, stable), records), habit) {
		t.Error("not found with a history of January")
	}
	d := New(nil, nil)
	if slices.ContainsFunc(run(d, records), habit) {
		t.Error("found without a history")
	}
	if d.People() != 2 {
		t.Errorf("%d pseudonyms are remembered, want one a month", d.People())
	}
}

func TestABaselineIsNotLiftedInOneLeap(t *testing.T) {
	s := &staff{id: "mallory", country: "CN", purposes: []string{"product-analytics"}}
	h := ordinary(1, 1, 0)
	for d := range 8 {
		rows := int64(1000)
		if d >= 6 {
			rows = 10_000_000
		}
		h.look(s, begin.AddDate(0, 0, d).Add(11*time.Hour), s.purposes[0], "00000000000000aa", rows)
	}
	var days []int64
	for _, a := range run(New(nil, stable), h.sorted()) {
		if a.Rule == RuleVolume && a.Detail == "rows" {
			days = append(days, a.Threshold)
		}
	}
	if !slices.Equal(days, []int64{100_000, 300_000}) {
		t.Errorf("thresholds of the alerts: %v", days)
	}
}

func TestChunksOfOneAnswerCountOnce(t *testing.T) {
	s := &staff{id: "a", country: "IE", purposes: []string{"support"}}
	h := ordinary(1, 1, 0)
	for i := range 1000 { // 1,000 chunks of one row make one large answer, not 1,000 look-ups
		h.look(s, begin.Add(10*time.Hour+time.Duration(i)*time.Second), "support", "00000000000000aa", 1)
		h.records[i].Body.Release.Final = i == 999
	}
	if all := run(New(nil, stable), h.sorted()); len(all) != 0 {
		t.Errorf("%v", all)
	}
}

func TestMemoryIsBoundedWhateverIsLogged(t *testing.T) {
	d := New(nil, nil)
	at := begin
	for i := range MaxPeople + 5000 {
		at = at.Add(time.Second)
		s := &staff{id: fmt.Sprint(i), country: "IE", purposes: []string{"support"}}
		h := &history{}
		h.look(s, at, "support", "00000000000000aa", 1)
		run(d, h.records)
	}
	if d.People() > MaxPeople {
		t.Errorf("%d principals", d.People())
	}
	// One principal who floods every list.
	s := &staff{id: "flood", purposes: []string{"x"}}
	one := New(nil, nil)
	for i := range 5_000 {
		at = at.Add(time.Second)
		h := &history{}
		s.country = fmt.Sprint(i)
		h.look(s, at, fmt.Sprintf("purpose-%d", i), fmt.Sprintf("%016x", i), 1)
		h.refuse(s, at, fmt.Sprintf("dataset-%d", i))
		h.records[0].Body.Release.Access.Session = fmt.Sprint(i)
		h.records[0].Body.Release.Final = i%2 == 0
		run(one, h.records)
	}
	raw, err := one.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 200_000 {
		t.Errorf("one principal takes %d bytes", len(raw))
	}
}

func TestServicesAndUnknownPrincipalsAreNotJudged(t *testing.T) {
	d := New(nil, nil)
	for _, b := range []*trefoil.Body{
		{Kind: trefoil.KindSummary, Summary: &trefoil.SummaryBody{Access: trefoil.Access{Principal: "p"}, Rows: math.MaxInt32}},
		{Kind: trefoil.KindSession, Session: &trefoil.SessionBody{Access: trefoil.Access{Principal: "p"}, Path: "service", Event: "start"}},
		{Kind: trefoil.KindRelease, Release: &trefoil.ReleaseBody{Rows: math.MaxInt32}},
		{Kind: trefoil.KindSite, Site: &trefoil.SiteBody{}},
	} {
		if a := d.Observe(Record{Body: b}); a != nil {
			t.Errorf("%s: %v", b.Kind, a)
		}
	}
	if d.People() != 0 {
		t.Error("somebody is remembered")
	}
}

func TestThresholdsAreStrict(t *testing.T) {
	for path, th := range map[string]Thresholds{
		"off[0]": {Off: []string{"anomaly-typo"}}, "rows": {Rows: -1}, "history_days": {HistoryDays: 91}, "window": {Window: "1y"},
		"hours.zone": {Hours: Hours{Zone: "Atlantis"}}, "hours.from": {Hours: Hours{From: 20, To: 4}}, "hours.days[0]": {Hours: Hours{Days: []string{"monday"}}},
		"factor": {Factor: 2000},
	} {
		var got []string
		th.Validate(func(p, _ string) { got = append(got, p) })
		if !slices.Contains(got, path) {
			t.Errorf("%s: %v", path, got)
		}
	}
	(&Thresholds{}).Validate(func(p, text string) { t.Errorf("%s %s", p, text) })
}

// FuzzRestore: no file makes a detector that fails later.
func FuzzRestore(f *testing.F) {
	d := New(nil, nil)
	h := ordinary(2, 3, 3)
	run(d, h.sorted())
	raw, err := d.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"version":1,"people":{"x":null}}`))
	f.Add([]byte(`{"version":1,"people":{"x":{"days":[{"n":-9223372036854775808,"r":9223372036854775807}],"alerted":null}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := Restore(nil, nil, raw)
		if err != nil {
			return
		}
		run(d, h.records)
		again, err := d.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		e, err := Restore(nil, nil, again)
		if err != nil {
			t.Fatalf("what was restored cannot be restored again: %v", err)
		}
		third, err := e.Snapshot()
		if err != nil || !bytes.Equal(again, third) {
			t.Errorf("a snapshot of a snapshot differs: %v", err)
		}
	})
}
