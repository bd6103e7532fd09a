package anomaly

import (
	"fmt"
	"slices"
	"time"
	_ "time/tzdata" // office hours are local, also where the system has no zones
)

// Thresholds is the section anomalies of rules.yaml. What is left out takes its default; a
// rule is left out by naming it under off.
type Thresholds struct {
	Off         []string `yaml:"off,omitempty"`          // names of rules
	HistoryDays int      `yaml:"history_days,omitempty"` // active days that are remembered: 28, at most 90
	MinDays     int      `yaml:"min_days,omitempty"`     // active days before a principal has a history: 5
	Factor      int64    `yaml:"factor,omitempty"`       // times the most in the history: 3
	Rows        int64    `yaml:"rows,omitempty"`         // volume: never below, a day: 100,000
	Bytes       int64    `yaml:"bytes,omitempty"`        // volume: never below, a day: 64 MiB
	Window      string   `yaml:"window,omitempty"`       // of look-ups, pages and refusals: 1h
	Lookups     int64    `yaml:"lookups,omitempty"`      // answers of at most one row to one statement: 300
	Misses      int64    `yaml:"misses,omitempty"`       // answers without a row to one statement: 100
	Pages       int64    `yaml:"pages,omitempty"`        // answers of one size to one statement: 200
	Refusals    int64    `yaml:"refusals,omitempty"`     // 10
	Doors       int64    `yaml:"doors,omitempty"`        // datasets that refused: 3
	Switches    int64    `yaml:"switches,omitempty"`     // look-ups that follow one in another purpose, a day: 20
	Hours       Hours    `yaml:"hours,omitempty"`
}

// Hours are office hours, in a zone of their own.
type Hours struct {
	Zone string   `yaml:"zone,omitempty"` // Europe/Dublin
	From int      `yaml:"from,omitempty"` // first hour that counts as office: 6
	To   int      `yaml:"to,omitempty"`   // first that no longer does: 21
	Days []string `yaml:"days,omitempty"` // mon … sun; default mon to fri
	Rows int64    `yaml:"rows,omitempty"` // outside them, a day: 200
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Validate calls bad for each thing that is wrong, with its path below anomalies.
func (t *Thresholds) Validate(bad func(path, text string)) {
	for i, r := range t.Off {
		if !slices.Contains(Rules(), r) {
			bad(fmt.Sprintf("off[%d]", i), "names no rule of docs/design/anomalies.md")
		}
	}
	for path, v := range map[string]int64{"history_days": int64(t.HistoryDays), "min_days": int64(t.MinDays), "factor": t.Factor, "rows": t.Rows,
		"bytes": t.Bytes, "lookups": t.Lookups, "misses": t.Misses, "pages": t.Pages, "refusals": t.Refusals, "doors": t.Doors,
		"switches": t.Switches, "hours.rows": t.Hours.Rows} {
		if v < 0 || v > 1<<50 {
			bad(path, "must not be negative, nor above 2^50")
		}
	}
	if t.HistoryDays > maxDays {
		bad("history_days", "must be at most 90")
	}
	if t.Factor > 1000 || t.Refusals > maxTimes || t.Doors > maxNames {
		bad("factor", "factor is at most 1000, refusals 100, doors 64")
	}
	if t.Window != "" {
		if d, err := time.ParseDuration(t.Window); err != nil || d < time.Minute || d > 24*time.Hour {
			bad("window", "must be a duration from 1m to 24h")
		}
	}
	t.Hours.validate(bad)
}

func (h *Hours) validate(bad func(path, text string)) {
	if _, err := time.LoadLocation(h.Zone); err != nil {
		bad("hours.zone", "must be a time zone such as Europe/Dublin")
	}
	if h.From < 0 || h.To < 0 || h.From > 24 || h.To > 24 || h.To != 0 && h.From >= h.To {
		bad("hours.from", "from and to are hours, from the smaller")
	}
	for i, d := range h.Days {
		if !slices.Contains(weekdays, d) {
			bad(fmt.Sprintf("hours.days[%d]", i), "must be one of mon, tue, wed, thu, fri, sat, sun")
		}
	}
}

// withDefaults returns a copy with nothing left out.
func (t *Thresholds) withDefaults() *Thresholds {
	var c Thresholds
	if t != nil {
		c = *t
	}
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	c.HistoryDays = min(cmpOr(c.HistoryDays, 28), maxDays)
	c.MinDays = min(cmpOr(c.MinDays, 5), c.HistoryDays)
	def(&c.Factor, 3)
	def(&c.Rows, 100_000)
	def(&c.Bytes, 64<<20)
	def(&c.Lookups, 300)
	def(&c.Misses, 100)
	def(&c.Pages, 200)
	def(&c.Refusals, 10)
	def(&c.Doors, 3)
	def(&c.Switches, 20)
	def(&c.Hours.Rows, 200)
	c.Hours.From, c.Hours.To = cmpOr(c.Hours.From, 6), cmpOr(c.Hours.To, 21)
	if c.Window == "" {
		c.Window = "1h"
	}
	if c.Hours.Zone == "" {
		c.Hours.Zone = "Europe/Dublin"
	}
	if len(c.Hours.Days) == 0 {
		c.Hours.Days = weekdays[1:6]
	}
	return &c
}

func cmpOr(v, def int) int {
	if v == 0 {
		return def
	}
	return v
}

func (t *Thresholds) window() time.Duration {
	d, err := time.ParseDuration(t.Window)
	if err != nil {
		return time.Hour
	}
	return d
}

// zone is the zone of the office; UTC if it is not known, which Validate reports.
func (h *Hours) zone() *time.Location {
	l, err := time.LoadLocation(h.Zone)
	if err != nil {
		return time.UTC
	}
	return l
}

// limit is factor times the most of the history, and never below floor.
func (t *Thresholds) limit(floor, most int64) int64 {
	return max(floor, t.Factor*min(most, 1<<50))
}
