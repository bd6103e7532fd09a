package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/xdg-go/scram"
)

// Directory answers for the people and services of one people.yaml. It does not change; a
// new file makes a new Directory.
type Directory struct {
	entries    map[string]entry
	iterations []int // of all verifiers, so that a mock's count is as likely as a real one's
	secret     []byte
}

type entry struct {
	principal Principal
	stored    scram.StoredCredentials
}

// NewDirectory builds a directory. secret keys the mock verifiers of unknown users; it
// should stay the same over restarts, or a salt that changes gives an unknown user away.
// Empty draws one.
func NewDirectory(f *File, secret []byte) (*Directory, error) {
	d := &Directory{entries: map[string]entry{}}
	add := func(p Principal, verifier string) error {
		c, err := ParseVerifier(verifier)
		if err != nil {
			return fmt.Errorf("read verifier: %w", err)
		}
		d.entries[p.ID] = entry{p, c}
		d.iterations = append(d.iterations, c.Iters)
		return nil
	}
	for i := range f.People {
		if err := add(f.People[i].principal(), f.People[i].Verifier); err != nil {
			return nil, err
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
	return d, nil
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
	if !known {
		e = entry{stored: mock}
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
