package probe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
)

func key(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func enrolment(number uint64) *Enrolment {
	return &Enrolment{Number: number, At: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC),
		Targets: []Enrolled{{Name: "platform", Entries: []Entry{{Topic: "role", Name: "app", Value: "login"}}}}}
}

func TestAnEnrolmentThatNoOfficerSignedCountsForNothing(t *testing.T) {
	officer, vkey := key(t, "officer")
	stranger, _ := key(t, "stranger")
	namesake, _ := key(t, "officer")
	text, err := Sign(enrolment(1), officer)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := OpenEnrolment([]byte(text), []string{vkey}); err != nil || e.By != "officer" || e.Number != 1 || e.target("platform").Entries[0].Name != "app" {
		t.Fatalf("%v %+v", err, e)
	}
	other, err := note.Sign(&note.Note{Text: "trefoil order v1\n{}\n"}, officer)
	if err != nil {
		t.Fatal(err)
	}
	unnumbered, _ := Sign(enrolment(0), officer)
	byStranger, _ := Sign(enrolment(1), stranger)
	byNamesake, _ := Sign(enrolment(1), namesake)
	for what, bad := range map[string]string{
		"signed by a stranger":               byStranger,
		"signed by a key of the same name":   byNamesake,
		"altered after it was signed":        strings.Replace(text, `"app"`, `"mole"`, 1),
		"another text of the same officer":   string(other),
		"without a number":                   unnumbered,
		"nothing":                            "",
		"the text without a signature":       text[:strings.Index(text, "\n\n")+2],
		"two texts, the second not signed":   text + text,
		"further fields after it was signed": strings.Replace(text, `"number"`, `"more": 1, "number"`, 1),
	} {
		if _, err := OpenEnrolment([]byte(bad), []string{vkey}); err == nil {
			t.Errorf("in force: %s", what)
		}
	}
	if _, err := OpenEnrolment([]byte(text), nil); err == nil {
		t.Error("in force without any officer")
	}
}

func TestAnOlderEnrolmentIsNotPutInThePlaceOfANewerOne(t *testing.T) {
	dir := t.TempDir()
	officer, vkey := key(t, "officer")
	text := func(n uint64) []byte {
		s, err := Sign(enrolment(n), officer)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(s)
	}
	for _, n := range []uint64{1, 2} {
		if _, err := Install(dir, text(n), []string{vkey}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []uint64{1, 2, 4} {
		if _, err := Install(dir, text(n), []string{vkey}); err == nil {
			t.Errorf("number %d follows 2", n)
		}
	}
	// Who writes the file by hand is found while the monitor runs.
	p, found := probeOf(t, func() (*Enrolment, error) { return LoadEnrolment(dir, []string{vkey}) })
	round(t, p)
	if err := os.WriteFile(filepath.Join(dir, EnrolmentFile), text(1), 0o600); err != nil {
		t.Fatal(err)
	}
	round(t, p)
	if len(*found) != 1 || (*found)[0].Rule != "probe-enrolment" {
		t.Errorf("findings: %+v", *found)
	}
}

// probeOf makes a probe of no server.
func probeOf(t *testing.T, enrolled func() (*Enrolment, error)) (*Probe, *[]incident.Finding) {
	t.Helper()
	found := &[]incident.Finding{}
	p, err := New(Config{Settings: &Settings{}, Enrolment: enrolled,
		Definitions: func() (map[string][]*trefoil.Definition, error) { return nil, nil },
		Wait:        func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Open:        func(f incident.Finding) error { *found = append(*found, f); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return p, found
}

func round(t *testing.T, p *Probe) *Report {
	t.Helper()
	r, err := p.Round(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWithoutAnEnrolmentNothingIsEnrolled(t *testing.T) {
	p, found := probeOf(t, func() (*Enrolment, error) { return nil, errors.New("none") })
	if r := round(t, p); r.New != 1 || len(*found) != 1 {
		t.Errorf("%+v %+v", r, *found)
	}
	if r := round(t, p); r.New != 0 || len(r.Differences) != 1 {
		t.Errorf("the same again: %+v", r)
	}
}

func TestRunLooksAgainUntilItIsEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	rounds := 0
	p, _ := probeOf(t, func() (*Enrolment, error) { return enrolment(1), nil })
	p.c.Wait = func(ctx context.Context, d time.Duration) error {
		if d != 30*time.Second {
			t.Errorf("it waits %s", d)
		}
		if rounds++; rounds == 3 {
			cancel()
		}
		return ctx.Err()
	}
	if err := p.Run(ctx); err != nil || rounds != 3 {
		t.Errorf("%v after %d rounds", err, rounds)
	}
}

func TestAPeerIsLetThroughByItsPatternAlone(t *testing.T) {
	pattern := func(given string) Entry {
		name, err := Session(given)
		if err != nil {
			t.Fatal(err)
		}
		return Entry{Topic: "session", Name: name}
	}
	c := &comparison{t: &Target{Kind: KindSource}, principals: map[string]bool{"chen": true}, enrolled: &Enrolled{Entries: []Entry{
		pattern("user=reader application=trefoil address=10.1.0.0/16"), pattern("user=@principals address=10.2.0.1 certificate=c0ffee"),
		pattern("user=standby backend=walsender address=10.3.0.9"), {Topic: "session", Name: ""}, {Topic: "session", Name: "user=*"}}}}
	session := func(user, application, backend, address, certificate string) Entry {
		return Entry{Topic: "session", Name: "user=" + user + " database=app application=" + application + " backend=" + backend + " address=" + address + " certificate=" + certificate}
	}
	for _, ok := range []Entry{session("reader", "trefoil", "client-backend", "10.1.2.3", "-"), session("chen", "psql", "client-backend", "10.2.0.1", "c0ffee"),
		session("standby", "other", "walsender", "10.3.0.9", "-"), {Topic: "replication", Name: "user=standby application=other address=10.3.0.9"},
		{Topic: "base-backup", Name: "user=standby address=10.3.0.9"}} {
		if !c.peer(ok) {
			t.Errorf("not let through: %+v", ok)
		}
	}
	for _, bad := range []Entry{session("reader", "psql", "client-backend", "10.1.2.3", "-"), session("reader", "trefoil", "client-backend", "10.9.2.3", "-"),
		session("reader", "trefoil", "client-backend", "local", "-"), session("chen", "psql", "client-backend", "10.2.0.1", "-"),
		session("mole", "psql", "client-backend", "10.2.0.1", "c0ffee"), session("@principals", "psql", "client-backend", "10.2.0.1", "c0ffee"),
		session("standby", "other", "client-backend", "10.3.0.9", "-"), {Topic: "replication", Name: "user=standby application=other address=10.3.0.8"},
		{Topic: "base-backup", Name: "user=backup address=10.3.0.9"}, {Topic: "session", Name: ""}} {
		if c.peer(bad) {
			t.Errorf("let through: %+v", bad)
		}
	}
	for _, bad := range []string{"", "  ", "user=a more=b", "more=b"} {
		if _, err := Session(bad); err == nil {
			t.Errorf("a peer: %q", bad)
		}
	}
}

func TestAShapeCountsOnlyWhenItIsSeenTwice(t *testing.T) {
	shape := func(name string) Difference { return Difference{Topic: "column", Name: name, shape: true} }
	plain := func(name string) Difference { return Difference{Topic: "session", Name: name} }
	got := confirmed([]Difference{shape("swap"), shape("stays"), plain("short")}, []Difference{shape("stays"), shape("new"), plain("later"), plain("short")})
	var names []string
	for _, d := range got {
		names = append(names, d.Name)
	}
	if strings.Join(names, " ") != "stays short later" {
		t.Errorf("kept %v", names)
	}
}

const goodSettings = "version: 1\nofficers: []\ntargets:\n  - {name: a, kind: source, dsn: 'postgres://trefoil_probe@h/app'}\n  - {name: b, kind: datasets, cluster: inside, dsn: 'postgres://trefoil_probe@h/postgres', password: keys/probe}\n"

func TestSettingsAreStrict(t *testing.T) {
	if _, err := ParseSettings("probe.yaml", []byte(goodSettings)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "version: 1\n", strings.Replace(goodSettings, "trefoil_probe@h/app", "trefoil_probe:hidden@h/app", 1), strings.Replace(goodSettings, "name: b", "name: a", 1),
		strings.Replace(goodSettings, "cluster: inside, ", "", 1), strings.Replace(goodSettings, "kind: source", "kind: source, cluster: inside", 1), goodSettings + "every: 1h\n",
		goodSettings + "unknown: 1\n", strings.Replace(goodSettings, "officers: []", "officers: [none]", 1)} {
		_, err := ParseSettings("probe.yaml", []byte(bad))
		if err == nil {
			t.Errorf("accepted: %s", bad)
		} else if strings.Contains(err.Error(), "hidden") {
			t.Error("the error holds a password")
		}
	}
}

func TestInitMakesWhatTheSettingsReadAndReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	v, err := Init(dir)
	if err != nil || !strings.HasPrefix(v, "SCRAM-SHA-256$4096:") {
		t.Fatalf("%q %v", v, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, PasswordFile))
	if err != nil || strings.Contains(v, strings.TrimSpace(string(raw))) || len(raw) < 40 {
		t.Errorf("the password is %d bytes: %v", len(raw), err)
	}
	if _, err := Init(dir); err == nil {
		t.Error("made twice")
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(goodSettings))
	f.Add([]byte("version: 1\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		if s, err := ParseSettings("probe.yaml", src); err == nil && (s == nil || len(s.Targets) == 0 || s.every() <= 0) {
			t.Error("accepted settings that are none")
		}
	})
}

func FuzzOpenEnrolment(f *testing.F) {
	officer, vkey := key(f, "officer")
	text, err := Sign(enrolment(3), officer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(text))
	f.Add([]byte(enrolmentHead + "\n{}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if e, err := OpenEnrolment(raw, []string{vkey}); err == nil && (e.Number != 3 || e.By != "officer") {
			t.Error("an enrolment that nobody signed is in force")
		}
	})
}

// FuzzFacts compares what a hostile server answers: names of any bytes make differences, never a panic.
func FuzzFacts(f *testing.F) {
	f.Add("session", "user=a database=b", "1", "relation", "public", "t", "c", "r partition of public.t")
	f.Add("member", "a in b in c", "admin", "column", "trefoil_old_1", "", "", "")
	f.Fuzz(func(t *testing.T, topic, name, value, kind, schema, object, part, detail string) {
		s := &State{Facts: []Fact{{topic, name, value}}, Databases: map[string]*Contents{"d": {Owner: ownerRole, Objects: []Object{{kind, schema, object, part, detail}}}}}
		defined := map[string][]*trefoil.Definition{"d": {{Name: "d", Columns: []trefoil.DefinedColumn{{Table: "public.t", Column: "c", Type: "text"}}}}}
		if out := compare(&Target{Name: "x", Kind: KindDatasets}, &Enrolled{}, s, defined); len(out) == 0 && kind == "trigger" {
			t.Error("a trigger is no difference")
		}
	})
}
