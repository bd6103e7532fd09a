package anomaly

import (
	"slices"
	"time"
)

// Bounds of one principal's memory.
const (
	maxDays   = 90  // active days
	maxNames  = 64  // purposes, countries, datasets that refused
	maxShapes = 32  // statements in one window
	maxOpen   = 64  // sessions with an answer that is not complete yet
	maxTimes  = 100 // refusals in one window
)

// person is what is remembered of one principal. Its fields are the snapshot's.
type person struct {
	Seen      int64            `json:"seen"`
	Days      []day            `json:"days"` // active days before today, oldest first
	Today     day              `json:"today"`
	Purposes  []habit          `json:"purposes,omitempty"`
	Countries []habit          `json:"countries,omitempty"`
	Shapes    []shape          `json:"shapes,omitempty"`
	Open      []open           `json:"open,omitempty"`
	Refusals  []moment         `json:"refusals,omitempty"`
	Switch    shape            `json:"switch"`
	Last      look             `json:"last"`
	Volume    refs             `json:"volume"`
	Off       refs             `json:"off"`
	Alerted   map[string]int64 `json:"alerted,omitempty"` // rule and detail → day
}

// day is what a principal did on one UTC day.
type day struct {
	Number   int64  `json:"n"` // days since 1970
	Rows     int64  `json:"r,omitempty"`
	Bytes    int64  `json:"b,omitempty"`
	OffRows  int64  `json:"o,omitempty"`
	Hours    uint32 `json:"h,omitempty"` // bit by local hour in which rows were read
	Week     bool   `json:"w,omitempty"` // the local day is an office day
	Lookups  int64  `json:"l,omitempty"` // the most in one window
	Misses   int64  `json:"m,omitempty"`
	Pages    int64  `json:"p,omitempty"`
	Refusals int64  `json:"f,omitempty"`
	Switches int64  `json:"s,omitempty"`
}

// habit is a name and when it was last used.
type habit struct {
	Name string `json:"n"`
	Day  int64  `json:"d"`
}

// shape is one statement in one window: how often it was asked, and what came.
type shape struct {
	Name    string `json:"n"`
	From    int64  `json:"from"` // Unix seconds: when the window began
	Lookups int64  `json:"l,omitempty"`
	Misses  int64  `json:"m,omitempty"`
	Pages   int64  `json:"p,omitempty"`
	Size    int64  `json:"z,omitempty"` // rows of the answers that Pages counts
	Refs    refs   `json:"refs"`
}

// open is an answer of which not every chunk was seen.
type open struct {
	Session string `json:"s"`
	Rows    int64  `json:"r"`
}

// moment is one refusal.
type moment struct {
	At      int64  `json:"at"`
	Dataset string `json:"d"`
	Ref     Ref    `json:"ref"`
}

// look is the last look-up: where it was, and at what.
type look struct {
	At      int64    `json:"at"`
	Purpose string   `json:"p,omitempty"`
	Tables  []string `json:"t,omitempty"`
	Hidden  bool     `json:"h,omitempty"` // the dataset holds pseudonyms
}

// refs are the first records of something and their number.
type refs struct {
	First []Ref `json:"first,omitempty"`
	Of    int64 `json:"of,omitempty"`
}

func (r *refs) add(x Ref) {
	r.Of++
	if len(r.First) < maxRefs-1 {
		r.First = append(r.First, x)
	}
}

// with returns the records that an alert names, the last one among them.
func (r *refs) with(last Ref) []Ref {
	out := slices.Clone(r.First)
	if len(out) == 0 || out[len(out)-1] != last {
		out = append(out, last)
	}
	return out
}

// use notes that name is used on a day. It reports whether it was used within the last days.
func use(list *[]habit, name string, today, days int64) bool {
	i := slices.IndexFunc(*list, func(h habit) bool { return h.Name == name })
	if i >= 0 {
		known := today-(*list)[i].Day <= days
		(*list)[i].Day = max(today, (*list)[i].Day)
		return known
	}
	if len(*list) >= maxNames { // the one not used for longest goes
		oldest := 0
		for j, h := range *list {
			if h.Day < (*list)[oldest].Day {
				oldest = j
			}
		}
		*list = slices.Delete(*list, oldest, oldest+1)
	}
	*list = append(*list, habit{name, today})
	return false
}

// turn begins a new day, and puts the one before into the history if anything was done on it. A
// day beyond its threshold counts as no more than that, so that one leap does not lift the baseline.
func (p *person) turn(number int64, week bool, rules *Thresholds) {
	if number <= p.Today.Number { // records of two sites may overtake each other: they count for today
		return
	}
	if t := p.Today; t.Hours != 0 || t.Refusals > 0 || t.Rows > 0 || t.Bytes > 0 {
		t.Rows = min(t.Rows, rules.limit(rules.Rows, p.most(func(d *day) int64 { return d.Rows })))
		t.Bytes = min(t.Bytes, rules.limit(rules.Bytes, p.most(func(d *day) int64 { return d.Bytes })))
		p.Days = append(p.Days, t)
		if n := len(p.Days) - rules.HistoryDays; n > 0 {
			p.Days = slices.Delete(p.Days, 0, n)
		}
	}
	p.Today = day{Number: number, Week: week}
	p.Volume, p.Off, p.Switch = refs{}, refs{}, shape{}
	for k, d := range p.Alerted {
		if d < number {
			delete(p.Alerted, k)
		}
	}
}

// most is the largest of the history by one measure.
func (p *person) most(measure func(*day) int64) int64 {
	var m int64
	for i := range p.Days {
		m = max(m, measure(&p.Days[i]))
	}
	return m
}

// shapeOf finds or begins the window of a statement. A full list loses its oldest window.
func (p *person) shapeOf(name string, at time.Time, window time.Duration) *shape {
	for i := range p.Shapes {
		s := &p.Shapes[i]
		if s.Name != name {
			continue
		}
		if at.Unix()-s.From >= int64(window/time.Second) {
			*s = shape{Name: name, From: at.Unix()}
		}
		return s
	}
	if len(p.Shapes) >= maxShapes {
		oldest := 0
		for i := range p.Shapes {
			if p.Shapes[i].From < p.Shapes[oldest].From {
				oldest = i
			}
		}
		p.Shapes = slices.Delete(p.Shapes, oldest, oldest+1)
	}
	p.Shapes = append(p.Shapes, shape{Name: name, From: at.Unix()})
	return &p.Shapes[len(p.Shapes)-1]
}
