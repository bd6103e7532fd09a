package law

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

//go:embed law.json
var embedded []byte

// Data is the law as dated data: what the functions of this package decide by. It is not
// changed after Parse, so it may be shared.
type Data struct {
	checked    Date
	protection int                 // months that protection lasts after leaving the region
	groups     map[string][]string // EEA, EU → countries
	homes      map[Regime][]string // countries where the regime is domestic law
	countries  map[string]bool     // assigned ISO 3166-1 alpha-2 codes
	scopes     map[string]string   // scope test → what it asks
	rows       []Adequacy
	hash       string
}

// Adequacy is one adequacy decision. From and Until bound it: from ≤ day < until. A zero
// Until means no end is set; a non-zero Suspended means it does not count from that day on.
type Adequacy struct {
	Regime    Regime `json:"regime"`
	Country   string `json:"country"`         // or a group: EEA
	Scope     string `json:"scope,omitempty"` // a fact the recipient's entity must have; "" none
	Reference string `json:"reference"`       // the decision, with its number
	Evidence  string `json:"evidence"`        // primary source or secondary source, and what was read
	From      Date   `json:"from"`
	Until     Date   `json:"until,omitzero"`
	Suspended Date   `json:"suspended,omitzero"`
	Checked   Date   `json:"checked"`
	Note      string `json:"note,omitempty"`
}

// Date is a day in UTC, written YYYY-MM-DD.
type Date struct{ time.Time }

// UnmarshalText reads YYYY-MM-DD.
func (d *Date) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return errors.New("parse date: want YYYY-MM-DD")
	}
	d.Time = t
	return nil
}

// MarshalText writes YYYY-MM-DD.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.Format(time.DateOnly)), nil }

// UnmarshalJSON reads a JSON string; time.Time's own would want a point in time.
func (d *Date) UnmarshalJSON(src []byte) error {
	var s string
	if err := json.Unmarshal(src, &s); err != nil {
		return errors.New("parse date: want text")
	}
	return d.UnmarshalText([]byte(s))
}

// MarshalJSON writes a JSON string.
func (d Date) MarshalJSON() ([]byte, error) { return json.Marshal(d.Format(time.DateOnly)) }

var current = sync.OnceValues(func() (*Data, error) { return Parse(embedded) })

// Current returns the law data this binary was built with. It panics if they do not parse,
// which the tests of this package rule out.
func Current() *Data {
	d, err := current()
	if err != nil {
		panic(fmt.Sprintf("embedded law data: %v", err))
	}
	return d
}

// Hash returns the hex SHA-256 of the law data in force.
func Hash() string { return Current().Hash() }

// Hash returns the hex SHA-256 of the bytes d was parsed from.
func (d *Data) Hash() string { return d.hash }

// Checked returns the day the lists were last compared with their sources.
func (d *Data) Checked() Date { return d.checked }

// Rows returns a copy of the adequacy decisions, in the file's order.
func (d *Data) Rows() []Adequacy { return append([]Adequacy(nil), d.rows...) }

// Scope returns what a scope test asks for, and whether it is known.
func (d *Data) Scope(name string) (string, bool) { s, ok := d.scopes[name]; return s, ok }

// file is the layout of law.json.
type file struct {
	Version          int                 `json:"version"`
	Checked          Date                `json:"checked"`
	ProtectionMonths int                 `json:"protection_months"`
	Countries        []string            `json:"countries"`
	Groups           map[string][]string `json:"groups"`
	Homes            map[Regime][]string `json:"homes"`
	Scopes           map[string]string   `json:"scopes"`
	Adequacy         []Adequacy          `json:"adequacy"`
}

// Parse reads law data. Unknown keys, unknown countries, scopes and regimes, and decisions
// without reference or dates are errors.
func Parse(src []byte) (*Data, error) {
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.DisallowUnknownFields()
	var f file
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("parse law data: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("parse law data: something follows the data")
	}
	if f.Version != 1 || f.Checked.IsZero() || f.ProtectionMonths <= 0 {
		return nil, errors.New("parse law data: want version 1, a checked date and protection_months")
	}
	sum := sha256.Sum256(src)
	d := &Data{checked: f.Checked, protection: f.ProtectionMonths, groups: f.Groups, homes: f.Homes,
		scopes: f.Scopes, rows: f.Adequacy, hash: hex.EncodeToString(sum[:]), countries: map[string]bool{}}
	for _, c := range f.Countries {
		if !isCode(c) || d.countries[c] {
			return nil, fmt.Errorf("parse law data: country %q is not a code or is listed twice", c)
		}
		d.countries[c] = true
	}
	return d, d.validate()
}

// validate checks what refers to something else.
func (d *Data) validate() error {
	for name, members := range d.groups {
		if d.countries[name] {
			return fmt.Errorf("parse law data: group %q has a country's code", name)
		}
		if err := d.allKnown("group "+name, members); err != nil {
			return err
		}
	}
	for _, r := range AllRegimes() {
		if len(d.homes[r]) == 0 {
			return fmt.Errorf("parse law data: regime %s has no home", r)
		}
		if err := d.allKnown("home of "+string(r), d.homes[r]); err != nil {
			return err
		}
	}
	for i, row := range d.rows {
		if err := d.validateRow(row); err != nil {
			return fmt.Errorf("parse law data: adequacy %d: %w", i, err)
		}
	}
	return nil
}

func (d *Data) allKnown(what string, codes []string) error {
	for _, c := range codes {
		if !d.countries[c] {
			return fmt.Errorf("parse law data: %s: unknown country %q", what, c)
		}
	}
	return nil
}

func (d *Data) validateRow(row Adequacy) error {
	_, known := d.scopes[row.Scope]
	switch {
	case !row.Regime.Known():
		return fmt.Errorf("unknown regime %q", row.Regime)
	case !d.countries[row.Country] && d.groups[row.Country] == nil:
		return fmt.Errorf("unknown country or group %q", row.Country)
	case row.Scope != "" && !known:
		return fmt.Errorf("unknown scope %q", row.Scope)
	case row.Reference == "" || row.Evidence == "":
		return errors.New("a decision needs reference and evidence")
	case row.From.IsZero() || row.Checked.IsZero():
		return errors.New("a decision needs from and checked")
	case !row.Until.IsZero() && !row.Until.After(row.From.Time):
		return errors.New("until is not after from")
	}
	return nil
}

// isCode reports whether c has the shape of an ISO 3166-1 alpha-2 code.
func isCode(c string) bool {
	return len(c) == 2 && 'A' <= c[0] && c[0] <= 'Z' && 'A' <= c[1] && c[1] <= 'Z'
}
