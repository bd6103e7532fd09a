package monitor

import (
	"slices"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil"
)

// checkable is a world with a session of releases, and what a full check is given of each record.
func checkable(t testing.TB, releases int) (w *world, permits []string) {
	w = newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	permits = append(permits, "")
	a := w.access("chen", d)
	permits = append(permits, w.permitted(w.start(a)))
	for i := range int64(releases) {
		b := w.release(a, i, 100, 100*(i+1))
		b.Release.Statements = []trefoil.Statement{{Commitment: strings.Repeat("c", 64), Fingerprint: "0011223344556677", Kind: "select", Tables: []string{"app.users", "app.watches"}}}
		permits = append(permits, w.permitted(b))
	}
	return w, permits
}

// checked adds every record of the log, with its permit, after change.
func (w *world) checked(permits []string, change func(leaves [][]byte, records []trefoil.Record, permits []string)) CheckReport {
	w.t.Helper()
	c, err := NewChecker(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	leaves, records, permits := slices.Clone(w.log.leaves), slices.Clone(w.log.records), slices.Clone(permits)
	if change != nil {
		change(leaves, records, permits)
	}
	for i := range records {
		c.Add(uint64(i), leaves[i], records[i], permits[i])
	}
	c.Flush()
	return c.Report
}

func TestFullCheckOfHonestRecords(t *testing.T) {
	w, permits := checkable(t, 10)
	if r := w.checked(permits, nil); r.Faults != 0 || r.Records != 12 || r.Permits != 11 {
		t.Errorf("%+v", r)
	}
}

func TestFullCheckFindsWhatDoesNotHold(t *testing.T) {
	w, permits := checkable(t, 10)
	other, _ := newKey(t, "monitor.example/permit")
	body := func(change func(b *trefoil.Body)) func(l [][]byte, r []trefoil.Record, p []string) {
		return func(l [][]byte, r []trefoil.Record, p []string) {
			b, err := trefoil.DecodeBody(r[5].Body)
			if err != nil {
				t.Fatal(err)
			}
			change(b)
			if r[5], err = trefoil.NewRecord(b); err != nil {
				t.Fatal(err)
			}
			l[5] = r[5].Leaf()
			text, err := trefoil.OpenPermit(p[5], w.m.keys.permitVerifier)
			if err != nil {
				t.Fatal(err)
			}
			text.Leaf = trefoil.LeafHash(l[5])
			if p[5], err = trefoil.SignPermit(text, w.m.keys.permit); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(l [][]byte, r []trefoil.Record, p []string)
		text   string
	}{
		"altered body": {func(_ [][]byte, r []trefoil.Record, _ []string) {
			r[5].Body = []byte(strings.Replace(string(r[5].Body), `"rows":1`, `"rows":2`, 1))
		}, "leaf"},
		"altered salt":             {func(_ [][]byte, r []trefoil.Record, _ []string) { r[5].Salt = make([]byte, 32) }, "leaf"},
		"permit of another record": {func(_ [][]byte, _ []trefoil.Record, p []string) { p[5] = p[6] }, "another record"},
		"forged signature": {func(_ [][]byte, _ []trefoil.Record, p []string) {
			at := len(p[5]) - 10
			p[5] = p[5][:at] + string('A'+('Z'-p[5][at])%26) + p[5][at+1:]
		}, "not signed"},
		"another's signature": {func(_ [][]byte, _ []trefoil.Record, p []string) {
			permit, err := trefoil.OpenPermit(p[5], w.m.keys.permitVerifier)
			if err != nil {
				t.Fatal(err)
			}
			if p[5], err = trefoil.SignPermit(permit, other); err != nil {
				t.Fatal(err)
			}
		}, "not signed"},
		"no text at all":     {func(_ [][]byte, _ []trefoil.Record, p []string) { p[5] = "permit" }, "not signed"},
		"lying country":      {body(func(b *trefoil.Body) { b.Release.Access.Importer.Country = "JP" }), ruleLying},
		"more than allowed":  {body(func(b *trefoil.Body) { b.Release.Bytes = 1 << 40 }), ruleCeiling},
		"another definition": {body(func(b *trefoil.Body) { b.Release.Access.Hashes.Dataset = strings.Repeat("0", 64) }), ruleAcknowledged},
		"an unknown person":  {body(func(b *trefoil.Body) { b.Release.Access.Principal = "NOBODY" }), rulePrincipal},
	} {
		r := w.checked(permits, c.change)
		if r.Faults != 1 || r.First[0].Index != 5 || !strings.Contains(r.First[0].Text, c.text) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// BenchmarkFullCheck is the full check of one record, with one in a batch of its permits.
func BenchmarkFullCheck(b *testing.B) {
	w, permits := checkable(b, 400)
	c, err := NewChecker(w.dir)
	if err != nil {
		b.Fatal(err)
	}
	n := len(w.log.records)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Add(uint64(i%n), w.log.leaves[i%n], w.log.records[i%n], permits[i%n])
	}
	c.Flush()
	if c.Report.Faults > 0 {
		b.Fatalf("%+v", c.Report)
	}
}
