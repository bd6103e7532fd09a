package register

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Notice is what the operator publishes of its transfers (GDPR arts. 13(1)(f) and 14(1)(f)),
// in a form that can be compared.
type Notice struct {
	Version   int              `yaml:"version"`
	Published string           `yaml:"published"` // YYYY-MM-DD
	Where     string           `yaml:"where"`     // its address
	Transfers []NoticeTransfer `yaml:"transfers"`
}

// NoticeTransfer is one transfer that the notice names.
type NoticeTransfer struct {
	Country   string   `yaml:"country"`
	Recipient string   `yaml:"recipient"`        // as in the records' importer
	Article   string   `yaml:"article"`          // 45, 46
	Tool      string   `yaml:"tool,omitempty"`   // id of the instrument; "": any
	Purposes  []string `yaml:"purposes"`         // as configured
	Remote    bool     `yaml:"remote,omitempty"` // says that it is remote access to data stored in the region
}

// ParseNotice decodes a notice strictly. File is used in errors only.
func ParseNotice(file string, src []byte) (*Notice, error) {
	var n Notice
	pos, err := strict.DecodeWithPositions(file, src, &n)
	errs := strict.All(file, err)
	want := func(ok bool, path, format string, args ...any) {
		if !ok {
			errs = append(errs, pos.Errorf(path, format, args...))
		}
	}
	want(n.Version == 1, "version", "must be 1")
	_, dated := time.Parse(time.DateOnly, n.Published)
	want(dated == nil, "published", "must be a date, YYYY-MM-DD")
	for i, t := range n.Transfers {
		at := fmt.Sprintf("transfers[%d]", i)
		want(len(t.Country) == 2 && t.Country == strings.ToUpper(t.Country), at+".country", "must be an ISO 3166-1 alpha-2 country")
		want(t.Recipient != "", at+".recipient", "is missing")
		want(slices.Contains([]string{"45", "46", "49"}, t.Article), at+".article", `must be "45", "46" or "49"`)
		want(len(t.Purposes) > 0, at+".purposes", "must name at least one")
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return &n, nil
}

// Difference is what a notice and the observed accesses do not share.
type Difference struct {
	Published string   `json:"published"`
	Where     string   `json:"where,omitempty"`
	Missing   []string `json:"missing"`    // observed, and not in the notice
	Silent    []string `json:"not_remote"` // named, but not as remote access to data stored in the region
	Unused    []string `json:"not_seen"`   // in the notice, and not observed in the period
}

// Holds reports whether the notice leaves nothing out.
func (d *Difference) Holds() bool { return len(d.Missing) == 0 && len(d.Silent) == 0 }

// Compare sets the register beside a notice.
func (t *Transfers) Compare(n *Notice) {
	d := &Difference{Published: n.Published, Where: n.Where, Missing: []string{}, Silent: []string{}, Unused: []string{}}
	used := make([]bool, len(n.Transfers))
	add := func(list *[]string, text string) {
		if !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
	for _, l := range t.Lines {
		if !l.Counts {
			continue
		}
		named, remote := false, false
		for i, x := range n.Transfers {
			if x.Country == l.Country && x.Recipient == l.Importer && x.Article == l.Article && (x.Tool == "" || x.Tool == l.Tool) && slices.Contains(x.Purposes, l.Purpose) {
				used[i], named, remote = true, true, remote || x.Remote
			}
		}
		text := fmt.Sprintf("%s, %s: purpose %s, art. %s %s", orUnknown(l.Country), l.Importer, l.Purpose, l.Article, l.Tool)
		switch {
		case !named:
			add(&d.Missing, strings.TrimSpace(text))
		case !remote:
			add(&d.Silent, strings.TrimSpace(text))
		}
		for _, c := range l.From { // a country from which data was read is named, whoever the importer is
			if c != l.Country && !t.inside(c) && !slices.ContainsFunc(n.Transfers, func(x NoticeTransfer) bool { return x.Country == c }) {
				add(&d.Missing, fmt.Sprintf("%s: read from there by %s", orUnknown(c), l.Importer))
			}
		}
	}
	for i, x := range n.Transfers {
		if !used[i] {
			add(&d.Unused, fmt.Sprintf("%s, %s: purposes %s, art. %s", x.Country, x.Recipient, strings.Join(x.Purposes, ", "), x.Article))
		}
	}
	t.Notice = d
}

func orUnknown(c string) string {
	if c == "" {
		return "an unknown country"
	}
	return c
}
