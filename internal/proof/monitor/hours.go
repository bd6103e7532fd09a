package monitor

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // office hours mean the same on every machine

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// Who lets another definition of a dataset count than the first acknowledged one.
const (
	AcknowledgeOfficer = "officer"
	AcknowledgeAuto    = "auto"
)

// Hours are office hours. Until is the first minute that no longer counts, "24:00" for none.
type Hours struct {
	Zone  string   `yaml:"zone"`  // IANA time zone, such as Europe/Dublin
	Days  []string `yaml:"days"`  // mon, tue, wed, thu, fri, sat, sun
	From  string   `yaml:"from"`  // HH:MM
	Until string   `yaml:"until"` // HH:MM
}

// OwnWitness cosigns the monitor's own log (C2SP tlog-witness).
type OwnWitness struct {
	URL string `yaml:"url"`
	Key string `yaml:"key"` // cosignature/v1 vkey
}

// openHours are Hours made ready. The nil value is never open.
type openHours struct {
	zone        *time.Location
	days        [7]bool // by time.Weekday
	from, until int     // minutes of the day
}

func (h *Hours) parse() (*openHours, error) {
	if h == nil {
		return nil, nil
	}
	out := &openHours{}
	var err error
	if out.zone, err = time.LoadLocation(h.Zone); err != nil || h.Zone == "" || h.Zone == "Local" {
		return nil, fmt.Errorf("zone must be one such as Europe/Dublin")
	}
	for _, d := range h.Days {
		i := slices.Index([]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}, strings.ToLower(d))
		if i < 0 {
			return nil, fmt.Errorf("days are mon, tue, wed, thu, fri, sat, sun")
		}
		out.days[i] = true
	}
	var errs [2]error
	out.from, errs[0] = minutes(h.From)
	out.until, errs[1] = minutes(h.Until)
	if errs[0] != nil || errs[1] != nil || out.until <= out.from {
		return nil, fmt.Errorf("from and until are HH:MM, and until is later")
	}
	return out, nil
}

func minutes(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err
}

func (h *openHours) open(at time.Time) bool {
	if h == nil {
		return false
	}
	at = at.In(h.zone)
	m := at.Hour()*60 + at.Minute()
	return h.days[at.Weekday()] && m >= h.from && m < h.until
}

// validateOfficers checks who may order, and the keys that must have one use only.
func (r *Rules) validateOfficers(c *checker) {
	var others []string
	for _, l := range r.Logs {
		others = append(others, l.Key)
	}
	for _, a := range r.Approvers {
		others = append(others, a.Key)
	}
	for _, w := range r.Witnesses {
		others = append(others, w.Key)
	}
	roster, err := officers.NewRoster(r.Officers, others...)
	c.want(err == nil, "officers", "%v", err)
	c.want(roster == nil || len(r.Officers) == 0 || roster.Persons() >= 2, "officers", "must be two persons at least: one stops, two resume")
	_, err = r.Hours.parse()
	c.want(err == nil, "office_hours", "%v", err)
	c.want(r.Quorum >= 0 && r.Quorum <= len(r.Witnesses), "witness_quorum", "must be at most the number of witnesses")
	for i, w := range r.Witnesses {
		c.want(w.URL != "" && officers.Material(w.Key) != "", fmt.Sprintf("witnesses[%d]", i), "needs a url and a cosignature key")
	}
}
