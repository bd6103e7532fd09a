package cheat

import (
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/anomaly"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// person is what is remembered of one principal's places.
type person struct {
	Seen    int64            `json:"seen"` // Unix seconds
	Network string           `json:"network"`
	At      int64            `json:"at"` // of the network
	Ref     anomaly.Ref      `json:"ref"`
	Claims  map[string]claim `json:"claims"` // by source: employer, workplace
}

// claim is a place as it was attested last, and before that.
type claim struct {
	Country  string      `json:"country"`
	Evidence string      `json:"evidence"`
	Before   string      `json:"before"`  // the country before Country; "" none
	Changed  int64       `json:"changed"` // when Country came, Unix seconds
	Ref      anomaly.Ref `json:"ref"`     // the record with which it came
}

// entity is what is remembered of one employer.
type entity struct {
	Sessions int64         `json:"sessions"` // with a known network, since one was at home
	Records  []anomaly.Ref `json:"records"`
}

// strength orders classes of evidence, the strongest first.
var strength = []string{"certificate", "token", "network", "declared", ""}

// places compares what a session says of where it is with itself, and with sessions before it.
func (s *sight) places() {
	at := map[string]trefoil.Place{}
	for _, p := range s.a.Location {
		at[p.Source] = p
	}
	p := s.person()
	network, work, employer := at[law.Network], at[law.Workplace], at[law.Employer]
	if network.Country != "" && work.Country != "" && s.inside(network.Country) != s.inside(work.Country) {
		s.raise(RulePlaces, work.Country+" ("+work.Evidence+") and "+network.Country+" ("+network.Evidence+")", "contradiction", 1, 0, nil, 1)
	}
	if network.Country != "" {
		if p.Network != "" && p.Network != network.Country && s.at.Sub(time.Unix(p.At, 0)) < travelWindow {
			s.raise(RuleTravel, p.Network+" and "+network.Country, "minutes between them", int64(s.at.Sub(time.Unix(p.At, 0)).Minutes()),
				int64(travelWindow.Minutes()), []anomaly.Ref{p.Ref}, 2)
		}
		p.Network, p.At, p.Ref = network.Country, s.at.Unix(), s.ref()
	}
	for _, source := range []string{law.Employer, law.Workplace} {
		s.claim(p, source, at[source])
	}
	s.employer(employer.Country, network.Country)
}

func (s *sight) inside(country string) bool { return s.d.c.Region.Contains(country) }

func (s *sight) person() *person {
	people := s.d.m.People
	p := people[s.who]
	if p == nil {
		if len(people) >= maxPeople {
			s.forget()
		}
		p = &person{Claims: map[string]claim{}}
		people[s.who] = p
	}
	p.Seen = s.at.Unix()
	return p
}

// forget drops the half that was not seen for longest: a flood of pseudonyms must not take the
// memory, and who is watched comes again.
func (s *sight) forget() {
	var seen []int64
	for _, p := range s.d.m.People {
		seen = append(seen, p.Seen)
	}
	slices.Sort(seen)
	for k, p := range s.d.m.People {
		if p.Seen < seen[len(seen)/2] {
			delete(s.d.m.People, k)
		}
	}
	if len(s.d.m.People) >= maxPeople {
		clear(s.d.m.People)
	}
}

// claim compares one attested place with what was attested of the same principal before.
func (s *sight) claim(p *person, source string, now trefoil.Place) {
	was, known := p.Claims[source]
	c := claim{Country: now.Country, Evidence: now.Evidence, Before: was.Before, Changed: was.Changed, Ref: was.Ref}
	switch {
	case !known:
		c.Changed, c.Ref = s.at.Unix(), s.ref()
	case was.Country != now.Country:
		if was.Before == now.Country && now.Country != "" && s.at.Sub(time.Unix(was.Changed, 0)) < restoreWindow {
			s.raise(RuleRestored, source+" "+now.Country+", "+was.Country+", "+now.Country, "days in between",
				int64(s.at.Sub(time.Unix(was.Changed, 0)).Hours()/24), int64(restoreWindow.Hours()/24), []anomaly.Ref{was.Ref}, 2)
		}
		c.Before, c.Changed, c.Ref = was.Country, s.at.Unix(), s.ref()
	}
	if known && slices.Index(strength, now.Evidence) > slices.Index(strength, was.Evidence) {
		s.raise(RuleWeaker, source+": "+now.Evidence+", was "+was.Evidence, "change", 1, 0, []anomaly.Ref{was.Ref}, 2)
	}
	p.Claims[source] = c
}

// employer judges an entity in the region whose people are never there: with a known network,
// and none of them in the region.
func (s *sight) employer(country, network string) {
	if network == "" || country == "" || !s.inside(country) {
		return
	}
	name := s.a.Importer.Entity
	e := s.d.m.Entities[name]
	if s.inside(network) {
		s.d.m.Entities[name] = &entity{}
		return
	}
	if e == nil {
		if len(s.d.m.Entities) >= maxPeople {
			return
		}
		e = &entity{}
		s.d.m.Entities[name] = e
	}
	e.Sessions++
	if len(e.Records) < maxRefs-1 {
		e.Records = append(e.Records, s.ref())
	}
	if e.Sessions >= shellSessions {
		s.raise(RuleShell, name, "sessions in a row from outside the region", e.Sessions, shellSessions, e.Records, e.Sessions)
	}
}
