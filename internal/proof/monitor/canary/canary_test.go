package canary

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// told is what an honest log says of a session with two chunks, 30 rows and 5,000 bytes.
func told(change func([]Record)) []Record {
	access := trefoil.Access{Principal: "pseudonym", Session: strings.Repeat("a", 32)}
	body := func(at time.Duration, b trefoil.Body) *trefoil.Body {
		b.At = noon.Add(at)
		return &b
	}
	all := []Record{
		{"log", 7, body(time.Second, trefoil.Body{Session: &trefoil.SessionBody{Event: "start", Access: access}})},
		{"log", 8, body(2*time.Second, trefoil.Body{Release: &trefoil.ReleaseBody{Access: access, Rows: 10, Bytes: 2000}})},
		{"log", 9, body(3*time.Second, trefoil.Body{Release: &trefoil.ReleaseBody{Access: access, Rows: 20, Bytes: 2500}})},
		{"log", 10, body(4*time.Second, trefoil.Body{Session: &trefoil.SessionBody{Event: "end", Access: access, Released: 4500, Covered: 100, Fixed: 400}})},
	}
	if change != nil {
		change(all)
	}
	return all
}

func got() *Got {
	return &Got{Principal: "canary-1", From: noon, To: noon.Add(5 * time.Second), Rows: 30, Bytes: 5000}
}

func TestAnHonestLogTellsACanarysSession(t *testing.T) {
	found, err := Compare(got(), told(nil), []string{"other", "pseudonym"}, time.Minute)
	if err != nil || len(found) > 0 {
		t.Errorf("%v %+v", err, found)
	}
}

func TestUnderCountingIsFound(t *testing.T) {
	second := told(nil)
	extra := told(func(r []Record) {
		for i := range r {
			b := *r[i].Body
			switch {
			case b.Session != nil:
				s := *b.Session
				s.Access.Session = strings.Repeat("b", 32)
				b.Session = &s
			case b.Release != nil:
				s := *b.Release
				s.Access.Session = strings.Repeat("b", 32)
				b.Release = &s
			}
			r[i].Body = &b
		}
	})
	for _, c := range []struct {
		what, rule string
		records    []Record
		err        error
	}{
		{"fewer rows than it got", "canary-rows", told(func(r []Record) { r[2].Body.Release.Rows = 1 }), nil},
		{"a chunk without a record", "canary-rows", append(told(nil)[:1], told(nil)[2:]...), nil},
		{"fewer bytes than it got", "canary-bytes", told(func(r []Record) { r[3].Body.Session.Released = 3500 }), nil},
		{"more bytes than it got", "canary-bytes", told(func(r []Record) { r[3].Body.Session.Fixed = 4000 }), nil},
		{"a session that the monitor did not make", "canary-used", append(second, extra...), nil},
		{"no record at all", "canary-untold", nil, ErrNotYet},
		{"somebody else's records", "canary-untold", told(func(r []Record) { r[0].Body.Session.Access.Principal = "another" }), ErrNotYet},
		{"a session of another day", "canary-untold", told(func(r []Record) { r[0].Body.At = noon.Add(-24 * time.Hour) }), ErrNotYet},
	} {
		found, err := Compare(got(), c.records, []string{"pseudonym"}, time.Minute)
		if !errors.Is(err, c.err) || len(found) == 0 || found[0].Rule != c.rule {
			t.Errorf("%s: %v %+v", c.what, err, found)
		}
	}
	if _, err := Compare(got(), told(nil)[:3], []string{"pseudonym"}, time.Minute); !errors.Is(err, ErrNotYet) {
		t.Errorf("a session that has not ended: %v", err)
	}
}

func TestSettingsHoldNoPassword(t *testing.T) {
	const ok = "version: 1\naccounts:\n  - {principal: c, dsn: 'postgres://c@gateway/analytics', password: keys/c, statements: ['SELECT 1']}\n"
	if _, err := Parse("canary.yaml", []byte(ok)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "version: 2\n", strings.Replace(ok, "c@gateway", "c:hidden@gateway", 1), strings.Replace(ok, "['SELECT 1']", "[]", 1),
		strings.Replace(ok, "principal: c", "principal: ''", 1), ok + "unknown: 1\n"} {
		_, err := Parse("canary.yaml", []byte(bad))
		if err == nil {
			t.Errorf("accepted: %q", bad)
		} else if strings.Contains(err.Error(), "hidden") {
			t.Error("the error holds the password")
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("version: 1\naccounts:\n  - {principal: c, dsn: 'postgres://c@gateway/analytics', password: keys/c, statements: ['SELECT 1']}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := Parse("canary.yaml", src)
		if err == nil && (s == nil || len(s.Accounts) == 0) {
			t.Error("accepted canaries that are none")
		}
	})
}
