package platform

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dump writes every table of p as COPY would send it.
func dump(p Platform) map[string][]byte {
	out := map[string][]byte{}
	for _, t := range p.tables() {
		var l line
		for i := int64(1); i <= t.n; i++ {
			t.row(&l, i)
			l.end()
		}
		out[t.name] = l.buf
	}
	return out
}

func TestEqualSeedsGiveEqualRows(t *testing.T) {
	a, b, other := dump(Platform{7, 300}), dump(Platform{7, 300}), dump(Platform{8, 300})
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s differs between two generations of one seed", name)
		}
		if name != "app.topics" && bytes.Equal(a[name], other[name]) {
			t.Errorf("%s is the same for another seed", name)
		}
	}
}

func TestEveryFieldFitsCopysTextFormat(t *testing.T) {
	p := Platform{7, 300}
	for _, table := range p.tables() {
		columns := strings.Count(table.columns, ",") + 1
		for _, row := range strings.Split(strings.TrimSuffix(string(dump(p)[table.name]), "\n"), "\n") {
			if got := strings.Count(row, "\t") + 1; got != columns {
				t.Fatalf("%s: a row has %d fields, its COPY %d columns", table.name, got, columns)
			}
			if strings.Contains(strings.ReplaceAll(row, `\N`, ""), `\`) {
				t.Fatalf("%s: a row has a backslash", table.name)
			}
		}
	}
}

func TestPeopleLiveInThirtyFiveCountriesMostlyOfTheRegion(t *testing.T) {
	p := Platform{1, 20_000}
	lives := map[string]int{}
	emails := map[string]bool{}
	for id := int64(1); id <= p.People; id++ {
		x := p.Person(id)
		lives[x.Country]++
		emails[x.Email] = true
	}
	if len(lives) != 35 {
		t.Errorf("people live in %d countries, want 35", len(lives))
	}
	if len(emails) != int(p.People) {
		t.Errorf("%d different addresses for %d people", len(emails), p.People)
	}
	for _, c := range []string{"DE", "GB", "CH", "JP", "CN", "US"} {
		if lives[c] == 0 {
			t.Errorf("nobody lives in %s", c)
		}
	}
}

// TestIBANsCheck computes ISO 7064 mod 97-10 from the printed IBAN.
func TestIBANsCheck(t *testing.T) {
	p := Platform{1, 500}
	for i := int64(1); i <= p.Payments(); i++ {
		_, iban := p.Payment(i)
		rest := 0
		for _, c := range iban[4:] + iban[:4] {
			if c >= 'A' {
				rest = (rest*100 + int(c-'A') + 10) % 97
			} else {
				rest = (rest*10 + int(c-'0')) % 97
			}
		}
		if rest != 1 {
			t.Fatalf("payment %d: remainder %d, want 1", i, rest)
		}
	}
}

func TestSearchFindsEveryCanaryAtTheSource(t *testing.T) {
	p := Platform{1, 400}
	dir := t.TempDir()
	for name, rows := range dump(p) {
		if err := os.WriteFile(filepath.Join(dir, name), rows, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	canaries := p.Canaries(50)
	needles, err := NewNeedles(canaries)
	if err != nil {
		t.Fatal(err)
	}
	found, err := needles.Directory(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Canary]bool{}
	for _, h := range found.Hits {
		seen[h.Canary] = true
	}
	for _, c := range canaries {
		if !seen[c] {
			t.Errorf("canary of %s, person %d, not found", c.Column, c.Person)
		}
	}
	other, err := NewNeedles(Platform{2, 400}.Canaries(50))
	if err != nil {
		t.Fatal(err)
	}
	if found, err := other.Directory(dir); err != nil || len(found.Hits) != 0 {
		t.Errorf("search for another platform's canaries: %d hits, %v", len(found.Hits), err)
	}
}

func TestSearchFindsAValueThatSpansTwoBlocks(t *testing.T) {
	c := Canary{Column: "app.people.email", Value: "someone.somewhere@mail.example"}
	needles, err := NewNeedles([]Canary{c, {Column: "x", Value: strings.Repeat("long", 20)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 1<<20 - 100, 1<<20 - 30, 1<<20 - 7, 1 << 20, 2<<20 - 80, 3 << 20} {
		hay := bytes.Repeat([]byte("mail.exa"), 3<<17)
		hay = append(hay[:at], append([]byte(c.Value), hay[at:]...)...)
		size, hits, err := needles.Scan(bytes.NewReader(hay), "hay")
		if err != nil || size != int64(len(hay)) || len(hits) != 1 || hits[0].Offset != int64(at) {
			t.Errorf("at %d: read %d of %d bytes, hits %v, %v", at, size, len(hay), hits, err)
		}
	}
}

func TestSearchRefusesAValueTooShortToMeanAnything(t *testing.T) {
	if _, err := NewNeedles([]Canary{{Column: "x", Value: "short"}}); err == nil {
		t.Error("a five-byte value was accepted")
	}
}
