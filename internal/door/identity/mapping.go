package identity

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Mapping says what an issuer's or a certificate's attributes mean here. What is not mapped
// stays as people.yaml has it; what is mapped and missing is unknown, and opens nothing.
type Mapping struct {
	Groups    *Claim `yaml:"groups,omitempty"`
	Purposes  *Claim `yaml:"purposes,omitempty"`
	Employer  *Claim `yaml:"employer,omitempty"`
	Workplace *Claim `yaml:"workplace,omitempty"`
	Unlisted  bool   `yaml:"unlisted,omitempty"` // people who are not in people.yaml may log in
}

// Claim is one attribute and what its values mean. Values may be left out for a workplace
// alone: two capital letters are a country then.
type Claim struct {
	From   string              `yaml:"from"`
	Values map[string][]string `yaml:"values,omitempty"`
}

// Attributes are what an ID token or a certificate says, each attribute with its values.
type Attributes map[string][]string

// check reports what does not hold, each with the key it stands under.
func (m *Mapping) check(report func(key, format string, args ...any)) {
	for _, c := range []struct {
		key   string
		claim *Claim
		free  bool
	}{{"groups", m.Groups, false}, {"purposes", m.Purposes, false}, {"employer", m.Employer, false}, {"workplace", m.Workplace, true}} {
		if c.claim == nil {
			continue
		}
		if c.claim.From == "" {
			report(c.key, "from is missing: the attribute that %s comes from", c.key)
		}
		if len(c.claim.Values) == 0 && !c.free {
			report(c.key, "values is missing: what each value of the attribute means; others mean nothing")
		}
		for _, to := range c.claim.Values {
			if c.key == "workplace" && (len(to) != 1 || to[0] == "" || !isCountry(to[0])) {
				report(c.key, "a workplace is one country of two capital letters")
			}
			if c.key == "employer" && len(to) != 1 {
				report(c.key, "an employer is one key under entities")
			}
		}
	}
	if m.Unlisted && m.Employer == nil {
		report("unlisted", "people who are not in people.yaml need an employer: map one")
	}
}

// all returns what an attribute's values mean, sorted, each once.
func (c *Claim) all(a Attributes) []string {
	var out []string
	for _, v := range a[c.From] {
		out = append(out, c.Values[v]...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// one returns the single meaning; "" when there is none or more than one.
func (c *Claim) one(a Attributes) string {
	var found []string
	if c.Values == nil {
		for _, v := range a[c.From] {
			if isCountry(v) {
				found = append(found, v)
			}
		}
	} else {
		found = c.all(a)
	}
	if slices.Sort(found); len(slices.Compact(found)) == 1 {
		return found[0]
	}
	return ""
}

// apply returns the principal of user with what the attributes say. listed is false for
// somebody who is not in people.yaml.
func (m *Mapping) apply(p Principal, listed bool, user string, a Attributes, by Attestation) (Principal, error) {
	if !listed {
		if !m.Unlisted {
			return Principal{}, ErrPassword
		}
		p = Principal{ID: user, AttestedBy: by.By, AttestedAt: by.At, Evidence: by.Evidence}
	}
	if m.Groups != nil {
		p.Groups = m.Groups.all(a)
	}
	if m.Purposes != nil {
		p.Purposes = m.Purposes.all(a)
	}
	if p.Service { // where a service runs is what its entry says
		return p, nil
	}
	if m.Employer != nil {
		p.Employer, p.EmployerBy = agreed(listed, p.Employer, m.Employer.one(a)), &by
	}
	if m.Workplace != nil {
		p.Workplace, p.WorkplaceBy = agreed(listed, p.Workplace, m.Workplace.one(a)), &by
	}
	return p, nil
}

// agreed is unknown when people.yaml and the attributes name different places: neither is
// more to be trusted, and unknown is the strictest.
func agreed(listed bool, file, said string) string {
	if listed && file != "" && said != file {
		return ""
	}
	return said
}

// Pattern is a text with at most one star, which stands for one or more characters.
type Pattern string

func (p Pattern) check() error {
	if p == "" || strings.Count(string(p), "*") > 1 {
		return fmt.Errorf("a pattern is a text with at most one star")
	}
	return nil
}

// match reports whether s fits, and what the star stands for. Without a star the text is
// compared as it is.
func (p Pattern) match(s string) (star string, ok bool) {
	before, after, has := strings.Cut(string(p), "*")
	if !has {
		return "", s == string(p)
	}
	if len(s) <= len(before)+len(after) || !strings.HasPrefix(s, before) || !strings.HasSuffix(s, after) {
		return "", false
	}
	return s[len(before) : len(s)-len(after)], true
}

// duration reads an optional duration of the configuration.
func duration(text string, def time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(cmp.Or(text, def.String()))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("not a duration such as 8h")
	}
	return d, nil
}
