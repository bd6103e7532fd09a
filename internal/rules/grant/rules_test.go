package grant

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// desk is a book with signers.
type desk struct {
	t       *testing.T
	book    Book
	signers map[string]note.Signer
}

func newDesk(t *testing.T, names ...string) *desk {
	d := &desk{t: t, signers: map[string]note.Signer{}}
	for _, n := range names {
		d.add(n)
	}
	return d
}

func (d *desk) add(name string, persons ...string) {
	s, v := testKey(d.t, name)
	d.signers[name] = s
	d.book.Approvers = append(d.book.Approvers, Approver{Name: name, Verifier: v, Purposes: []string{"support"}, Persons: persons})
}

func (d *desk) sign(kind Kind, r Request, by string) string {
	d.t.Helper()
	text, err := Sign(New(kind, r, by, now), d.signers[by])
	if err != nil {
		d.t.Fatal(err)
	}
	return text
}

func (d *desk) approvals(r Request, by ...string) (out []string) {
	for _, b := range by {
		out = append(out, d.sign(KindApproval, r, b))
	}
	return out
}

func group(count int, of ...string) Group { return Group{Name: of[0], Of: of, Count: count} }

func TestWhoHasToApprove(t *testing.T) {
	privacy, security, board := group(1, "dpo", "deputy"), group(1, "ciso", "soc"), group(2, "ceo", "coo", "cfo")
	for name, c := range map[string]struct {
		rules   []Rule
		outside bool
		by      string
		missing string // "" = granted
	}{
		"no rule, one":                  {nil, true, "soc", ""},
		"no rule, none":                 {nil, true, "", "1 of the approvers"},
		"all of two, both":              {[]Rule{{Purposes: []string{"support"}, AllOf: []Group{privacy, security}}}, false, "dpo ciso", ""},
		"all of two, the other order":   {[]Rule{{Purposes: []string{"support"}, AllOf: []Group{privacy, security}}}, false, "soc deputy", ""},
		"all of two, twice one group":   {[]Rule{{Purposes: []string{"support"}, AllOf: []Group{privacy, security}}}, false, "dpo deputy", "1 of ciso (ciso, soc)"},
		"all of two, one":               {[]Rule{{Purposes: []string{"*"}, AllOf: []Group{privacy, security}}}, false, "soc", "1 of dpo (dpo, deputy)"},
		"four eyes, two":                {[]Rule{{Purposes: []string{"*"}, AllOf: []Group{board}}}, false, "cfo ceo", ""},
		"four eyes, one":                {[]Rule{{Purposes: []string{"*"}, AllOf: []Group{board}}}, false, "cfo", "1 of ceo (ceo, coo, cfo)"},
		"four eyes, the same twice":     {[]Rule{{Purposes: []string{"*"}, AllOf: []Group{board}}}, false, "cfo cfo", "1 of ceo (ceo, coo, cfo)"},
		"any of, the second":            {[]Rule{{Purposes: []string{"*"}, AnyOf: []Group{privacy, board}}}, false, "coo ceo", ""},
		"any of, none whole":            {[]Rule{{Purposes: []string{"*"}, AnyOf: []Group{privacy, board}}}, false, "coo", "1 of dpo (dpo, deputy) or 1 of ceo (ceo, coo, cfo)"},
		"all and any":                   {[]Rule{{Purposes: []string{"*"}, AllOf: []Group{security}, AnyOf: []Group{privacy, board}}}, false, "soc dpo", ""},
		"one person for one group":      {[]Rule{{Purposes: []string{"*"}, AllOf: []Group{group(1, "dpo", "ciso"), group(1, "dpo")}}}, false, "dpo", "1 of dpo (dpo)"},
		"moved to make room":            {[]Rule{{Purposes: []string{"*"}, AllOf: []Group{group(1, "dpo", "ciso"), group(1, "dpo")}}}, false, "dpo ciso", ""},
		"rules of another purpose":      {[]Rule{{Purposes: []string{"abuse"}, AllOf: []Group{board}}}, false, "soc", ""},
		"two rules, one held":           {[]Rule{{Purposes: []string{"*"}, AllOf: []Group{privacy}}, {Purposes: []string{"support"}, AllOf: []Group{security}}}, false, "dpo", "1 of ciso (ciso, soc)"},
		"transfer, inside":              {[]Rule{{Purposes: []string{"*"}, Outside: true, AllOf: []Group{board}}}, false, "dpo", ""},
		"transfer, outside":             {[]Rule{{Purposes: []string{"*"}, Outside: true, AllOf: []Group{board}}}, true, "dpo", "2 of ceo (ceo, coo, cfo)"},
		"transfer alone is not enough":  {[]Rule{{Purposes: []string{"*"}, Outside: true, AllOf: []Group{group(1, "ceo")}}}, true, "", "1 of ceo (ceo)"},
		"a rule without groups is held": {[]Rule{{Purposes: []string{"*"}}}, false, "dpo ciso ceo", "1 of nobody ()"},
	} {
		d := newDesk(t, "dpo", "deputy", "ciso", "soc", "ceo", "coo", "cfo")
		d.book.Rules = c.rules
		r := testRequest()
		s := d.book.Weigh(r, d.approvals(r, strings.Fields(c.by)...), c.outside, now)
		err := s.Held()
		switch {
		case c.missing == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.missing != "" && (!errors.Is(err, ErrMissing) || len(s.Missing) == 0 || !strings.HasPrefix(s.Missing[0].String(), c.missing)):
			t.Errorf("%s: %v, missing %v; want %s", name, err, s.Missing, c.missing)
		}
	}
}

// TestFourEyesOfOnePerson: two names, two keys, one person.
func TestFourEyesOfOnePerson(t *testing.T) {
	r := testRequest()
	for name, make := range map[string]func(d *desk){
		"a principal of both":  func(d *desk) { d.add("a", "chen"); d.add("b", "li", "chen") },
		"one is the other's":   func(d *desk) { d.add("a"); d.add("b", "a") },
		"through a third name": func(d *desk) { d.add("a", "x"); d.add("b", "y"); d.add("c", "x", "y") },
		"one key":              func(d *desk) { d.add("a"); d.add("b"); d.book.Approvers[1].Verifier = d.book.Approvers[0].Verifier },
	} {
		d := newDesk(t)
		make(d)
		d.book.Rules = []Rule{{Purposes: []string{"*"}, AllOf: []Group{group(2, "a", "b")}}}
		var notes []string
		for _, by := range []string{"a", "b"} {
			text, err := Sign(New(KindApproval, r, by, now), d.signers[by])
			if err != nil {
				t.Fatal(err)
			}
			notes = append(notes, text)
		}
		if err := d.book.Weigh(r, notes, false, now).Held(); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: %v, want %v", name, err, ErrMissing)
		}
		if len(d.book.Faults()) == 0 {
			t.Errorf("%s: no fault is found in a rule that one person would satisfy", name)
		}
	}
	d := newDesk(t, "a", "b")
	d.book.Rules = []Rule{{Purposes: []string{"*"}, AllOf: []Group{group(2, "a", "b")}}}
	if err := d.book.Weigh(r, d.approvals(r, "a", "b"), false, now).Held(); err != nil || len(d.book.Faults()) != 0 {
		t.Errorf("two persons: %v, faults %v", err, d.book.Faults())
	}
}

// TestSelfApprovalByAnotherKey: the principal is one of the two approvers, by another name.
func TestSelfApprovalByAnotherKey(t *testing.T) {
	d, r := newDesk(t, "dpo"), testRequest()
	d.add("night-desk", "yuki")
	d.book.Rules = []Rule{{Purposes: []string{"*"}, AllOf: []Group{group(2, "dpo", "night-desk")}}}
	s := d.book.Weigh(r, d.approvals(r, "dpo", "night-desk"), false, now)
	if err := s.Held(); !errors.Is(err, ErrMissing) || !errors.Is(err, ErrSelf) || len(s.Approvals) != 1 {
		t.Errorf("%v with %d approvals", err, len(s.Approvals))
	}
}

// TestApprovalsThatDoNotAddUp: of an altered request, of another one, after a denial, and in
// whatever order they come.
func TestApprovalsThatDoNotAddUp(t *testing.T) {
	d, r := newDesk(t, "dpo", "ciso"), testRequest()
	d.book.Rules = []Rule{{Purposes: []string{"*"}, AllOf: []Group{group(2, "dpo", "ciso")}}}
	longer, wider, freer := r, r, r
	longer.Until = r.Until.Add(time.Hour)
	wider.Subjects = strings.Repeat("5", 32)
	freer.Statement = strings.Repeat("5", 16)
	mine := d.sign(KindApproval, r, "dpo")
	for name, c := range map[string]struct {
		with []string
		want error
	}{
		"altered term":      {[]string{d.sign(KindApproval, longer, "ciso")}, ErrAltered},
		"altered subjects":  {[]string{d.sign(KindApproval, wider, "ciso")}, ErrAltered},
		"altered statement": {[]string{d.sign(KindApproval, freer, "ciso")}, ErrAltered},
		"denied, approved":  {[]string{d.sign(KindDenial, r, "ciso"), d.sign(KindApproval, r, "ciso")}, ErrDenied},
		"approved, denied":  {[]string{d.sign(KindApproval, r, "ciso"), d.sign(KindDenial, r, "ciso")}, ErrDenied},
		"revoked":           {[]string{d.sign(KindApproval, r, "ciso"), d.sign(KindRevocation, r, "dpo")}, ErrRevoked},
		"not a note":        {[]string{"ciso says yes"}, ErrMissing},
	} {
		for _, answers := range [][]string{append([]string{mine}, c.with...), append(c.with, mine)} {
			if err := d.book.Weigh(r, answers, false, now).Held(); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
	}
	if err := d.book.Weigh(r, d.approvals(r, "ciso", "dpo"), false, r.Until).Held(); !errors.Is(err, ErrExpired) {
		t.Errorf("at its end: %v", err)
	}
	if err := new(Standing).Held(); err == nil {
		t.Error("the zero value is a grant")
	}
}

// TestApprovalByARetiredKey: also one that is dated back.
func TestApprovalByARetiredKey(t *testing.T) {
	d, r := newDesk(t, "dpo"), testRequest()
	old := &d.book.Approvers[0]
	text := d.sign(KindApproval, r, "dpo")
	for name, c := range map[string]struct {
		from, until time.Time
		want        error
	}{
		"in use":                 {now.Add(-time.Hour), now.Add(time.Hour), nil},
		"retired before it":      {time.Time{}, now.Add(-time.Minute), ErrRetired},
		"retired since":          {time.Time{}, now, ErrRetired},
		"not in use yet":         {now.Add(time.Second), time.Time{}, ErrRetired},
		"without bound of time":  {time.Time{}, time.Time{}, nil},
		"in use from the moment": {now, time.Time{}, nil},
	} {
		old.From, old.Until = c.from, c.until
		if err := d.book.Weigh(r, []string{text}, false, now).Held(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// The same person goes on with a new key, and counts once.
	old.From, old.Until = time.Time{}, now.Add(time.Hour)
	d.add("dpo")
	d.book.Rules = []Rule{{Purposes: []string{"*"}, AllOf: []Group{{Name: "two", Of: []string{"dpo"}, Count: 2}}}}
	both := append([]string{text}, d.sign(KindApproval, r, "dpo"))
	if err := d.book.Weigh(r, both, false, now).Held(); !errors.Is(err, ErrMissing) {
		t.Errorf("one person with an old and a new key: %v", err)
	}
	// What a retired key revoked stays revoked.
	d.book.Rules = nil
	revoked := d.sign(KindRevocation, r, "dpo")
	d.book.Approvers[1].Until = now.Add(-time.Hour)
	if err := d.book.Weigh(r, []string{text, revoked}, false, now).Held(); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revocation by a key retired since: %v", err)
	}
}

// TestClockSetBackApprovals: what was signed after "now" is not signed yet.
func TestClockSetBackApprovals(t *testing.T) {
	d, r := newDesk(t, "dpo"), testRequest()
	r.From = now.Add(-24 * time.Hour)
	text := d.sign(KindApproval, r, "dpo")
	if err := d.book.Weigh(r, []string{text}, false, now.Add(-maxSkew-time.Second)).Held(); !errors.Is(err, ErrNotYet) {
		t.Errorf("an approval of the future: %v", err)
	}
	if err := d.book.Weigh(r, []string{text}, false, now.Add(-time.Minute)).Held(); err != nil {
		t.Errorf("a clock that is a minute behind the approver's: %v", err)
	}
}

func TestFaults(t *testing.T) {
	d := newDesk(t, "dpo", "ciso")
	d.book.Rules = []Rule{
		{Purposes: []string{"*"}, AllOf: []Group{group(1, "dpo")}},
		{AllOf: []Group{{Of: []string{"dpo"}}}, AnyOf: []Group{group(3, "dpo", "ciso")}},
		{Purposes: []string{"x"}, AllOf: []Group{group(1, "dpo", "stranger"), {Name: "none"}}},
		{Purposes: []string{"x"}},
	}
	got := ""
	for _, f := range d.book.Faults() {
		got += fmt.Sprintln(f.Path, f.Text)
	}
	want := `[1].all_of[0].group is missing: what the group is called
[1].any_of[0].count asks for 3 different persons of 2
[1].purposes names no purpose; "*" is every one
[2].all_of[0].of "stranger" is not one of the approvers
[2].all_of[1].count asks for 1 different persons of 0
[3] has no group: nobody could satisfy it
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTerms(t *testing.T) {
	for _, c := range [][2]string{{"yesterday", ""}, {"", "2026-13-01"}, {"2026-02-01", "2026-01-01"}, {"2026-02-01", "2026-02-01"}} {
		if _, _, err := ParseTerm(c[0], c[1]); err == nil {
			t.Errorf("%v was taken", c)
		}
	}
	from, until, err := ParseTerm("2026-01-31", "2026-06-01T12:00:00+02:00")
	if err != nil || !from.Equal(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)) || !until.Equal(time.Date(2026, 6, 1, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("%v %v %v", from, until, err)
	}
}

func TestCalls(t *testing.T) {
	s, v := testKey(t, "dpo")
	_, other := testKey(t, "dpo")
	c := NewCall("example.eu/log", "POST", "/grants?limit=1", strings.Repeat("a", 32), []byte("{}"), now)
	value, err := SignCall(c, s)
	if err != nil {
		t.Fatal(err)
	}
	got, who, err := OpenCall(value, []note.Verifier{other, v})
	if err != nil || who != 1 || got != c {
		t.Fatalf("%+v %d %v, want %+v", got, who, err, c)
	}
	for name, bad := range map[string]string{"empty": "", "not base64": value[1:], "cut": value[:len(value)-8], "large": strings.Repeat("A", maxCall+4), "white space": value + "\n"} {
		if _, _, err := OpenCall(bad, []note.Verifier{v}); !errors.Is(err, ErrCall) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := OpenCall(value, []note.Verifier{other}); !errors.Is(err, ErrCall) {
		t.Errorf("another key: %v", err)
	}
	for name, c := range map[string]Call{
		"a line break in the path": NewCall("a", "GET", "/x\nb", c.Nonce, nil, now),
		"no nonce":                 NewCall("a", "GET", "/x", "", nil, now),
		"no audience":              NewCall("", "GET", "/x", c.Nonce, nil, now),
	} {
		if _, err := SignCall(c, s); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func FuzzOpenCall(f *testing.F) {
	s, v := testKey(f, "dpo")
	value, err := SignCall(NewCall("example.eu/log", "GET", "/grants", strings.Repeat("a", 32), nil, now), s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add("")
	f.Fuzz(func(t *testing.T, in string) {
		if c, _, err := OpenCall(in, []note.Verifier{v}); err == nil && (c.Path != "/grants" || c.Method != "GET") {
			t.Errorf("%q opened as %+v", in, c)
		}
	})
}
