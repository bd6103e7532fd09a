package anomaly

import (
	"math/bits"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// switchWithin is how soon a look-up in another purpose must follow to count as one with it.
const switchWithin = 2 * time.Minute

// observation is one record on its way through the rules.
type observation struct {
	d      *Detector
	p      *person
	r      Record
	a      *trefoil.Access
	at     time.Time
	alerts []Alert
}

func (o *observation) ref() Ref { return Ref{o.r.Origin, o.r.Index} }

// day begins a new day of the principal where the record is of one.
func (o *observation) day() {
	o.p.turn(o.at.Unix()/86400, o.officeDay(), o.d.rules)
}

func (o *observation) local() time.Time { return o.at.In(o.d.zone) }

func (o *observation) officeDay() bool {
	return slices.Contains(o.d.rules.Hours.Days, weekdays[o.local().Weekday()])
}

// known reports whether the principal has a history.
func (o *observation) known() bool { return len(o.p.Days) >= o.d.rules.MinDays }

// threshold is factor times the most in the history, and never below floor.
func (o *observation) threshold(floor, most int64) int64 {
	return o.d.rules.limit(floor, most)
}

// raise adds an alert, once a day for a rule and what it is about.
func (o *observation) raise(rule, detail, unit string, observed, baseline, threshold int64, records []Ref, of int64) {
	key := rule + " " + detail
	if _, again := o.p.Alerted[key]; again || slices.Contains(o.d.rules.Off, rule) {
		return
	}
	if o.p.Alerted == nil {
		o.p.Alerted = map[string]int64{}
	}
	if len(o.p.Alerted) >= 2*maxNames { // a flood of names says no more than its beginning
		return
	}
	o.p.Alerted[key] = o.p.Today.Number
	o.alerts = append(o.alerts, Alert{Rule: rule, At: o.at, Principal: o.a.Principal, Detail: detail, Unit: unit, Observed: observed,
		Baseline: baseline, Threshold: threshold, Days: len(o.p.Days), Records: records, Of: of})
}

// habits looks for a purpose or a country that the principal never used.
func (o *observation) habits() {
	known, days := o.known(), int64(2*o.d.rules.HistoryDays)
	if !use(&o.p.Purposes, o.a.Purpose, o.p.Today.Number, days) && known {
		o.raise(RulePurpose, o.a.Purpose, "uses before", 0, 0, 1, []Ref{o.ref()}, 1)
	}
	for _, c := range countries(o.a) {
		if !use(&o.p.Countries, c, o.p.Today.Number, days) && known {
			o.raise(RuleCountry, c, "uses before", 0, 0, 1, []Ref{o.ref()}, 1)
		}
	}
}

// countries are where an access counts as being, each with who says so.
func countries(a *trefoil.Access) []string {
	named := func(c string) string {
		if c == "" {
			return "unknown"
		}
		return c
	}
	out := []string{"importer " + named(a.Importer.Country)}
	for _, p := range a.Location {
		out = append(out, p.Source+" "+named(p.Country))
	}
	return out
}

// released takes a release: volume, hours, and at the end of an answer what it looks like.
func (o *observation) released(r *trefoil.ReleaseBody) {
	o.volume(r)
	o.hours(r)
	rows := o.answer(r)
	if rows < 0 || r.Outcome == "error" {
		return
	}
	name := "unparsed"
	var tables []string
	for _, s := range r.Statements {
		if s.Fingerprint != "" {
			name = s.Fingerprint
		}
		for _, t := range s.Tables {
			if t != "?" && !slices.Contains(tables, t) && len(tables) < maxNames {
				tables = append(tables, t)
			}
		}
	}
	if len(tables) == 0 { // SELECT 1, SET: no person is looked up
		return
	}
	o.lookups(name, rows)
	if rows <= 1 {
		o.switches(tables)
	}
}

// answer adds up the chunks of one answer. It returns its rows at its end, and −1 before.
func (o *observation) answer(r *trefoil.ReleaseBody) int64 {
	p := o.p
	i := slices.IndexFunc(p.Open, func(x open) bool { return x.Session == o.a.Session })
	switch {
	case r.Final && i < 0:
		return r.Rows
	case r.Final:
		rows := p.Open[i].Rows + r.Rows
		p.Open = slices.Delete(p.Open, i, i+1)
		return rows
	case i >= 0:
		p.Open[i].Rows += r.Rows
	default:
		if len(p.Open) >= maxOpen {
			p.Open = slices.Delete(p.Open, 0, 1)
		}
		p.Open = append(p.Open, open{o.a.Session, r.Rows})
	}
	return -1
}

// volume compares today's rows and bytes with the most of any day before.
func (o *observation) volume(r *trefoil.ReleaseBody) {
	t, rules := &o.p.Today, o.d.rules
	o.p.Volume.add(o.ref())
	t.Rows += r.Rows
	t.Bytes += r.Bytes
	check := func(unit string, observed, floor int64, measure func(*day) int64) {
		most := o.p.most(measure)
		limit := o.threshold(floor, most)
		if observed >= limit {
			o.raise(RuleVolume, unit, unit+" in a day", observed, most, limit, o.p.Volume.with(o.ref()), o.p.Volume.Of)
		}
	}
	check("rows", t.Rows, rules.Rows, func(d *day) int64 { return d.Rows })
	check("bytes", t.Bytes, rules.Bytes, func(d *day) int64 { return d.Bytes })
}

// hours looks for reading at an hour outside the office at which the principal never read.
func (o *observation) hours(r *trefoil.ReleaseBody) {
	rules, t, local := o.d.rules, &o.p.Today, o.local()
	hour, week := local.Hour(), o.officeDay()
	office := week && hour >= rules.Hours.From && hour < rules.Hours.To
	if r.Rows > 0 {
		t.Hours |= 1 << hour
	}
	if office || r.Rows == 0 {
		return
	}
	if !o.known() || slices.ContainsFunc(o.p.Days, func(d day) bool { return d.awake(hour, week) }) {
		return
	}
	t.OffRows += r.Rows
	o.p.Off.add(o.ref())
	if t.OffRows >= rules.Hours.Rows {
		what := "at night"
		if !week {
			what = "on a day off"
		}
		o.raise(RuleHours, what, "rows outside office hours", t.OffRows, 0, rules.Hours.Rows, o.p.Off.with(o.ref()), o.p.Off.Of)
	}
}

// roundTheClock is in how many hours of a day a machine reads, as a dashboard does.
const roundTheClock = 20

// awake reports whether the principal read about this hour on such a day, or round the clock.
func (d *day) awake(hour int, week bool) bool {
	near := d.Hours>>hour | d.Hours>>((hour+1)%24) | d.Hours>>((hour+23)%24)
	return d.Week == week && near&1 == 1 || bits.OnesCount32(d.Hours) >= roundTheClock
}
