package register

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/trefoil-eu/trefoil"
)

// Shown is one category in one form that a dataset held.
type Shown struct {
	Category string `json:"category"`
	Form     string `json:"form"`
}

// Transfer is one line of the transfer register: the accesses of one month by one importer
// under one tool for one purpose to one dataset in the same forms. Lines do not overlap, so
// their figures may be added up.
type Transfer struct {
	Month     string   `json:"month"`
	Importer  string   `json:"importer"`
	Role      string   `json:"role"`
	Country   string   `json:"country"`       // of the importer, "" unknown
	From      []string `json:"accessed_from"` // every country that the accesses counted as being in; "" unknown
	Counts    bool     `json:"transfer"`      // false: "not a transfer; art. 32"
	Article   string   `json:"article"`       // 45, 46; "" where it does not count
	Tool      string   `json:"tool,omitempty"`
	ToolDate  string   `json:"tool_date,omitempty"`
	TIA       string   `json:"assessment,omitempty"`
	TIADate   string   `json:"assessment_date,omitempty"`
	Purpose   string   `json:"purpose"`
	Dataset   string   `json:"dataset"`
	Shows     []Shown  `json:"shows"`
	Releases  int64    `json:"releases"`
	Rows      int64    `json:"rows"`
	Bytes     int64    `json:"bytes"`         // of releases
	Covered   int64    `json:"catalog_bytes"` // of reads of system catalogs
	Subjects  *int64   `json:"subjects"`      // sum over the releases that know it; null: none does
	Unknown   int64    `json:"releases_of_unknown_subjects"`
	Without   int64    `json:"unpermitted"`  // of the releases, those that went without a permit
	Root      string   `json:"receipt_root"` // over the receipts, docs/design/registers.md
	receipts  []item
	fromKnown map[string]bool
}

// Transfers is the register.
type Transfers struct {
	Month        string      `json:"month,omitempty"` // "": every month
	Lines        []*Transfer `json:"lines"`
	NotPermitted int64       `json:"not_permitted"` // release records that the monitor permitted never: not counted above
	Records      int64       `json:"records"`       // that were looked at
	Notice       *Difference `json:"notice,omitempty"`

	inside Inside
}

// Inside reports whether a country is in the region; "" is not.
type Inside func(country string) bool

// BuildTransfers reads a source and makes the register of a month ("": of all). A line is made of
// every access that counts as a transfer, and of every one from a place outside the region or
// unknown: what is "not a transfer" is shown with that word.
func BuildTransfers(s Source, month string, inside Inside) (*Transfers, error) {
	out := &Transfers{Month: month, Lines: []*Transfer{}, inside: inside}
	lines := map[string]*Transfer{}
	err := s(func(r *Record) error {
		out.Records++
		a, bytes, rows := accessOf(r)
		if a == nil || r.Body.Summary != nil || month != "" && Month(r.Body.At) != month || !abroad(a, inside) {
			return nil
		}
		if r.Body.Release != nil && !LetOut(r) {
			out.NotPermitted++
			return nil
		}
		if r.Body.Session != nil && bytes == 0 {
			return nil
		}
		l := lineOf(lines, r, a)
		l.add(r, a, bytes, rows)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("build register: %w", err)
	}
	for _, l := range lines {
		l.Root = root(l.receipts)
		for c := range l.fromKnown {
			l.From = append(l.From, c)
		}
		slices.Sort(l.From)
		out.Lines = append(out.Lines, l)
	}
	slices.SortFunc(out.Lines, func(x, y *Transfer) int { return strings.Compare(x.key(), y.key()) })
	return out, nil
}

// abroad reports whether an access belongs in the register.
func abroad(a *trefoil.Access, inside Inside) bool {
	if a.Instrument.Transfer {
		return true
	}
	p := Places(a)
	return !inside(p["importer"]) || !inside(p["employer"]) || !inside(p["workplace"]) || p["network"] != "" && !inside(p["network"])
}

func lineOf(lines map[string]*Transfer, r *Record, a *trefoil.Access) *Transfer {
	in := a.Instrument
	l := &Transfer{Month: Month(r.Body.At), Importer: a.Importer.Entity, Role: a.Importer.Role, Country: a.Importer.Country, Counts: in.Transfer,
		Article: in.Article, Tool: in.ID, ToolDate: in.Date, TIA: in.TIA, TIADate: in.TIADate, Purpose: a.Purpose, Dataset: a.Dataset,
		Shows: shows(a), fromKnown: map[string]bool{}}
	if known := lines[l.key()]; known != nil {
		return known
	}
	lines[l.key()] = l
	return l
}

// shows lists categories and forms, sorted.
func shows(a *trefoil.Access) []Shown {
	out := []Shown{}
	for category, forms := range a.Forms {
		for _, f := range forms {
			out = append(out, Shown{category, f})
		}
	}
	slices.SortFunc(out, func(x, y Shown) int {
		return cmp.Or(strings.Compare(x.Category, y.Category), strings.Compare(x.Form, y.Form))
	})
	return out
}

func (l *Transfer) key() string {
	return fmt.Sprintf("%s|%q|%q|%q|%t|%q|%q|%q|%q|%q|%q|%q|%v", l.Month, l.Importer, l.Role, l.Country, l.Counts, l.Article, l.Tool, l.ToolDate,
		l.TIA, l.TIADate, l.Purpose, l.Dataset, l.Shows)
}

func (l *Transfer) add(r *Record, a *trefoil.Access, bytes, rows int64) {
	for source, c := range Places(a) {
		if source != "network" || c != "" { // an address without a country says nothing of another place
			l.fromKnown[c] = true
		}
	}
	l.receipts = append(l.receipts, item{r.Origin, r.Index, r.Leaf})
	if r.Body.Session != nil {
		l.Covered += bytes
		return
	}
	l.Releases++
	l.Rows += rows
	l.Bytes += bytes
	if trefoil.Unpermitted(r.Body) {
		l.Without++
	}
	switch n := r.Body.Release.Subjects; {
	case n == nil:
		l.Unknown++
	case l.Subjects == nil:
		sum := *n
		l.Subjects = &sum
	default:
		*l.Subjects += *n
	}
}

// header names the columns of the CSV form.
var header = []string{"month", "importer", "role", "country", "accessed_from", "transfer", "article", "tool", "tool_date", "assessment", "assessment_date",
	"purpose", "dataset", "category=form", "releases", "rows", "bytes", "catalog_bytes", "subjects", "releases_of_unknown_subjects", "unpermitted", "receipt_root"}

// CSV writes the register as comma-separated values (RFC 4180), a line each; an unknown number
// of subjects is the word unknown.
func (t *Transfers) CSV(w io.Writer) error {
	c := csv.NewWriter(w)
	if err := c.Write(header); err != nil {
		return fmt.Errorf("write register: %w", err)
	}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	for _, l := range t.Lines {
		subjects := "unknown"
		if l.Subjects != nil {
			subjects = n(*l.Subjects)
		}
		row := []string{l.Month, l.Importer, l.Role, named(l.Country), strings.Join(namedAll(l.From), " "), strconv.FormatBool(l.Counts), l.Article,
			l.Tool, l.ToolDate, l.TIA, l.TIADate, l.Purpose, l.Dataset, l.ShowsText(), n(l.Releases), n(l.Rows), n(l.Bytes), n(l.Covered), subjects,
			n(l.Unknown), n(l.Without), l.Root}
		for i := range row { // a spreadsheet would run what begins like a formula
			if row[i] != "" && strings.ContainsRune("=+-@\t\r", rune(row[i][0])) {
				row[i] = "'" + row[i]
			}
		}
		if err := c.Write(row); err != nil {
			return fmt.Errorf("write register: %w", err)
		}
	}
	c.Flush()
	return c.Error()
}

// ShowsText is Shows in one cell.
func (l *Transfer) ShowsText() string {
	parts := make([]string, len(l.Shows))
	for i, s := range l.Shows {
		parts[i] = s.Category + "=" + s.Form
	}
	return strings.Join(parts, "; ")
}

func named(country string) string {
	if country == "" {
		return "unknown"
	}
	return country
}

func namedAll(countries []string) []string {
	out := make([]string, len(countries))
	for i, c := range countries {
		out[i] = named(c)
	}
	return out
}
