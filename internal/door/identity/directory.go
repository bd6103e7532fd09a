package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/xdg-go/scram"
)

// Directory answers for the people and services of one people.yaml. It does not change; a
// new file makes a new Directory.
type Directory struct {
	entries    map[string]entry
	same       map[string]string // id → another of the same person
	iterations []int             // of all verifiers, so that a mock's count is as likely as a real one's
	secret     []byte
}

type entry struct {
	principal Principal
	stored    scram.StoredCredentials
	password  bool // stored is the principal's own; otherwise it opens for nobody
	tokens    []tokenEntry
}

type tokenEntry struct {
	token  Token
	stored scram.StoredCredentials
}

// NewDirectory builds a directory. secret keys the mock verifiers of unknown users; it
// should stay the same over restarts, or a salt that changes gives an unknown user away.
// Empty draws one. Tokens of principals who are not in f open nothing.
func NewDirectory(f *File, secret []byte, tokens ...Token) (*Directory, error) {
	d := &Directory{entries: map[string]entry{}, same: map[string]string{}}
	add := func(p Principal, verifier string) error {
		if verifier == "" {
			d.entries[p.ID] = entry{principal: p}
			return nil
		}
		c, err := ParseVerifier(verifier)
		if err != nil {
			return fmt.Errorf("read verifier: %w", err)
		}
		d.entries[p.ID] = entry{principal: p, stored: c, password: true}
		d.iterations = append(d.iterations, c.Iters)
		return nil
	}
	for i := range f.People {
		if err := add(f.People[i].principal(), f.People[i].Verifier); err != nil {
			return nil, err
		}
		if f.People[i].SameAs != "" {
			d.same[f.People[i].ID] = f.People[i].SameAs
		}
	}
	for i := range f.Services {
		if err := add(f.Services[i].principal(), f.Services[i].Verifier); err != nil {
			return nil, err
		}
	}
	slices.Sort(d.iterations)
	if len(d.iterations) == 0 {
		d.iterations = []int{DefaultIterations}
	}
	if len(secret) == 0 {
		secret = make([]byte, 32)
		if _, err := rand.Read(secret); err != nil {
			return nil, fmt.Errorf("draw secret: %w", err)
		}
	}
	d.secret = slices.Clone(secret)
	return d, d.addTokens(tokens)
}

// addTokens gives principals their tokens, as far as they answer to the principal's salt.
func (d *Directory) addTokens(tokens []Token) error {
	for _, t := range tokens {
		e, known := d.entries[t.Principal]
		if !known || !e.principal.Accepts(ByToken) {
			continue
		}
		c, err := ParseVerifier(t.Verifier)
		if err != nil {
			return fmt.Errorf("read token: %w", err)
		}
		if (e.password || len(e.tokens) > 0) && d.salted(t.Principal, e) != c.KeyFactors {
			continue // the password has changed since: trefoil token list says so
		}
		e.tokens = append(e.tokens, tokenEntry{t, c})
		d.entries[t.Principal] = e
	}
	return nil
}

// SamePerson returns all ids of the person behind id, with id itself.
func (d *Directory) SamePerson(id string) []string {
	group := map[string]bool{id: true}
	for grown := true; grown; {
		grown = false
		for a, b := range d.same {
			if group[a] != group[b] {
				group[a], group[b], grown = true, true, true
			}
		}
	}
	return slices.Sorted(maps.Keys(group))
}

// Token returns a principal's token.
func (d *Directory) Token(principal, id string) (Token, bool) {
	for _, t := range d.entries[principal].tokens {
		if t.token.ID == id {
			return t.token, true
		}
	}
	return Token{}, false
}

// Lookup returns the principal of an id.
func (d *Directory) Lookup(id string) (Principal, bool) {
	e, ok := d.entries[id]
	return e.principal, ok
}

// Principals returns all principals, sorted by id.
func (d *Directory) Principals() []Principal {
	list := make([]Principal, 0, len(d.entries))
	for _, e := range d.entries {
		list = append(list, e.principal)
	}
	slices.SortFunc(list, func(a, b Principal) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return list
}

// credentials returns what to verify user against. Both answers cost the same: the mock is
// always computed.
func (d *Directory) credentials(user string) (e entry, known bool) {
	mock := d.mock(user)
	e, known = d.entries[user]
	if !e.password {
		factors := mock.KeyFactors
		if len(e.tokens) > 0 {
			factors = e.tokens[0].stored.KeyFactors
		}
		e.stored = mock
		e.stored.KeyFactors = factors
	}
	return e, known
}

// mock derives a verifier that no password opens and that stays the same for a name.
func (d *Directory) mock(user string) scram.StoredCredentials {
	draw := func(label string) []byte {
		h := hmac.New(sha256.New, d.secret)
		h.Write([]byte(label))
		h.Write([]byte(user))
		return h.Sum(nil)
	}
	var c scram.StoredCredentials
	c.Salt = string(draw("salt\x00")[:16])
	c.StoredKey, c.ServerKey = draw("stored\x00"), draw("server\x00")
	pick := binary.BigEndian.Uint64(draw("iterations\x00")) % uint64(len(d.iterations))
	c.Iters = d.iterations[pick]
	return c
}
