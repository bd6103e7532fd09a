// Package probe asks the operator's databases who is connected, what copies them and what their
// datasets hold, and compares the answers with what an officer enrolled and what was defined.
//
// The invariant it keeps: every difference becomes an incident with its evidence, one as long as
// it lasts, and not being able to ask is a difference too. It reads no value of a table, no query
// text and no secret: only catalogs and the functions of package install, whose text it compares
// with its own copy at every look (docs/design/probe.md).
//
// What a server answers is what PostgreSQL reports: a server that its owner altered can lie, and
// copies of its disk are outside what it knows.
package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
)

// Config is what a probe needs.
type Config struct {
	Settings  *Settings
	Passwords map[string]string // by target
	// Enrolment returns the enrolment in force. An error is a finding: nothing is enrolled then.
	Enrolment func() (*Enrolment, error)
	// Definitions returns the definitions of datasets that were published, by dataset.
	Definitions func() (map[string][]*trefoil.Definition, error)
	// Open keeps a finding as an incident.
	Open   func(incident.Finding) error
	Now    func() time.Time                           // nil: time.Now
	Wait   func(context.Context, time.Duration) error // nil: sleeps
	Logger *slog.Logger                               // nil: discarded
}

// Probe looks at every target, again and again. Round may not be called by two goroutines at once.
type Probe struct {
	c       Config
	lasting map[string]bool // differences of the round before
	highest uint64          // number of the newest enrolment seen
	sampled map[string]sampled
}

// Difference is one thing that is not as enrolled or defined.
type Difference struct {
	Target   string `json:"target"`
	Topic    string `json:"topic"`
	Database string `json:"database,omitempty"`
	Name     string `json:"name"`
	Enrolled string `json:"enrolled"` // "" : not enrolled or defined
	Found    string `json:"found"`    // "" : not there
	Reason   string `json:"reason"`

	shape bool // of a dataset: counts only once it is seen twice
}

func (d *Difference) key() string {
	return strings.Join([]string{d.Target, d.Topic, d.Database, d.Name, d.Found}, "\x00")
}

// Report is what one round found.
type Report struct {
	At          time.Time      `json:"at"`
	Targets     []TargetReport `json:"targets"`
	Differences []Difference   `json:"differences"`
	New         int            `json:"new"`   // of them, not there in the round before
	Ended       int            `json:"ended"` // of the round before, not there any more
}

// TargetReport says what was asked of one target.
type TargetReport struct {
	Name      string `json:"name"`
	Facts     int    `json:"facts"`
	Databases int    `json:"databases"`
	Datasets  int    `json:"datasets"`
}

// New makes a probe. It connects to nothing.
func New(c Config) (*Probe, error) {
	if c.Settings == nil || c.Enrolment == nil || c.Definitions == nil || c.Open == nil {
		return nil, errors.New("make probe: settings, enrolment, definitions and a place for findings are needed")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Wait == nil {
		c.Wait = sleep
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Probe{c: c, lasting: map[string]bool{}, sampled: map[string]sampled{}}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Run looks every Settings.Every until ctx ends.
func (p *Probe) Run(ctx context.Context) error {
	for {
		if _, err := p.Round(ctx); err != nil && ctx.Err() == nil {
			p.c.Logger.Error("probe", "error", err)
		}
		if p.c.Wait(ctx, p.c.Settings.every()) != nil {
			return nil
		}
	}
}

// Round looks at every target once, and makes an incident of each difference. What a dataset's
// database holds is looked at twice before it counts, because a swap may be in between.
func (p *Probe) Round(ctx context.Context) (*Report, error) {
	r := &Report{At: p.c.Now().UTC()}
	all, err := p.look(ctx, r)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(all, func(d Difference) bool { return d.shape }) {
		if err := p.c.Wait(ctx, p.c.Settings.confirm()); err != nil {
			return nil, err
		}
		again, err := p.look(ctx, nil)
		if err != nil {
			return nil, err
		}
		all = confirmed(all, again)
	}
	r.Differences = all
	return r, p.tell(r)
}

// confirmed keeps of both looks what is no shape, and of the shapes those that both saw.
func confirmed(a, b []Difference) []Difference {
	seen := map[string]int{}
	for _, d := range b {
		seen[d.key()] |= 2
	}
	out := []Difference{}
	for _, d := range a {
		if !d.shape || seen[d.key()] != 0 {
			out = append(out, d)
		}
		seen[d.key()] |= 1
	}
	for _, d := range b {
		if !d.shape && seen[d.key()]&1 == 0 {
			out = append(out, d)
		}
	}
	return out
}

// tell opens an incident for each difference, and keeps what lasts.
func (p *Probe) tell(r *Report) error {
	now := map[string]bool{}
	var errs []error
	for i := range r.Differences {
		d := &r.Differences[i]
		key := d.key()
		if now[key] {
			continue
		}
		now[key] = true
		if !p.lasting[key] {
			r.New++
			p.c.Logger.Warn("difference", "target", d.Target, "topic", d.Topic, "database", d.Database, "name", d.Name)
		}
		errs = append(errs, p.c.Open(d.finding(r.At)))
	}
	for key := range p.lasting {
		if !now[key] {
			r.Ended++
		}
	}
	p.lasting = now
	return errors.Join(errs...)
}

// finding is the incident's: its evidence is the same at every look, so it stays one.
func (d *Difference) finding(at time.Time) incident.Finding {
	origin := d.Target
	if d.Database != "" {
		origin += "/" + d.Database
	}
	text := fmt.Sprintf("%s %s", d.Topic, d.Name)
	if d.Database != "" {
		text += " in database " + d.Database
	}
	text += fmt.Sprintf("\nenrolled or defined: %s\nfound: %s\n", orNothing(d.Enrolled), orNothing(d.Found))
	return incident.Finding{Rule: "probe-" + d.Topic, Origin: clip(origin+": "+d.Name, 480), Reason: clip(d.Reason, 1900), At: at,
		Baseline: "enrolment: " + orNothing(clip(d.Enrolled, 1900)), Evidence: []incident.Evidence{{Text: text}}}
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// look asks every target and compares. report is filled when it is not nil.
func (p *Probe) look(ctx context.Context, report *Report) ([]Difference, error) {
	out := []Difference{}
	enrolled, err := p.c.Enrolment()
	switch {
	case err != nil:
		out = append(out, Difference{Target: "monitor", Topic: "enrolment", Name: "enrolment", Reason: "no enrolment is in force: " + err.Error()})
		enrolled = &Enrolment{}
	case enrolled.Number < p.highest:
		out = append(out, Difference{Target: "monitor", Topic: "enrolment", Name: "enrolment", Found: fmt.Sprint(enrolled.Number), Enrolled: fmt.Sprint(p.highest),
			Reason: "an older enrolment was put in the place of a newer one"})
	default:
		p.highest = enrolled.Number
	}
	defined, err := p.c.Definitions()
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	for i := range p.c.Settings.Targets {
		t := &p.c.Settings.Targets[i]
		ask, cancel := context.WithTimeout(ctx, lookTimeout)
		s, err := Look(ask, t, p.c.Passwords[t.Name])
		if ctx.Err() != nil {
			cancel()
			return nil, ctx.Err()
		}
		if err != nil {
			cancel()
			out = append(out, Difference{Target: t.Name, Topic: "blind", Name: "look", Found: sqlState(err),
				Reason: "the probe cannot ask this server what it was enrolled to ask"})
			continue
		}
		found := compare(t, enrolled.target(t.Name), s, defined)
		found = append(found, p.samples(ask, t, s, defined, found)...)
		cancel()
		if report != nil {
			report.Targets = append(report.Targets, TargetReport{Name: t.Name, Facts: len(s.Facts), Databases: len(s.Databases), Datasets: len(s.datasets(t))})
		}
		out = append(out, found...)
	}
	return out, nil
}

// lookTimeout bounds one look at one target.
const lookTimeout = 60 * time.Second
