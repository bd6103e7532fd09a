package policy

import (
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Corpus is one file of request → decision cases: corpus/*.yaml beside the policies.
type Corpus struct {
	Version int    `yaml:"version"`
	Cases   []Case `yaml:"cases"`
}

// Case is one request and what is decided of it. Action says which of the other fields
// count. Policy is what the policies alone say, where that differs from Want because the
// floor refuses.
type Case struct {
	Name   string `yaml:"name"`
	Action string `yaml:"action"` // open, operate, hold, approve

	Who         Who      `yaml:"who,omitempty"`
	Actor       *Who     `yaml:"actor,omitempty"` // open: the person behind a service
	From        From     `yaml:"from,omitempty"`
	Employer    Employer `yaml:"employer,omitempty"` // default: the exporter
	Dataset     Named    `yaml:"dataset,omitempty"`
	Database    string   `yaml:"database,omitempty"`
	Grant       bool     `yaml:"grant,omitempty"`
	Instruments []Tool   `yaml:"instruments,omitempty"`
	At          string   `yaml:"at,omitempty"` // YYYY-MM-DD, default CorpusDay

	Hold Holding `yaml:"hold,omitempty"`
	Self bool    `yaml:"self,omitempty"` // approve

	Careless bool `yaml:"careless,omitempty"` // with one more policy, which permits everything

	Want   string   `yaml:"want"`             // allow, deny
	Policy string   `yaml:"policy,omitempty"` // allow, deny
	By     []string `yaml:"by,omitempty"`     // ids of the deciding policies, where they matter
	Rule   string   `yaml:"rule,omitempty"`   // the rule that a refusal names
}

// Who is a principal of a case.
type Who struct {
	ID           string   `yaml:"id"`
	Service      bool     `yaml:"service,omitempty"`
	ServesHumans bool     `yaml:"serves_humans,omitempty"`
	Purposes     []string `yaml:"purposes,omitempty"`
	Groups       []string `yaml:"groups,omitempty"`
	Databases    []string `yaml:"databases,omitempty"`
}

// From is where a principal is. An empty country is unknown.
type From struct {
	Employer  string `yaml:"employer"`
	Workplace string `yaml:"workplace"`
	Network   string `yaml:"network"`
}

// Employer is a legal entity other than the exporter.
type Employer struct {
	Name   string   `yaml:"name"`
	Scopes []string `yaml:"scopes,omitempty"`
}

// Named is a dataset of a case.
type Named struct {
	Name    string       `yaml:"name"`
	Class   law.Class    `yaml:"class"`
	Cluster string       `yaml:"cluster"`
	Purpose string       `yaml:"purpose"`
	Regimes []law.Regime `yaml:"regimes,omitempty"` // none: all of them
}

// Tool is a registered instrument of art. 46.
type Tool struct {
	Entity  string `yaml:"entity"`
	Purpose string `yaml:"purpose"`
	From    string `yaml:"from"`
	Until   string `yaml:"until,omitempty"`
	TIA     string `yaml:"tia"` // day of the transfer impact assessment
}

// Holding is a column that a purpose would hold.
type Holding struct {
	Purpose  string       `yaml:"purpose"`
	Cluster  string       `yaml:"cluster"`
	Category law.Category `yaml:"category"`
	Trait    law.Trait    `yaml:"trait,omitempty"`
	Form     law.Form     `yaml:"form"`
}

// CorpusDay is the day of cases that name none: adequacy is dated.
const CorpusDay = "2026-11-21"

// careless is the policy that a Careless case adds: what an operator in a hurry might write.
const careless = `@id("careless") @law("none") permit (principal, action, resource);`

// Failure is a case that was decided otherwise than its file says.
type Failure struct {
	File string
	Line int
	Case string
	Why  string
}

// Error returns file:line: case: why.
func (f Failure) Error() string { return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Case, f.Why) }

// RunCorpus decides every case of corpus/*.yaml in fsys and returns those that come out
// otherwise, and how many there were. The error says that a file could not be read.
func RunCorpus(e *Engine, fsys fs.FS) (cases int, failures []Failure, err error) {
	names, err := fs.Glob(fsys, "corpus/*.yaml")
	if err != nil {
		return 0, nil, fmt.Errorf("list corpus: %w", err)
	}
	hurried, err := e.with("careless.cedar", careless)
	if err != nil {
		return 0, nil, fmt.Errorf("run corpus: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return cases, failures, fmt.Errorf("read corpus: %w", err)
		}
		c, pos, err := ParseCorpus(name, src)
		if err != nil {
			return cases, failures, fmt.Errorf("read corpus: %w", err)
		}
		for i := range c.Cases {
			one := &c.Cases[i]
			engine := e
			if one.Careless {
				engine = hurried
			}
			cases++
			if why := one.run(engine); why != "" {
				line, _ := pos.At(fmt.Sprintf("cases[%d]", i))
				failures = append(failures, Failure{name, line, one.Name, why})
			}
		}
	}
	return cases, failures, nil
}

// ParseCorpus decodes one file of cases and checks that each says what it wants.
func ParseCorpus(file string, src []byte) (*Corpus, *strict.Positions, error) {
	var c Corpus
	pos, err := strict.DecodeWithPositions(file, src, &c)
	errs := strict.All(file, err)
	if c.Version != 1 {
		errs = append(errs, pos.Errorf("version", "version: want 1"))
	}
	seen := map[string]bool{}
	for i, one := range c.Cases {
		at := fmt.Sprintf("cases[%d]", i)
		if one.Name == "" || seen[one.Name] {
			errs = append(errs, pos.Errorf(at, "a case needs a name of its own"))
		}
		seen[one.Name] = true
		if !slices.Contains([]string{"open", "operate", "hold", "approve"}, one.Action) {
			errs = append(errs, pos.Errorf(at+".action", "action is open, operate, hold or approve"))
		}
		if !isVerdict(one.Want) || (one.Policy != "" && !isVerdict(one.Policy)) {
			errs = append(errs, pos.Errorf(at+".want", "want and policy are allow or deny"))
		}
		for _, day := range one.days() {
			if _, err := time.Parse(time.DateOnly, day); err != nil {
				errs = append(errs, pos.Errorf(at, "days are written YYYY-MM-DD"))
			}
		}
	}
	return &c, pos, errs.Err()
}

func isVerdict(s string) bool { return s == "allow" || s == "deny" }

// days lists the days that a case gives.
func (c *Case) days() []string {
	var days []string
	for _, d := range []string{c.At} {
		if d != "" {
			days = append(days, d)
		}
	}
	for _, in := range c.Instruments {
		days = append(days, in.From, in.TIA)
		if in.Until != "" {
			days = append(days, in.Until)
		}
	}
	return days
}
