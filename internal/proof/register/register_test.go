package register

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func inside(c string) bool { return c == "IE" || c == "NO" }

// access is of somebody employed and working in a country.
func access(country, network string) trefoil.Access {
	a := trefoil.Access{Dataset: "analytics", Purpose: "product-analytics", Forms: map[string][]string{"behaviour": {"clear"}, "identifier": {"pseudonymised"}},
		Importer: trefoil.Party{Entity: "Example " + country, Country: country, Role: "processor"}, Principal: "p", Session: "s",
		Location: []trefoil.Place{{Source: "employer", Country: country}, {Source: "network", Country: network}, {Source: "workplace", Country: country}}}
	if !inside(country) {
		a.Instrument = trefoil.Instrument{Transfer: true, Article: "46", ID: "scc-" + country, Date: "2026-01-15", TIA: "tia-3", TIADate: "2026-01-10"}
	}
	return a
}

func release(a trefoil.Access, rows int64, subjects *int64) *trefoil.Body {
	return &trefoil.Body{At: noon, Kind: trefoil.KindRelease, Origin: "log", Release: &trefoil.ReleaseBody{Access: a, Rows: rows, Bytes: 10 * rows, Subjects: subjects}}
}

func sessionEnd(a trefoil.Access, covered int64) *trefoil.Body {
	return &trefoil.Body{At: noon, Kind: trefoil.KindSession, Origin: "log", Session: &trefoil.SessionBody{Access: a, Event: "end", Path: "release", Covered: covered}}
}

func source(records ...*Record) Source {
	return func(f func(*Record) error) error {
		for i, r := range records {
			r.Origin, r.Index, r.Leaf = "log", uint64(i), [32]byte{byte(i), 1}
			if err := f(r); err != nil {
				return err
			}
		}
		return nil
	}
}

func ok(b *trefoil.Body) *Record { return &Record{Body: b, Permitted: true} }

func count(n int64) *int64 { return &n }

func TestTransfersAddUpAndDoNotOverlap(t *testing.T) {
	cn, us := access("CN", "CN"), access("US", "US")
	other := access("CN", "CN")
	other.Instrument.TIA = "tia-4"
	december := release(cn, 7, count(7))
	december.At = noon.AddDate(0, 1, 0)
	late := release(cn, 5, count(5))
	late.Release.Unpermitted = true
	all, err := BuildTransfers(source(
		ok(release(cn, 100, count(40))), ok(release(cn, 50, nil)), &Record{Body: late}, ok(sessionEnd(cn, 900)), ok(sessionEnd(us, 0)),
		ok(release(us, 10, nil)), ok(release(other, 1, count(1))), ok(december),
		&Record{Body: release(cn, 1_000_000, nil)},          // never permitted: nothing left
		ok(release(access("IE", "IE"), 5000, count(9))),     // at home
		ok(&trefoil.Body{At: noon, Kind: trefoil.KindSite}), // says nothing of accesses
	), "2026-11", inside)
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Lines) != 3 || all.NotPermitted != 1 {
		t.Fatalf("%d lines, %d not permitted", len(all.Lines), all.NotPermitted)
	}
	var rows, releases int64
	for _, l := range all.Lines {
		rows, releases = rows+l.Rows, releases+l.Releases
	}
	if rows != 100+50+5+10+1 || releases != 5 {
		t.Errorf("%d rows in %d releases", rows, releases)
	}
	first := all.Lines[slices.IndexFunc(all.Lines, func(l *Transfer) bool { return l.TIA == "tia-3" && l.Country == "CN" })]
	if first.Covered != 900 || first.Without != 1 || first.Subjects == nil || *first.Subjects != 45 || first.Unknown != 1 || first.ShowsText() != "behaviour=clear; identifier=pseudonymised" {
		t.Errorf("%+v", first)
	}
	unknown := all.Lines[slices.IndexFunc(all.Lines, func(l *Transfer) bool { return l.Country == "US" })]
	if unknown.Subjects != nil || unknown.Unknown != 1 {
		t.Errorf("subjects that nobody counted are %v", unknown.Subjects)
	}
}

// TestSubjectsThatNobodyCountedAreNotNone: the CSV says unknown, never 0.
func TestSubjectsThatNobodyCountedAreNotNone(t *testing.T) {
	a := access("US", "")
	a.Importer.Entity = "=cmd|' /C calc'!A0" // a name that a spreadsheet would run
	all, err := BuildTransfers(source(ok(release(a, 10, nil))), "", inside)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := all.CSV(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatalf("%v %v", rows, err)
	}
	at := slices.Index(rows[0], "subjects")
	if rows[1][at] != "unknown" || !strings.HasPrefix(rows[1][1], "'=") || len(rows[0]) != len(rows[1]) {
		t.Errorf("%v", rows[1])
	}
}

// TestTravellersAreShownAsNoTransfer: somebody of the same entity abroad is in the register,
// with that word (GDPR art. 32).
func TestTravellersAreShownAsNoTransfer(t *testing.T) {
	a := access("IE", "BR")
	all, err := BuildTransfers(source(ok(release(a, 3, nil)), ok(release(access("NO", ""), 3, nil))), "", inside)
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Lines) != 1 || all.Lines[0].Counts || fmt.Sprint(all.Lines[0].From) != "[BR IE]" {
		t.Errorf("%+v", all.Lines)
	}
}

func TestTheRootIsOfTheReceiptsAndNothingElse(t *testing.T) {
	records := func() []*Record {
		return []*Record{ok(release(access("CN", "CN"), 1, nil)), ok(release(access("CN", "CN"), 2, nil)), ok(release(access("CN", "CN"), 3, nil))}
	}
	build := func(s Source) string {
		all, err := BuildTransfers(s, "", inside)
		if err != nil || len(all.Lines) != 1 {
			t.Fatal(err)
		}
		return all.Lines[0].Root
	}
	want := build(source(records()...))
	turned := func(f func(*Record) error) error { // another order of the mirror's journal
		var all []*Record
		_ = source(records()...)(func(r *Record) error { all = append(all, r); return nil })
		slices.Reverse(all)
		for _, r := range all {
			if err := f(r); err != nil {
				return err
			}
		}
		return nil
	}
	if build(turned) != want {
		t.Error("the root depends on the order in which records came")
	}
	if build(source(records()[:2]...)) == want {
		t.Error("the root is the same with a record less")
	}
}

func TestSourcesErrorEndsTheRegister(t *testing.T) {
	broken := errors.New("disk")
	if _, err := BuildTransfers(func(func(*Record) error) error { return broken }, "", inside); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

const notice = `version: 1
published: "2026-01-01"
where: https://example.eu/privacy
transfers:
  - { country: US, recipient: Example US, article: "46", purposes: [product-analytics], remote: true }
  - { country: CN, recipient: Example CN, article: "46", tool: scc-CN, purposes: [support], remote: true }
  - { country: JP, recipient: Example JP, article: "45", purposes: [support] }
`

func TestWhatANoticeLeavesOutIsFound(t *testing.T) {
	n, err := ParseNotice("notice.yaml", []byte(notice))
	if err != nil {
		t.Fatal(err)
	}
	visiting := access("US", "US")
	visiting.Location[2].Country = "BR" // works from a country that nobody named
	all, err := BuildTransfers(source(ok(release(access("US", "US"), 1, nil)), ok(release(access("CN", "CN"), 1, nil)), ok(release(visiting, 1, nil))), "", inside)
	if err != nil {
		t.Fatal(err)
	}
	all.Compare(n)
	d := all.Notice
	if d.Holds() || len(d.Missing) != 2 || !strings.HasPrefix(d.Missing[0]+d.Missing[1], "CN, Example CN") || len(d.Unused) != 2 || len(d.Silent) != 0 {
		t.Errorf("%+v", d)
	}
	quiet, err := ParseNotice("notice.yaml", []byte(strings.ReplaceAll(notice, ", remote: true", "")))
	if err != nil {
		t.Fatal(err)
	}
	all.Compare(quiet)
	if len(all.Notice.Silent) != 1 {
		t.Errorf("a notice that does not say remote access: %+v", all.Notice)
	}
	complete, err := BuildTransfers(source(ok(release(access("US", "US"), 1, nil))), "", inside)
	if err != nil {
		t.Fatal(err)
	}
	if complete.Compare(n); !complete.Notice.Holds() {
		t.Errorf("%+v", complete.Notice)
	}
}

func TestNoticesAreStrict(t *testing.T) {
	for _, bad := range []string{"", "version: 2", strings.Replace(notice, "US,", "usa,", 1), strings.Replace(notice, `article: "46"`, `article: "47"`, 1),
		strings.Replace(notice, "where:", "wher:", 1), strings.Replace(notice, "[support]", "[]", 1)} {
		if _, err := ParseNotice("notice.yaml", []byte(bad)); err == nil {
			t.Errorf("taken: %s", bad)
		}
	}
}

func FuzzNotice(f *testing.F) {
	f.Add([]byte(notice))
	f.Add([]byte("transfers: [{}]"))
	f.Fuzz(func(t *testing.T, src []byte) {
		n, err := ParseNotice("f", src)
		if err != nil {
			return
		}
		all, err := BuildTransfers(source(ok(release(access("US", "US"), 1, nil))), "", inside)
		if err != nil {
			t.Fatal(err)
		}
		all.Compare(n)
	})
}

func TestOrderCountsEveryWayOut(t *testing.T) {
	start := func(a trefoil.Access) *trefoil.Body {
		return &trefoil.Body{At: noon, Kind: trefoil.KindSession, Session: &trefoil.SessionBody{Access: a, Event: "start", Path: "release", Allowance: 5}}
	}
	unknown := access("CN", "")
	unknown.Importer.Country, unknown.Location = "", nil
	network := access("IE", "CN")
	summary := &trefoil.Body{Kind: trefoil.KindSummary, Summary: &trefoil.SummaryBody{Access: access("CN", "CN")}}
	refusal := &trefoil.Body{Kind: trefoil.KindRefusal, Refusal: &trefoil.RefusalBody{Access: access("CN", "CN")}}
	without := release(access("CN", "CN"), 1, nil)
	without.Release.Unpermitted = true
	for name, c := range map[string]struct {
		r     *Record
		holds bool
		what  func(*OrderResult) bool
	}{
		"release":                  {ok(release(access("CN", "CN"), 1, nil)), false, func(o *OrderResult) bool { return o.Of == 1 && len(o.To) == 1 }},
		"by the network alone":     {ok(release(network, 1, nil)), false, func(o *OrderResult) bool { return o.Of == 1 }},
		"without a permit, marked": {&Record{Body: without}, false, func(o *OrderResult) bool { return o.Of == 1 }},
		"start with an allowance":  {ok(start(access("CN", "CN"))), false, func(o *OrderResult) bool { return o.Of == 1 }},
		"service":                  {ok(summary), false, func(o *OrderResult) bool { return o.Of == 1 }},
		"country unknown":          {ok(release(unknown, 1, nil)), false, func(o *OrderResult) bool { return len(o.Unknown) == 1 }},
		"body gone":                {nil, false, func(o *OrderResult) bool { return len(o.NoBody) == 1 }},
		"never permitted":          {&Record{Body: release(access("CN", "CN"), 1, nil)}, true, func(o *OrderResult) bool { return len(o.NotPermitted) == 1 }},
		"refused":                  {ok(refusal), true, func(o *OrderResult) bool { return o.Refused == 1 }},
		"elsewhere":                {ok(release(access("US", "US"), 1, nil)), true, func(o *OrderResult) bool { return o.Of == 0 }},
		"network unknown":          {ok(release(access("IE", ""), 1, nil)), true, func(o *OrderResult) bool { return o.NoNetwork == 1 }},
		"about nobody":             {ok(&trefoil.Body{Kind: trefoil.KindSite, Site: &trefoil.SiteBody{Country: "CN"}}), true, func(o *OrderResult) bool { return o.Of == 0 }},
	} {
		o := NewOrderResult("log", 0, 1)
		o.Add(0, c.r, "CN")
		if o.Holds() != c.holds || !c.what(o) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestADrawIsFairAndCannotBeChosen(t *testing.T) {
	head := &trefoil.Checkpoint{Origin: "log", Size: 1000, Root: [32]byte{9}}
	all := func(seed string, h *trefoil.Checkpoint, n int) []uint64 {
		d, err := NewDraw(seed, h)
		if err != nil {
			t.Fatal(err)
		}
		var out []uint64
		for range n {
			i, more := d.Next()
			if !more {
				break
			}
			out = append(out, i)
		}
		return out
	}
	first := all("an inspector's seed", head, 1200)
	seen := map[uint64]bool{}
	for _, i := range first {
		if seen[i] || i >= 1000 {
			t.Fatalf("%d is drawn twice, or is not in the log", i)
		}
		seen[i] = true
	}
	if len(first) != 1000 {
		t.Errorf("%d of 1000 records can be drawn", len(first))
	}
	if !slices.Equal(first[:50], all("an inspector's seed", head, 50)) {
		t.Error("the same seed and head draw other records")
	}
	moved := *head
	moved.Root[0] ^= 1
	if slices.Equal(first[:10], all("an inspector's seed", &moved, 10)) || slices.Equal(first[:10], all("an inspector's seee", head, 10)) {
		t.Error("another head or seed draws the same")
	}
	// Each tenth of the log gets its share: 4,000 first draws, 400 ± 5 standard deviations each.
	var tenths [10]int
	for i := range 4000 {
		tenths[all(fmt.Sprintf("seed %08d", i), head, 1)[0]/100]++
	}
	for i, n := range tenths {
		if n < 305 || n > 495 {
			t.Errorf("tenth %d of the log is drawn %d times in 4000", i, n)
		}
	}
	for _, seed := range []string{"short", strings.Repeat("x", 201), "with\nnewline", "späte Saat"} {
		if _, err := NewDraw(seed, head); err == nil {
			t.Errorf("seed %q is taken", seed)
		}
	}
	if d, err := NewDraw("an inspector's seed", &trefoil.Checkpoint{}); err != nil {
		t.Error(err)
	} else if _, more := d.Next(); more {
		t.Error("an empty log gives a record")
	}
}

const coverageText = `version: 1
fresh: 24h
systems:
  - { name: production, kind: database, country: IE, holds: [contact, identifier], seen_as: source app }
  - { name: research copy, kind: database, country: IE, holds: [behaviour], seen_as: dataset analytics }
  - { name: old copy, kind: database, country: IE, holds: [behaviour], seen_as: dataset old }
  - { name: never seen, kind: database, country: IE, holds: [behaviour], seen_as: dataset nowhere }
  - { name: backups, kind: object store, country: IE, holds: [contact], attested: { by: Example Cloud, at: "2026-01-01", until: "2027-01-01", reference: report 7 } }
  - { name: tapes, kind: backup, country: IE, holds: [contact], attested: { by: Example Vault, at: "2025-01-01", until: "2026-01-01", reference: report 3 } }
  - { name: tickets, kind: SaaS, country: "", holds: [content], not_covered: no interface }
`

// TestNothingIsMeasuredBecauseAFileSaysSo: measured comes from records alone, and what is seen
// and not in the file is listed.
func TestNothingIsMeasuredBecauseAFileSaysSo(t *testing.T) {
	c, err := ParseCoverage("coverage.yaml", []byte(coverageText))
	if err != nil {
		t.Fatal(err)
	}
	summary := &trefoil.Body{At: noon, Kind: trefoil.KindSummary, Summary: &trefoil.SummaryBody{Access: trefoil.Access{Dataset: "app"}, Rows: 70}}
	definition := &trefoil.Definition{Name: "analytics", Columns: []trefoil.DefinedColumn{{Category: "behaviour", Form: "clear"}}}
	defined := &trefoil.Body{At: noon, Kind: trefoil.KindCatalog, Catalog: &trefoil.CatalogBody{Event: "defined", Hash: "h", Definition: definition}}
	built := &trefoil.Body{At: noon, Kind: trefoil.KindCatalog, Catalog: &trefoil.CatalogBody{Event: "built", Hash: "h", Measured: &trefoil.Measured{Rows: 500, Subjects: 40}}}
	old := &trefoil.Body{At: noon.AddDate(0, 0, -9), Kind: trefoil.KindCatalog, Catalog: &trefoil.CatalogBody{Event: "built", Hash: "o", Definition: &trefoil.Definition{Name: "old"}}}
	extra := &trefoil.Body{At: noon, Kind: trefoil.KindCatalog, Catalog: &trefoil.CatalogBody{Event: "built", Hash: "x", Definition: &trefoil.Definition{Name: "shadow"}}}
	lines, err := BuildCoverage(source(ok(summary), ok(defined), ok(built), ok(old), ok(extra)), c, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, l := range lines {
		got[l.System] = fmt.Sprintf("%s %t", l.Status, l.Named)
	}
	want := map[string]string{"production": "measured true", "research copy": "measured true", "old copy": "not covered true", "never seen": "not covered true",
		"backups": "attested true", "tapes": "not covered true", "tickets": "not covered true", "dataset shadow": "measured false", "log log": "measured false"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	if l := lines[1]; l.Seen == nil || l.Seen.Rows != 500 || l.Seen.Subjects != 40 {
		t.Errorf("%+v", l)
	}
}

func TestCoverageIsStrict(t *testing.T) {
	for _, bad := range []string{"", strings.Replace(coverageText, "seen_as: source app", "status: measured", 1),
		strings.Replace(coverageText, "seen_as: source app", "seen_as: everything", 1), strings.Replace(coverageText, ", not_covered: no interface", "", 1),
		strings.Replace(coverageText, "not_covered: no interface", "not_covered: x, seen_as: log x", 1), strings.Replace(coverageText, "[content]", "[secrets]", 1),
		strings.Replace(coverageText, `until: "2027-01-01"`, `until: "soon"`, 1), strings.Replace(coverageText, "name: tapes", "name: backups", 1)} {
		if _, err := ParseCoverage("coverage.yaml", []byte(bad)); err == nil {
			t.Errorf("taken: %s", bad)
		}
	}
}

const claimsText = `version: 1
claims:
  - { id: no-china, text: "Nothing goes to China.", published: "2026-11-01", where: https://example.eu, contradicted_by: { to: [CN] } }
  - { id: no-clear, text: "Only pseudonyms leave.", published: "2026-11-01", where: https://example.eu, contradicted_by: { clear_outside: true } }
  - { id: no-transfer, text: "No transfers.", published: "2026-12-01", where: https://example.eu, contradicted_by: { transfers: true, unpermitted: true, findings: [gap] } }
`

func TestClaimsAreTestedFromTheirPublicationOn(t *testing.T) {
	c, err := ParseClaims("claims.yaml", []byte(claimsText))
	if err != nil {
		t.Fatal(err)
	}
	clear := access("US", "US")
	clear.Forms = map[string][]string{"contact": {"clear"}}
	without := release(access("IE", "IE"), 1, nil)
	without.At, without.Release.Unpermitted = noon.AddDate(0, 1, 0), true
	late := release(access("US", "US"), 1, nil)
	late.At = noon.AddDate(0, 1, 0)
	for name, x := range map[string]struct {
		r    *Record
		want [3]bool
	}{
		"pseudonyms to China":            {ok(release(access("CN", "CN"), 1, nil)), [3]bool{true, false, false}},
		"clear values to the US":         {ok(release(clear, 1, nil)), [3]bool{false, true, false}},
		"never permitted":                {&Record{Body: release(access("CN", "CN"), 1, nil)}, [3]bool{}},
		"a transfer before the claim":    {ok(release(access("US", "US"), 1, nil)), [3]bool{}},
		"a transfer after it":            {ok(late), [3]bool{false, false, true}},
		"in the region without a permit": {&Record{Body: without}, [3]bool{false, false, true}},
		"at home":                        {ok(release(access("NO", "NO"), 1, nil)), [3]bool{}},
	} {
		for i := range c.Claims {
			if got := c.Claims[i].Contradicts(x.r, inside); (got != "") != x.want[i] {
				t.Errorf("%s against %s: %q", name, c.Claims[i].ID, got)
			}
		}
	}
	for _, bad := range []string{"", strings.Replace(claimsText, "{ to: [CN] }", "{}", 1), strings.Replace(claimsText, "[CN]", "[China]", 1),
		strings.Replace(claimsText, "no-clear", "no-china", 1), strings.Replace(claimsText, `"2026-12-01"`, `"soon"`, 1)} {
		if _, err := ParseClaims("claims.yaml", []byte(bad)); err == nil {
			t.Errorf("taken: %s", bad)
		}
	}
}

// FuzzFiles: coverage and claims are files of others.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(coverageText))
	f.Add([]byte(claimsText))
	f.Fuzz(func(t *testing.T, src []byte) {
		if c, err := ParseCoverage("f", src); err == nil {
			if _, err := BuildCoverage(source(ok(release(access("US", "US"), 1, nil))), c, noon); err != nil {
				t.Error(err)
			}
		}
		if c, err := ParseClaims("f", src); err == nil {
			for i := range c.Claims {
				c.Claims[i].Contradicts(ok(release(access("US", "US"), 1, nil)), inside)
			}
		}
	})
}
