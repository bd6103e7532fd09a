package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/trefoil-eu/trefoil"
)

// Evidence classes of a place, strongest first.
const (
	EvidenceCertificate = "certificate"
	EvidenceToken       = "token"
	EvidenceNetwork     = "network"
	EvidenceDeclared    = "declared"
)

// Network maps addresses to a country by configuration. "" means: known to be unknown.
type Network struct {
	Prefix  netip.Prefix
	Country string
}

// Locator says in which countries a session counts as being. The zero value knows none.
type Locator struct {
	Employers map[string]string // entity key → country; the key "" is the exporter
	Sites     map[string]string // site → country
	Networks  []Network         // first match wins
	At        time.Time         // when the configuration that holds them was attested
	Countries *Countries        // optional: a hint for addresses no network covers
}

// ParseNetwork checks one configured mapping.
func ParseNetwork(cidr, country string) (Network, error) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return Network{}, fmt.Errorf("read network: %w", err)
	}
	if !isCountry(country) {
		return Network{}, errors.New("read network: country must be two capital letters")
	}
	return Network{p.Masked(), country}, nil
}

// Places returns employer, workplace and network, in this order. An unknown country is "":
// nothing is inferred from another place.
func (l *Locator) Places(p Principal, addr netip.Addr, now time.Time) []trefoil.Place {
	place := func(source, country string, other *Attestation) trefoil.Place {
		by := Attestation{By: p.AttestedBy, At: p.AttestedAt, Evidence: p.Evidence}
		if other != nil {
			by = *other
		}
		return trefoil.Place{At: by.At.UTC(), By: by.By, Country: country, Evidence: by.Evidence, Source: source}
	}
	employer := ""
	if p.Employer != "" || p.Service { // only a service may leave its employer to be the exporter
		employer = l.Employers[p.Employer]
	}
	workplace := p.Workplace
	if p.Site != "" {
		workplace = l.Sites[p.Site]
	}
	return []trefoil.Place{place("employer", employer, p.EmployerBy), place("workplace", workplace, p.WorkplaceBy), l.Network(addr, now)}
}

// Network places an address alone: for whoever has not said yet who they are.
func (l *Locator) Network(addr netip.Addr, now time.Time) trefoil.Place {
	p := trefoil.Place{At: now.UTC(), Evidence: EvidenceNetwork, Source: "network"}
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return p
	}
	for _, n := range l.Networks {
		if n.Prefix.Contains(addr) {
			p.Country, p.By, p.At = n.Country, "enclave.yaml", l.At.UTC()
			return p
		}
	}
	if l.Countries != nil && !addr.IsPrivate() && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
		p.Country, p.By, p.At = l.Countries.lookup(addr), l.Countries.name, l.Countries.built
	}
	return p
}

// Countries is an mmdb file that maps addresses to countries.
type Countries struct {
	db    *maxminddb.Reader
	name  string
	built time.Time
}

// OpenCountries opens an mmdb file whose records have country.iso_code or country_code.
func OpenCountries(path string) (*Countries, error) {
	db, err := maxminddb.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network countries: %w", err)
	}
	return &Countries{db: db, name: "mmdb " + db.Metadata.DatabaseType,
		built: time.Unix(int64(db.Metadata.BuildEpoch), 0).UTC()}, nil
}

// Close closes the file.
func (c *Countries) Close() error { return c.db.Close() }

// lookup returns "" for everything that is not plainly one country.
func (c *Countries) lookup(addr netip.Addr) string {
	var r struct {
		Country struct {
			ISOCode string `maxminddb:"iso_code"`
		} `maxminddb:"country"`
		CountryCode string `maxminddb:"country_code"`
	}
	if err := c.db.Lookup(addr).Decode(&r); err != nil {
		return ""
	}
	country := r.Country.ISOCode
	if country == "" {
		country = r.CountryCode
	}
	if !isCountry(country) {
		return ""
	}
	return country
}
