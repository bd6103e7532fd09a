package grant

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func testRequest() Request {
	return Request{Dataset: "support", Definition: strings.Repeat("d", 64), From: now, ID: strings.Repeat("1", 32),
		Policy: strings.Repeat("a", 64), Principal: "yuki", Purpose: "support", Reason: ReasonHash(make([]byte, 16), "ticket 7"), Until: now.Add(time.Hour)}
}

func testKey(t testing.TB, name string) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func TestCheck(t *testing.T) {
	dpo, dpoKey := testKey(t, "dpo")
	_, otherKey := testKey(t, "other")
	stranger, _ := testKey(t, "dpo")
	approvers := []Approver{{Name: "other", Verifier: otherKey, Purposes: []string{"*"}}, {Name: "dpo", Verifier: dpoKey, Purposes: []string{"support"}}}
	sign := func(kind Kind, r Request, by string, s note.Signer) string {
		t.Helper()
		text, err := Sign(New(kind, r, by, now), s)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	r := testRequest()
	good := sign(KindApproval, r, "dpo", dpo)
	later := r
	later.From = now.Add(time.Minute)
	elsewhere := r
	elsewhere.Purpose = "marketing"
	for _, c := range []struct {
		name     string
		approval string
		at       time.Time
		want     error
	}{
		{"good", good, now, nil},
		{"last second", good, now.Add(time.Hour - time.Second), nil},
		{"expired", good, now.Add(time.Hour), ErrExpired},
		{"not yet", sign(KindApproval, later, "dpo", dpo), now, ErrNotYet},
		{"unknown key of the same name", sign(KindApproval, r, "dpo", stranger), now, ErrUnknownKey},
		{"another approver's name", sign(KindApproval, r, "other", dpo), now, ErrUnknownKey},
		{"denial", sign(KindDenial, r, "dpo", dpo), now, ErrKind},
		{"revocation", sign(KindRevocation, r, "dpo", dpo), now, ErrKind},
		{"purpose not theirs", sign(KindApproval, elsewhere, "dpo", dpo), now, ErrPurpose},
		{"altered text", strings.Replace(good, "yuki", "chen", 1), now, ErrUnknownKey},
		{"longer term", strings.Replace(good, "T13:00:00Z", "T23:00:00Z", 1), now, ErrUnknownKey},
		{"no signature", good[:strings.Index(good, "\n\n")+1], now, ErrUnknownKey},
		{"empty", "", now, ErrUnknownKey},
		{"huge", strings.Repeat("a", MaxSize+1), now, ErrMalformed},
	} {
		if err := Check(c.approval, approvers, "yuki", "support", r.Definition, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	for name, ask := range map[string][3]string{
		"another principal":  {"chen", "support", r.Definition},
		"another dataset":    {"yuki", "abuse", r.Definition},
		"another definition": {"yuki", "support", strings.Repeat("e", 64)},
	} {
		if err := Check(good, approvers, ask[0], ask[1], ask[2], now); !errors.Is(err, ErrAltered) {
			t.Errorf("%s: %v, want %v", name, err, ErrAltered)
		}
	}
	if err := Check(good, nil, "yuki", "support", r.Definition, now); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("no approvers: %v, want %v", err, ErrUnknownKey)
	}
}

// TestSelfApproval: neither the tool nor a hand-made note lets a principal approve for themselves.
func TestSelfApproval(t *testing.T) {
	self, key := testKey(t, "yuki")
	e := New(KindApproval, testRequest(), "yuki", now)
	if _, err := Sign(e, self); !errors.Is(err, ErrSelf) {
		t.Errorf("Sign: %v, want %v", err, ErrSelf)
	}
	for _, by := range []string{"yuki", "boss"} { // a key called yuki registered under another name
		text, err := New(KindApproval, testRequest(), by, now).Text()
		if err != nil {
			t.Fatal(err)
		}
		signed, err := note.Sign(&note.Note{Text: text}, self)
		if err != nil {
			t.Fatal(err)
		}
		approvers := []Approver{{Name: by, Verifier: key, Purposes: []string{"*"}}}
		if err := Check(string(signed), approvers, "yuki", "support", testRequest().Definition, now); !errors.Is(err, ErrSelf) {
			t.Errorf("by %s: %v, want %v", by, err, ErrSelf)
		}
	}
}

// TestSelfApprovalUnderAnotherName: the approver's key and name have nothing of the
// principal's, and it is the same person all the same.
func TestSelfApprovalUnderAnotherName(t *testing.T) {
	boss, key := testKey(t, "k-2026")
	signed, err := Sign(New(KindApproval, testRequest(), "privacy-desk", now), boss)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		persons []string
		want    error
	}{{nil, nil}, {[]string{"chen"}, nil}, {[]string{"chen", "yuki"}, ErrSelf}} {
		approvers := []Approver{{Name: "privacy-desk", Verifier: key, Purposes: []string{"*"}, Persons: c.persons}}
		if err := Check(signed, approvers, "yuki", "support", testRequest().Definition, now); !errors.Is(err, c.want) {
			t.Errorf("persons %v: %v, want %v", c.persons, err, c.want)
		}
	}
}

// TestApprovalOfAnAlteredRequest: every field of the request is in what the approver signed.
func TestApprovalOfAnAlteredRequest(t *testing.T) {
	dpo, key := testKey(t, "dpo")
	r := testRequest()
	text, err := Sign(New(KindApproval, r, "dpo", now), dpo)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(text, []Approver{{Name: "dpo", Verifier: key}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckAnswers(r); err != nil {
		t.Errorf("the request itself: %v", err)
	}
	for name, alter := range map[string]func(*Request){
		"dataset":    func(r *Request) { r.Dataset = "abuse" },
		"definition": func(r *Request) { r.Definition = strings.Repeat("e", 64) },
		"from":       func(r *Request) { r.From = r.From.Add(-time.Second) },
		"id":         func(r *Request) { r.ID = strings.Repeat("2", 32) },
		"policy":     func(r *Request) { r.Policy = strings.Repeat("b", 64) },
		"principal":  func(r *Request) { r.Principal = "chen" },
		"purpose":    func(r *Request) { r.Purpose = "marketing" },
		"reason":     func(r *Request) { r.Reason = strings.Repeat("c", 64) },
		"until":      func(r *Request) { r.Until = r.Until.Add(time.Second) },
	} {
		other := r
		alter(&other)
		if err := s.CheckAnswers(other); !errors.Is(err, ErrAltered) {
			t.Errorf("%s: %v, want %v", name, err, ErrAltered)
		}
		// An envelope whose hash is not its request's cannot be made, nor read.
		e := New(KindApproval, r, "dpo", now)
		e.Request = other
		if _, err := e.Text(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Text: %v, want %v", name, err, ErrMalformed)
		}
	}
}

func TestOneEncoding(t *testing.T) {
	e := New(KindRequest, testRequest(), "yuki", now)
	text, err := e.Text()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseText(text)
	if err != nil || got != e {
		t.Fatalf("ParseText = %+v, %v; want %+v", got, err, e)
	}
	for name, other := range map[string]string{
		"white space":   strings.Replace(text, `":"`, `": "`, 1),
		"another order": strings.Replace(text, `"at":"2026-11-20T12:00:00Z","by":"yuki"`, `"by":"yuki","at":"2026-11-20T12:00:00Z"`, 1),
		"unknown key":   strings.Replace(text, `"by"`, `"extra":1,"by"`, 1),
		"key twice":     strings.Replace(text, `"by":"yuki"`, `"by":"yuki","by":"yuki"`, 1),
		"another case":  strings.Replace(text, `"by"`, `"By"`, 1),
		"zone":          strings.Replace(text, `"at":"2026-11-20T12:00:00Z"`, `"at":"2026-11-20T13:00:00+01:00"`, 1),
		"fraction":      strings.Replace(text, `"at":"2026-11-20T12:00:00Z"`, `"at":"2026-11-20T12:00:00.5Z"`, 1),
		"header":        strings.Replace(text, "/v1", "/v2", 1),
		"trailing":      text + "x\n",
		"escape":        strings.Replace(text, "yuki", `\u0079uki`, 1),
	} {
		if other == text {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := ParseText(other); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want %v", name, err, ErrMalformed)
		}
	}
}

func TestInvalidRequests(t *testing.T) {
	for name, alter := range map[string]func(*Request){
		"no dataset":     func(r *Request) { r.Dataset = "" },
		"line break":     func(r *Request) { r.Principal = "a\nb" },
		"space":          func(r *Request) { r.Purpose = "a b" },
		"not a hash":     func(r *Request) { r.Definition = "abc" },
		"capital hash":   func(r *Request) { r.Reason = strings.Repeat("A", 64) },
		"no term":        func(r *Request) { r.Until = r.From },
		"endless":        func(r *Request) { r.Until = r.From.Add(MaxTerm + time.Second) },
		"short id":       func(r *Request) { r.ID = "1" },
		"zero time":      func(r *Request) { r.From, r.Until = time.Time{}, time.Time{}.Add(time.Hour) },
		"far in future":  func(r *Request) { r.Until = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"long principal": func(r *Request) { r.Principal = strings.Repeat("p", 257) },
	} {
		r := testRequest()
		alter(&r)
		if _, err := New(KindApproval, r, "dpo", now).Text(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want %v", name, err, ErrMalformed)
		}
	}
	if _, err := New(KindRequest, testRequest(), "chen", now).Text(); !errors.Is(err, ErrMalformed) {
		t.Errorf("a request in another's name: %v, want %v", err, ErrMalformed)
	}
	if _, err := New("order", testRequest(), "dpo", now).Text(); !errors.Is(err, ErrMalformed) {
		t.Errorf("unknown kind: %v, want %v", err, ErrMalformed)
	}
}

func FuzzParseText(f *testing.F) {
	text, err := New(KindApproval, testRequest(), "dpo", now).Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(Header + "\n{}\n")
	f.Add(Header + "\nnull\n")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseText(text)
		if err != nil {
			return
		}
		again, err := e.Text()
		if err != nil || again != text {
			t.Errorf("%q is read, and written as %q, %v", text, again, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	dpo, key := testKey(f, "dpo")
	good, err := Sign(New(KindApproval, testRequest(), "dpo", now), dpo)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	text, _, _ := strings.Cut(good, "\n\n")
	f.Fuzz(func(t *testing.T, signed string) {
		if s, err := Open(signed, []Approver{{Name: "dpo", Verifier: key}}); err == nil && !strings.HasPrefix(signed, text) {
			t.Errorf("opened %q as %+v", signed, s.Envelope)
		}
	})
}
