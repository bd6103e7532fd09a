package monitor

import (
	"time"

	"github.com/trefoil-eu/trefoil"
)

// usage is how much was permitted, by principal and day, by grant, and by day. The allowance of
// a session counts whole when it is permitted: what of it is used, only the gateway says. The
// state's lock guards it.
type usage struct {
	days   map[dayKey]amount
	grants map[string]amount
}

// dayKey names a principal's day in UTC; who "" is everybody.
type dayKey struct {
	day int64 // days since 1970
	who string
}

type amount struct{ bytes, rows int64 }

func newUsage() *usage { return &usage{days: map[dayKey]amount{}, grants: map[string]amount{}} }

func (a amount) plus(e *entry) amount {
	if e.Kind == trefoil.KindRelease {
		return amount{a.bytes + e.Bytes, a.rows + e.Rows}
	}
	return amount{a.bytes + e.Allowance, a.rows}
}

// within reports whether a is within bounds of which zero is none.
func (a amount) within(bytes, rows int64) bool {
	return (bytes == 0 || a.bytes <= bytes) && (rows == 0 || a.rows <= rows)
}

func dayOf(e *entry) int64 { return e.At / int64(24*time.Hour/time.Microsecond) }

// add counts a record that is permitted for the first time.
func (u *usage) add(e *entry) {
	day := dayOf(e)
	for _, key := range []dayKey{{day, ""}, {day, e.Who}} {
		u.days[key] = u.days[key].plus(e)
		if e.Who == "" {
			break
		}
	}
	if e.Grant != "" {
		u.grants[e.Grant] = u.grants[e.Grant].plus(e)
	}
	for key := range u.days { // at most one day's principals and yesterday's are kept
		if key.day < day-1 {
			delete(u.days, key)
		}
	}
}

// exceeds refuses a record with which a ceiling of a principal, a grant or a day would be passed.
func (u *usage) exceeds(e *entry, c *Ceilings) *refusal {
	day := dayOf(e)
	for _, t := range []struct {
		total       amount
		bytes, rows int64
		what        string
	}{
		{u.days[dayKey{day, e.Who}], c.PrincipalDayBytes, c.PrincipalDayRows, "one principal's day"},
		{u.grants[e.Grant], c.GrantBytes, c.GrantRows, "one grant"},
		{u.days[dayKey{day, ""}], c.DayBytes, c.DayRows, "one day"},
	} {
		if t.what == "one grant" && e.Grant == "" {
			continue
		}
		if !t.total.plus(e).within(t.bytes, t.rows) {
			return refuse(ruleCeiling, "GDPR art. 5(1)(c)", "more than the monitor's rules let out in "+t.what)
		}
	}
	return nil
}

// counted fills in whom a record counts for.
func (m *Monitor) counted(e *entry, b *trefoil.Body, now time.Time) {
	a, no := judged(b)
	if no != nil {
		return
	}
	times := []time.Time{b.At, now}
	if x := m.state.sessions[a.Session]; x != nil {
		times = append(times, x.startAt)
	}
	book := m.book()
	if who := book.principal(a.Principal, times...); who != nil {
		e.Who = trefoil.StaffPseudonym(book.staffKey, now, who.ID)
	}
	e.Grant = a.Grant
	if b.Release != nil {
		e.Rows = b.Release.Rows
	}
}

// clockBack reports whether the monitor's clock is behind what its journal says was: under a
// clock set back, what has ended would count again.
func (m *Monitor) clockBack(now time.Time) bool {
	m.state.mu.Lock()
	latest := m.state.latest
	m.state.mu.Unlock()
	if now.UnixMicro() >= latest-m.book().doubt.Microseconds() {
		return false
	}
	m.finding(Finding{Rule: "clock-set-back", Text: "this machine's clock is behind the monitor's own journal"})
	return true
}
