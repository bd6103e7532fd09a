package intake

import (
	"fmt"
	"path/filepath"
	"sort"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Summary is what init reports: counts and names of the schema, never values.
type Summary struct {
	Directory   string          `json:"directory"`
	Database    string          `json:"database"`
	Version     int             `json:"version"`
	Encoding    string          `json:"encoding"`
	Tables      int             `json:"tables"`
	Columns     int             `json:"columns"`
	Person      string          `json:"person,omitempty"`
	Key         string          `json:"key,omitempty"`
	Residence   string          `json:"residence,omitempty"`
	AboutPeople int             `json:"about_people"`
	AboutNobody int             `json:"about_nobody"`
	Undecided   int             `json:"undecided"`
	Categories  []CategoryCount `json:"categories"`
	Notes       []string        `json:"notes"`
	Written     []string        `json:"written"`
	Next        string          `json:"next"`
}

// CategoryCount counts the columns of a category; "about no one" are the neutral ones.
type CategoryCount struct {
	Name    string `json:"name"`
	Columns int    `json:"columns"`
}

// Summarise counts a proposal.
func Summarise(p *Proposal, dir string, written []string) Summary {
	r := Summary{Directory: dir, Database: p.Schema.Database, Version: p.Schema.Version, Encoding: p.Schema.Encoding,
		Tables: len(p.Catalog.Tables), Person: p.Catalog.Person.Table, Key: p.Catalog.Person.Key, Residence: p.Catalog.Person.Residence,
		Notes: p.Notes, Written: foldPolicy(written)}
	counts := map[string]int{}
	for _, t := range p.Catalog.Tables {
		switch s := t.Subject; {
		case s.Nobody:
			r.AboutNobody++
		case s.Self || s.Column != "" || s.Via != "":
			r.AboutPeople++
		default:
			r.Undecided++
		}
		for _, c := range t.Columns {
			r.Columns++
			name := string(c.Category)
			if c.Trait == law.Neutral {
				name = "about no one"
			}
			counts[name]++
		}
	}
	for name, n := range counts {
		r.Categories = append(r.Categories, CategoryCount{name, n})
	}
	sort.Slice(r.Categories, func(i, j int) bool { return r.Categories[i].Name < r.Categories[j].Name })
	r.Next = next(p, filepath.Join(dir, "enclave.yaml"))
	return r
}

func foldPolicy(written []string) []string {
	var out []string
	policies := 0
	for _, name := range written {
		if strings.HasPrefix(name, "policy/") {
			policies++
			continue
		}
		out = append(out, name)
	}
	if policies > 0 {
		out = append(out, fmt.Sprintf("policy/ (%d files)", policies))
	}
	return out
}

func next(p *Proposal, config string) string {
	if p.Datasets == nil {
		return fmt.Sprintf("  write person and subjects into catalog.yaml, a dataset into datasets.yaml, then\n  trefoil check -c %s\n", config)
	}
	name := p.Datasets.Datasets[0].Name
	return fmt.Sprintf(`  read catalog.yaml, line by line where the dataset %[1]s holds a column
  trefoil check -c %[2]s                  # what is left to do, and the SQL that the source needs
  trefoil check -c %[2]s --accept %[1]s   # I have read the lines of %[1]s, and they are right
  trefoil dataset build -c %[2]s %[1]s
`, name, config)
}
