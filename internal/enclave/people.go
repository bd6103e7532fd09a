package enclave

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
)

// People are the principals of people.yaml.
type People struct {
	Directory *identity.Directory
	Tokens    []identity.Token
	file      *identity.File
	secret    []byte
}

// newPeople builds the directory. The staff key also keys the answers that unknown users
// get, so that they stay the same over restarts.
func newPeople(f *identity.File, staffKey []byte, tokens []identity.Token) (*People, error) {
	mac := hmac.New(sha256.New, staffKey)
	mac.Write([]byte("trefoil mock verifiers"))
	p := &People{file: f, secret: mac.Sum(nil)}
	return p.with(tokens)
}

// with returns the same people with other access tokens.
func (p *People) with(tokens []identity.Token) (*People, error) {
	d, err := identity.NewDirectory(p.file, p.secret, tokens...)
	if err != nil {
		return nil, err
	}
	return &People{Directory: d, Tokens: tokens, file: p.file, secret: p.secret}, nil
}

// Known reports whether a principal has this id.
func (p *People) Known(id string) bool {
	_, ok := p.Directory.Lookup(id)
	return ok
}

// Locator says where sessions count as being, from the configuration.
func (c *Config) Locator(attested time.Time) (*identity.Locator, error) {
	var countries *identity.Countries
	if c.NetworkCountries != "" {
		var err error
		if countries, err = identity.OpenCountries(c.NetworkCountries); err != nil {
			return nil, err
		}
	}
	return c.locator(attested, countries)
}

func (c *Config) locator(attested time.Time, countries *identity.Countries) (*identity.Locator, error) {
	l := &identity.Locator{Countries: countries, Employers: map[string]string{"": c.Exporter.Country}, Sites: map[string]string{}, At: attested}
	for key, e := range c.Entities {
		l.Employers[key] = e.Country
	}
	for _, s := range c.Sites {
		l.Sites[s.Name] = s.Country
	}
	for i, n := range c.Networks {
		network, err := identity.ParseNetwork(n.CIDR, n.Country)
		if err != nil {
			return nil, fmt.Errorf("networks[%d]: %w", i, err)
		}
		l.Networks = append(l.Networks, network)
	}
	return l, nil
}
