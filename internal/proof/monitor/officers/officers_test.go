package officers

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

var now = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)

func key(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func stopAll(t testing.TB) Order {
	t.Helper()
	o, err := New(Stop, "monitor.example", "drill", now)
	if err != nil {
		t.Fatal(err)
	}
	o.Scope = &Scope{All: true}
	return o
}

// TestOneKeyUnderTwoNames: a key stands for one officer, and for nothing else.
func TestOneKeyUnderTwoNames(t *testing.T) {
	_, ada := key(t, "ada")
	_, other := key(t, "log.example")
	renamed := "ben" + ada[strings.Index(ada, "+"):]
	list := []Officer{{Name: "ada", Person: "Ada", Key: ada}}
	if _, err := NewRoster(list, other); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]Officer{
		"the same key twice":      {list[0], {Name: "ben", Person: "Ben", Key: ada}},
		"the same key, renamed":   {list[0], {Name: "ben", Person: "Ben", Key: renamed}},
		"a name twice":            {list[0], {Name: "ada", Person: "Ben", Key: other}},
		"nobody's key":            {{Name: "ada", Key: ada}},
		"a person of white space": {{Name: "ada", Person: " ", Key: ada}},
		"a key of another use":    {{Name: "ben", Person: "Ben", Key: other}},
		"no key":                  {{Name: "ben", Person: "Ben", Key: "x"}},
	} {
		if _, err := NewRoster(bad, other); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestSignaturesCountByPerson(t *testing.T) {
	ada, adaKey := key(t, "ada")
	again, againKey := key(t, "a.quinn")
	ben, benKey := key(t, "ben")
	stranger, _ := key(t, "ben")
	r, err := NewRoster([]Officer{{"ada", "Ada Quinn", adaKey}, {"a.quinn", "ada quinn ", againKey}, {"ben", "Ben", benKey}})
	if err != nil || r.Persons() != 2 {
		t.Fatalf("%d persons, %v", r.Persons(), err)
	}
	for _, c := range []struct {
		by   []note.Signer
		want int
	}{{[]note.Signer{ada}, 1}, {[]note.Signer{ada, again}, 1}, {[]note.Signer{ada, ada}, 1}, {[]note.Signer{ada, ben}, 2},
		{[]note.Signer{again, ben, ada}, 2}, {[]note.Signer{stranger, ada}, 1}, {[]note.Signer{stranger}, 0}} {
		text, err := Sign(stopAll(t), c.by[0])
		for _, s := range c.by[1:] {
			if err == nil {
				text, _, err = Second(text, s)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Open(text, "monitor.example", now)
		if c.want == 0 {
			if !errors.Is(err, ErrUnsigned) {
				t.Errorf("%v, want %v", err, ErrUnsigned)
			}
			continue
		}
		if err != nil || len(s.Officers) != c.want {
			t.Errorf("%d signatures: %v, %v; want %d persons", len(c.by), s, err, c.want)
		}
	}
	text, err := Sign(stopAll(t), ada)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		monitor string
		at      time.Time
		want    error
	}{"another monitor": {"monitor.other", now, ErrOther}, "too old": {"monitor.example", now.Add(Term + time.Second), ErrTime},
		"from the future": {"monitor.example", now.Add(-Ahead - time.Second), ErrTime}} {
		if _, err := r.Open(text, c.monitor, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := (&Roster{}).Open(text, "monitor.example", now); err == nil {
		t.Error("a roster of nobody takes orders")
	}
}

func TestOrdersThatAreNone(t *testing.T) {
	id, hash := strings.Repeat("1", 32), strings.Repeat("a", 64)
	for name, alter := range map[string]func(*Order){
		"no action":               func(o *Order) { o.Action = "" },
		"a stop of nothing":       func(o *Order) { o.Scope = &Scope{} },
		"a stop without a scope":  func(o *Order) { o.Scope = nil },
		"all and a part":          func(o *Order) { o.Scope.Countries = []string{"CN"} },
		"no country":              func(o *Order) { o.Scope = &Scope{Countries: []string{"China"}} },
		"a line break":            func(o *Order) { o.Reason = "a\nb" },
		"a reason of white space": func(o *Order) { o.Reason = "  " },
		"a long reason":           func(o *Order) { o.Reason = strings.Repeat("x", MaxReason+1) },
		"a fraction of a second":  func(o *Order) { o.At = o.At.Add(time.Millisecond) },
		"no monitor":              func(o *Order) { o.Monitor = "" },
		"a resume of nothing":     func(o *Order) { o.Action, o.Scope = Resume, nil },
		"a resume and a scope":    func(o *Order) { o.Action, o.Stops = Resume, []string{id} },
		"a stop with rules":       func(o *Order) { o.Rules = hash },
		"rules without a base":    func(o *Order) { o.Action, o.Scope, o.Rules = Rules, nil, hash },
		"acknowledges no hash":    func(o *Order) { o.Action, o.Scope, o.Dataset = Acknowledge, nil, "support" },
		"a stop's id":             func(o *Order) { o.Action, o.Scope, o.Stops = Resume, nil, []string{"all"} },
	} {
		o := stopAll(t)
		alter(&o)
		if _, err := o.Text(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want %v", name, err, ErrMalformed)
		}
	}
}

func TestOneEncoding(t *testing.T) {
	o := stopAll(t)
	o.Scope = &Scope{Countries: []string{"JP", "CN", "CN"}, Purposes: []string{"support"}}
	text, err := o.Text()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(text); err != nil || strings.Join(got.Scope.Countries, " ") != "CN JP" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, other := range map[string]string{"white space": strings.Replace(text, `":"`, `": "`, 1), "unsorted": strings.Replace(text, `["CN","JP"]`, `["JP","CN"]`, 1),
		"unknown key": strings.Replace(text, `"at"`, `"also":1,"at"`, 1), "twice": strings.Replace(text, `"at"`, `"at":"2026-11-22T06:00:00Z","at"`, 1),
		"header": strings.Replace(text, "/v1", "/v2", 1), "more": text + "{}\n"} {
		if other == text {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := Parse(other); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want %v", name, err, ErrMalformed)
		}
	}
}

func TestScopesCombine(t *testing.T) {
	both := &Scope{Countries: []string{"CN", "JP"}, Purposes: []string{"analytics"}}
	for _, c := range []struct {
		scope              *Scope
		principal, purpose string
		countries          []string
		want               bool
	}{
		{nil, "chen", "analytics", []string{"CN"}, false},
		{&Scope{}, "chen", "analytics", []string{"CN"}, true}, // no such order can be signed
		{&Scope{All: true}, "", "", nil, true},
		{both, "chen", "analytics", []string{"IE", "CN"}, true},
		{both, "chen", "support", []string{"CN"}, false},
		{both, "chen", "analytics", []string{"IE"}, false},
		{&Scope{Principals: []string{"chen"}}, "", "analytics", []string{"CN"}, false},
	} {
		if got := c.scope.Covers(c.principal, c.purpose, c.countries); got != c.want {
			t.Errorf("%+v covers %s, %s, %v: %v", c.scope, c.principal, c.purpose, c.countries, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := stopAll(f).Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(Header + "\n{}\n")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := o.Text(); err != nil || again != text {
			t.Errorf("%q is read and written as %q, %v", text, again, err)
		}
	})
}
