package register

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// ClaimsFile is claims.yaml: what the operator said in public, and what would contradict it.
type ClaimsFile struct {
	Version int     `yaml:"version"`
	Claims  []Claim `yaml:"claims"`
}

// Claim is one statement. Any of its tests that hits contradicts it.
type Claim struct {
	ID        string     `yaml:"id"`
	Text      string     `yaml:"text"`      // verbatim
	Published string     `yaml:"published"` // YYYY-MM-DD
	Where     string     `yaml:"where"`     // its address
	Test      ClaimTests `yaml:"contradicted_by"`
}

// ClaimTests are the tests of a claim, from its publication on.
type ClaimTests struct {
	Findings     []string `yaml:"findings,omitempty"`      // rules of the monitor's findings
	To           []string `yaml:"to,omitempty"`            // countries that something went to
	Transfers    bool     `yaml:"transfers,omitempty"`     // any access that counts as a transfer
	ClearOutside bool     `yaml:"clear_outside,omitempty"` // a clear or generalised identifier, contact, location, content, device, financial or special value outside the region
	Unpermitted  bool     `yaml:"unpermitted,omitempty"`   // anything that went out without a permit
}

// ParseClaims decodes claims.yaml strictly. File is used in errors only.
func ParseClaims(file string, src []byte) (*ClaimsFile, error) {
	var c ClaimsFile
	pos, err := strict.DecodeWithPositions(file, src, &c)
	errs := strict.All(file, err)
	want := func(ok bool, path, format string, args ...any) {
		if !ok {
			errs = append(errs, pos.Errorf(path, format, args...))
		}
	}
	want(c.Version == 1, "version", "must be 1")
	seen := map[string]bool{}
	for i, x := range c.Claims {
		at := fmt.Sprintf("claims[%d]", i)
		want(x.ID != "" && !strings.ContainsAny(x.ID, " \n") && !seen[x.ID], at+".id", "is missing, given twice, or has white space")
		seen[x.ID] = true
		want(x.Text != "" && x.Where != "", at, "needs text and where")
		_, err := time.Parse(time.DateOnly, x.Published)
		want(err == nil, at+".published", "must be a date, YYYY-MM-DD")
		t := x.Test
		want(len(t.Findings)+len(t.To) > 0 || t.Transfers || t.ClearOutside || t.Unpermitted, at+".contradicted_by", "has no test: a claim that nothing can contradict says nothing")
		for j, country := range t.To {
			want(len(country) == 2 && strings.ToUpper(country) == country, fmt.Sprintf("%s.contradicted_by.to[%d]", at, j), "must be an ISO 3166-1 alpha-2 country")
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return &c, nil
}

// From is the first moment that the claim is about.
func (c *Claim) From() time.Time {
	t, err := time.Parse(time.DateOnly, c.Published)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Contradicts returns the test that a record hits, in words; "" for none.
func (c *Claim) Contradicts(r *Record, inside Inside) string {
	a := lettingOut(r)
	if a == nil || !LetOut(r) || r.Body.At.Before(c.From()) {
		return ""
	}
	for _, country := range c.Test.To {
		if reaches(a, country) {
			return "something went to " + country
		}
	}
	switch {
	case c.Test.Transfers && a.Instrument.Transfer:
		return "an access counts as a transfer, art. " + a.Instrument.Article
	case c.Test.Unpermitted && trefoil.Unpermitted(r.Body):
		return "something went out without a permit"
	case c.Test.ClearOutside && abroad(a, inside) && reveals(a):
		return "clear or generalised values were shown outside the region"
	}
	return ""
}

// reveals reports whether a dataset holds more than pseudonyms of anything but behaviour.
func reveals(a *trefoil.Access) bool {
	for category, forms := range a.Forms {
		if law.Category(category) != law.Behaviour && (slices.Contains(forms, string(law.Clear)) || slices.Contains(forms, string(law.Generalised))) {
			return true
		}
	}
	return false
}
