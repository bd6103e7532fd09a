package anomaly

import (
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// lookups looks for enumeration: one statement over and over in one window.
func (o *observation) lookups(name string, rows int64) {
	rules, t := o.d.rules, &o.p.Today
	s := o.p.shapeOf(name, o.at, rules.window())
	s.Refs.add(o.ref())
	if rows <= 1 {
		s.Lookups++
		t.Lookups = max(t.Lookups, s.Lookups)
	}
	if rows == 0 {
		s.Misses++
		t.Misses = max(t.Misses, s.Misses)
	}
	switch {
	case rows > 1 && rows == s.Size:
		s.Pages++
	case rows > 1:
		s.Size, s.Pages = rows, 1
	}
	t.Pages = max(t.Pages, s.Pages)
	for _, c := range []struct {
		rule, unit      string
		observed, floor int64
		measure         func(*day) int64
	}{
		{RuleLookups, "answers of at most one row to one statement in " + rules.Window, s.Lookups, rules.Lookups, func(d *day) int64 { return d.Lookups }},
		{RuleMisses, "answers without a row to one statement in " + rules.Window, s.Misses, rules.Misses, func(d *day) int64 { return d.Misses }},
		{RulePages, "answers of one size to one statement in " + rules.Window, s.Pages, rules.Pages, func(d *day) int64 { return d.Pages }},
	} {
		most := o.p.most(c.measure)
		if limit := o.threshold(c.floor, most); c.observed >= limit {
			o.raise(c.rule, name, c.unit, c.observed, most, limit, s.Refs.with(o.ref()), s.Refs.Of)
		}
	}
}

// switches looks for the linking of one purpose's rows with another's: look-ups of the same
// tables that go to and fro between two purposes, of which one at least holds pseudonyms.
func (o *observation) switches(tables []string) {
	hidden := false
	for _, forms := range o.a.Forms {
		hidden = hidden || slices.Contains(forms, string(law.Pseudonymised))
	}
	last, now := o.p.Last, o.at.Unix()
	o.p.Last = look{At: now, Purpose: o.a.Purpose, Tables: tables, Hidden: hidden}
	shared := slices.ContainsFunc(tables, func(t string) bool { return slices.Contains(last.Tables, t) })
	if last.Purpose == "" || last.Purpose == o.a.Purpose || !shared || !hidden && !last.Hidden ||
		now-last.At > int64(switchWithin/time.Second) {
		return
	}
	s, t := &o.p.Switch, &o.p.Today
	s.Refs.add(o.ref())
	s.Lookups++
	t.Switches = s.Lookups
	most := o.p.most(func(d *day) int64 { return d.Switches })
	if limit := o.threshold(o.d.rules.Switches, most); s.Lookups >= limit {
		pair := []string{last.Purpose, o.a.Purpose}
		slices.Sort(pair)
		o.raise(RuleReidentify, pair[0]+" and "+pair[1], "look-ups of the same tables in turn under two purposes in a day",
			s.Lookups, most, limit, s.Refs.with(o.ref()), s.Refs.Of)
	}
}

// refused counts refusals of the gateway, of the floor and of the monitor alike.
func (o *observation) refused() {
	rules, t, now := o.d.rules, &o.p.Today, o.at.Unix()
	from := now - int64(rules.window()/time.Second)
	o.p.Refusals = slices.DeleteFunc(o.p.Refusals, func(m moment) bool { return m.At <= from })
	if len(o.p.Refusals) >= maxTimes {
		o.p.Refusals = slices.Delete(o.p.Refusals, 0, 1)
	}
	o.p.Refusals = append(o.p.Refusals, moment{now, o.a.Dataset, o.ref()})
	n := int64(len(o.p.Refusals))
	t.Refusals = max(t.Refusals, n)
	var doors []string
	var r refs
	for _, m := range o.p.Refusals {
		r.add(m.Ref)
		if !slices.Contains(doors, m.Dataset) {
			doors = append(doors, m.Dataset)
		}
	}
	if n >= rules.Refusals {
		o.raise(RuleRefusals, "", "refusals in "+rules.Window, n, o.p.most(func(d *day) int64 { return d.Refusals }), rules.Refusals, r.with(o.ref()), r.Of)
	}
	if int64(len(doors)) >= rules.Doors {
		o.raise(RuleDoors, "", "datasets that refused in "+rules.Window, int64(len(doors)), 0, rules.Doors, r.with(o.ref()), r.Of)
	}
}
