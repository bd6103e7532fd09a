package identity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdg-go/scram"
)

var tokenTime = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newToken(t *testing.T, d *Directory, principal string) (Token, string) {
	t.Helper()
	token, secret, err := d.NewToken(principal, "report", []string{"analytics"}, tokenTime, tokenTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return token, secret
}

// play runs SCRAM to the end and returns the login.
func play(t *testing.T, begin func(first string) (*Login, string, error), password string) (*Login, error) {
	t.Helper()
	c, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		t.Fatal(err)
	}
	conv := c.NewConversation()
	first, err := conv.Step("")
	if err != nil {
		t.Fatal(err)
	}
	l, answer, err := begin(first)
	if err != nil {
		return nil, err
	}
	final, err := conv.Step(answer)
	if err != nil {
		t.Fatal(err)
	}
	_, last, err := l.Finish(final)
	if err != nil {
		return l, err
	}
	if _, err := conv.Step(last); err != nil {
		t.Fatalf("the server did not prove itself: %v", err)
	}
	return l, nil
}

// TestTokensBesideThePassword: one user name, a password and two tokens, each its own.
func TestTokensBesideThePassword(t *testing.T) {
	f := &File{Version: 1, People: []Person{{ID: "aoife", Verifier: verifier(t, testPassword), Employer: "acme"},
		{ID: "brian", Login: []string{ByToken}, Employer: "acme"}, {ID: "ciara", Verifier: verifier(t, testPassword), Login: []string{ByPassword}, Employer: "acme"}}}
	d, err := NewDirectory(f, []byte("s"))
	if err != nil {
		t.Fatal(err)
	}
	a1, s1 := newToken(t, d, "aoife")
	a2, s2 := newToken(t, d, "aoife")
	b, sb := newToken(t, d, "brian")
	if _, _, err := d.NewToken("ciara", "", nil, tokenTime, tokenTime); !errors.Is(err, ErrNobody) {
		t.Errorf("somebody who logs in by password alone gets a token: %v", err)
	}
	if _, _, err := d.NewToken("nobody", "", nil, tokenTime, tokenTime); !errors.Is(err, ErrNobody) {
		t.Errorf("nobody gets a token: %v", err)
	}
	stranger := a1
	stranger.Principal = "ciara" // a line copied in tokens.yaml
	if d, err = NewDirectory(f, []byte("s"), a1, a2, b, stranger); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ user, secret, token string }{
		{"aoife", testPassword, ""}, {"aoife", s1, a1.ID}, {"aoife", s2, a2.ID}, {"brian", sb, b.ID},
		{"aoife", sb, "refused"}, {"brian", s1, "refused"}, {"brian", testPassword, "refused"}, {"ciara", s1, "refused"},
		{"aoife", s1[:len(s1)-1], "refused"}, {"nobody", s1, "refused"},
	} {
		l, err := play(t, func(first string) (*Login, string, error) { return d.Begin(c.user, Mechanism, first, nil) }, c.secret)
		got := ""
		if err != nil {
			got = "refused"
		} else if l.Token() != nil {
			got = l.Token().ID
		}
		if got != c.token {
			t.Errorf("%s: %q, want %q", c.user, got, c.token)
		}
		_, clear, err := d.CheckToken(c.user, c.secret)
		if want := c.token != "refused" && c.token != ""; (err == nil) != want || want && clear.ID != c.token {
			t.Errorf("%s, in clear inside TLS: %v %v", c.user, clear, err)
		}
	}
	if strings.Contains(fmt.Sprintf("%+v", a1), s1[len(TokenPrefix)+13:]) || !strings.HasPrefix(s1, TokenPrefix+a1.ID+"_") {
		t.Error("a stored token holds its secret, or the secret does not name its id")
	}
}

// TestTokenOfNobodyLooksLikeAnyUser: whoever has tokens and no password is answered like a
// name that does not exist.
func TestTokenOfNobodyLooksLikeAnyUser(t *testing.T) {
	f := &File{Version: 1, People: []Person{{ID: "brian", Login: []string{ByToken}, Employer: "acme"}}}
	without, err := NewDirectory(&File{Version: 1}, []byte("s"))
	if err != nil {
		t.Fatal(err)
	}
	with, err := NewDirectory(f, []byte("s"))
	if err != nil {
		t.Fatal(err)
	}
	token, _ := newToken(t, with, "brian")
	if with, err = NewDirectory(f, []byte("s"), token); err != nil {
		t.Fatal(err)
	}
	salt := func(d *Directory) string {
		_, answer, err := d.Begin("brian", Mechanism, "n,,n=,r=abcdefgh", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(answer, ",")
		return rest
	}
	if salt(with) != salt(without) {
		t.Errorf("%s, without an entry %s", salt(with), salt(without))
	}
}

// TestNewPasswordEndsTokens: tokens answer to the password's salt.
func TestNewPasswordEndsTokens(t *testing.T) {
	f := &File{Version: 1, People: []Person{{ID: "aoife", Verifier: verifier(t, testPassword), Employer: "acme"}}}
	d, err := NewDirectory(f, []byte("s"))
	if err != nil {
		t.Fatal(err)
	}
	token, secret := newToken(t, d, "aoife")
	f.People[0].Verifier = verifier(t, "new")
	if d, err = NewDirectory(f, []byte("s"), token); err != nil {
		t.Fatal(err)
	}
	if _, err := play(t, func(first string) (*Login, string, error) { return d.Begin("aoife", Mechanism, first, nil) }, secret); err == nil {
		t.Error("a token outlives the password it was made beside")
	}
	if !d.Stale(&token) {
		t.Error("and the list does not say so")
	}
}

func TestTokensEnd(t *testing.T) {
	for name, c := range map[string]struct {
		token Token
		ended bool
	}{
		"live":     {Token{Until: "2026-11-21T12:00:01Z"}, false},
		"expired":  {Token{Until: "2026-11-21T12:00:00Z"}, true},
		"revoked":  {Token{Until: "2027-01-01T00:00:00Z", Revoked: "2026-11-20T00:00:00Z"}, true},
		"unending": {Token{}, true},
	} {
		if at, _ := c.token.End(); tokenTime.Before(at) == c.ended {
			t.Errorf("%s: ends at %v", name, at)
		}
	}
	if (&Token{}).Opens("analytics") || !(&Token{Databases: []string{"*"}}).Opens("x") || (&Token{Databases: []string{"x"}}).Opens("y") {
		t.Error("scope")
	}
}

func FuzzDecodeTokens(f *testing.F) {
	f.Add([]byte("version: 1\ntokens:\n  - {id: abcdefghijkl, principal: a, verifier: x, databases: [y], created: 2026-01-01T00:00:00Z, until: 2026-01-01T00:00:00Z}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := DecodeTokens("tokens.yaml", src)
		if err != nil {
			return
		}
		if _, err := NewDirectory(&File{Version: 1}, []byte("s"), file.Tokens...); err != nil {
			t.Fatalf("what decodes gives no directory: %v", err)
		}
	})
}

// TestKeysLogInAtTheServer: the keys that a client's proof gives away log in where the same
// verifier is, prove nothing elsewhere, and know an impostor.
func TestKeysLogInAtTheServer(t *testing.T) {
	v, foreign := verifier(t, testPassword), verifier(t, testPassword)
	d := newDirectory(t)
	l, err := play(t, func(first string) (*Login, string, error) {
		return d.BeginSource("app", v, Principal{ID: "app"}, Mechanism, first, nil)
	}, testPassword)
	if err != nil {
		t.Fatal(err)
	}
	again := func(k *Keys, at string) error {
		r, first, err := k.Begin()
		if err != nil {
			return err
		}
		s, answer, err := d.BeginSource("app", at, Principal{ID: "app"}, Mechanism, first, nil)
		if err != nil {
			return err
		}
		final, err := r.Prove(answer)
		if err != nil {
			return err
		}
		_, last, err := s.Finish(final)
		if err != nil {
			return err
		}
		return r.Check(last)
	}
	if err := again(l.Keys(), v); err != nil {
		t.Errorf("at the server: %v", err)
	}
	if err := again(l.Keys(), foreign); !errors.Is(err, ErrPassword) {
		t.Errorf("at a server with another salt: %v", err)
	}
	impostor := *l.Keys()
	impostor.Server = make([]byte, 32)
	if err := again(&impostor, v); !errors.Is(err, ErrServer) {
		t.Errorf("a server that does not know the verifier: %v", err)
	}
	if failed, err := play(t, func(first string) (*Login, string, error) {
		return d.BeginSource("app", v, Principal{ID: "app"}, Mechanism, first, nil)
	}, "guess"); err == nil || failed.Keys() != nil {
		t.Errorf("a wrong password: %v, keys %v", err, failed.Keys())
	}
	for _, bad := range []string{"", "md5abcdef", "not scram"} {
		if _, err := play(t, func(first string) (*Login, string, error) {
			return d.BeginSource("app", bad, Principal{ID: "app"}, Mechanism, first, nil)
		}, testPassword); !errors.Is(err, ErrPassword) {
			t.Errorf("verifier %q: %v", bad, err)
		}
	}
}

func FuzzRelogin(f *testing.F) {
	f.Add("r=abc,s=QSXCR+Q6sek8bf92,i=4096", "v=abc")
	f.Fuzz(func(t *testing.T, first, final string) {
		r, _, err := (&Keys{Client: make([]byte, 32), Server: make([]byte, 32)}).Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Prove(first); err == nil {
			t.Fatal("a nonce that is not ours is answered")
		}
		if r.Check(final) == nil {
			t.Fatal("a server that proved nothing is believed")
		}
	})
}

// TestParallelGuessesCannotPassTheLimiter: a thousand guesses begun before the first is
// answered are no more than the bucket holds.
func TestParallelGuessesCannotPassTheLimiter(t *testing.T) {
	l := NewLimiter(func() time.Time { return tokenTime })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	guessed := 0
	for i := range 1000 {
		all.Go(func() {
			done, wait := l.Reserve(ctx, "victim", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
			if wait > 0 {
				return
			}
			mu.Lock()
			guessed++
			mu.Unlock()
			done(false, true)
		})
	}
	all.Wait()
	if guessed < userBurst || guessed > fullest*userBurst { // all are counted: none is free
		t.Errorf("%d guesses", guessed)
	}
	if len(l.userTries) != 0 || len(l.addrTries) != 0 || len(l.pairTries) != 0 {
		t.Errorf("tries left over: %v %v", l.userTries, l.addrTries)
	}
}

// TestManyRightLoginsAtOnce: an application opens a pool of connections from a new address.
func TestManyRightLoginsAtOnce(t *testing.T) {
	l := NewLimiter(func() time.Time { return tokenTime })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			done, wait := l.Reserve(ctx, "app", netip.MustParseAddr("192.0.2.1"))
			if wait > 0 {
				t.Errorf("wait %v", wait)
				return
			}
			done(true, false)
		})
	}
	all.Wait()
	// Now the address is known: somebody who leaves logins half open holds nobody up.
	for range 2 * addrBurst {
		if _, wait := l.Reserve(ctx, "app", netip.MustParseAddr("192.0.2.1")); wait > 0 {
			t.Fatal("held up by half-open logins")
		}
	}
}

// TestHalfOpenLoginsKeepNobodyOut: a stranger begins logins as the application and never
// goes on, before the application has come for the first time.
func TestHalfOpenLoginsKeepNobodyOut(t *testing.T) {
	l := NewLimiter(func() time.Time { return tokenTime })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	held := 0
	for range 100 {
		if _, wait := l.Reserve(ctx, "app", netip.MustParseAddr("198.51.100.7")); wait == 0 {
			held++
		}
	}
	if held != userBurst {
		t.Errorf("%d exchanges of one stranger at once", held)
	}
	done, wait := l.Reserve(t.Context(), "app", netip.MustParseAddr("192.0.2.1"))
	if wait > 0 {
		t.Fatalf("the application waits %v", wait)
	}
	done(true, false)
	for range 2 * addrBurst {
		if _, wait := l.Reserve(t.Context(), "app", netip.MustParseAddr("192.0.2.1")); wait > 0 {
			t.Fatal("its further connections wait")
		}
	}
}

func TestRates(t *testing.T) {
	now := tokenTime
	r := NewRates(func() time.Time { return now })
	for i := range 20 {
		if r.Take("a", 20, time.Second) != 0 {
			t.Fatalf("full after %d", i)
		}
	}
	if w := r.Take("a", 20, time.Second); w <= 0 || w > time.Second {
		t.Fatalf("wait %v", w)
	}
	if r.Full("b", 20, time.Second) != 0 || r.Take("a", 0, time.Second) != 0 {
		t.Fatal("another principal waits, or no bound is a bound")
	}
	now = now.Add(time.Second)
	if r.Take("a", 20, time.Second) != 0 {
		t.Fatal("it does not leak")
	}
}

func TestSamePerson(t *testing.T) {
	d, err := NewDirectory(&File{Version: 1, People: []Person{{ID: "a", Verifier: verifier(t, "x"), Employer: "e"},
		{ID: "b", Verifier: verifier(t, "x"), Employer: "e", SameAs: "a"}, {ID: "c", Verifier: verifier(t, "x"), Employer: "e", SameAs: "b"},
		{ID: "d", Verifier: verifier(t, "x"), Employer: "e"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"a": "a b c", "c": "a b c", "d": "d", "x": "x"} {
		if got := strings.Join(d.SamePerson(id), " "); got != want {
			t.Errorf("%s is %s", id, got)
		}
	}
}
