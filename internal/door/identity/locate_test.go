package identity

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestPlaces(t *testing.T) {
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := since.Add(24 * time.Hour)
	n, err := ParseNetwork("127.0.0.0/8", "IE")
	if err != nil {
		t.Fatal(err)
	}
	unknown, _ := ParseNetwork("10.9.0.0/16", "")
	wide, _ := ParseNetwork("10.0.0.0/8", "NO")
	l := &Locator{Employers: map[string]string{"": "IE", "acme": "CN"}, Sites: map[string]string{"hamar": "NO"},
		Networks: []Network{n, unknown, wide}, At: since}
	for name, c := range map[string]struct {
		p    Principal
		addr string
		want [3]string
	}{
		"person":                 {Principal{Employer: "acme", Workplace: "JP"}, "127.0.0.1", [3]string{"CN", "JP", "IE"}},
		"person, IPv6 clothes":   {Principal{Employer: "acme", Workplace: "JP"}, "::ffff:127.0.0.1", [3]string{"CN", "JP", "IE"}},
		"unknown employer":       {Principal{Employer: "nosuch", Workplace: "JP"}, "127.0.0.1", [3]string{"", "JP", "IE"}},
		"person, no employer":    {Principal{Workplace: "JP"}, "127.0.0.1", [3]string{"", "JP", "IE"}},
		"unknown workplace":      {Principal{Employer: "acme"}, "127.0.0.1", [3]string{"CN", "", "IE"}},
		"service":                {Principal{Service: true, Site: "hamar"}, "10.1.1.1", [3]string{"IE", "NO", "NO"}},
		"service, unknown site":  {Principal{Service: true, Site: "nosuch"}, "10.1.1.1", [3]string{"IE", "", "NO"}},
		"first match is unknown": {Principal{Service: true}, "10.9.1.1", [3]string{"IE", "", ""}},
		"no network":             {Principal{Service: true}, "192.0.2.1", [3]string{"IE", "", ""}},
		"IPv6 loopback":          {Principal{Service: true}, "::1", [3]string{"IE", "", ""}},
	} {
		got := l.Places(c.p, netip.MustParseAddr(c.addr), now)
		for i, source := range []string{"employer", "workplace", "network"} {
			if got[i].Country != c.want[i] || got[i].Source != source {
				t.Errorf("%s: %s is %q, want %q", name, source, got[i].Country, c.want[i])
			}
		}
		if got[2].Evidence != EvidenceNetwork || got[2].Country != "" && (got[2].By != "enclave.yaml" || !got[2].At.Equal(since)) {
			t.Errorf("%s: network %+v", name, got[2])
		}
	}
	for _, p := range (&Locator{}).Places(Principal{Employer: "acme"}, netip.Addr{}, now) {
		if p.Country != "" {
			t.Errorf("an empty locator knows %+v", p)
		}
	}
	for _, bad := range [][2]string{{"10.0.0.0/33", "IE"}, {"ten", "IE"}, {"10.0.0.0/8", "ireland"}} {
		if _, err := ParseNetwork(bad[0], bad[1]); err == nil {
			t.Errorf("%v is a network", bad)
		}
	}
}

func TestCountries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.mmdb")
	if err := os.WriteFile(path, tinyMMDB("IE"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCountries(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := &Locator{Countries: c}
	for addr, want := range map[string]string{"1.2.3.4": "IE", "::ffff:1.2.3.4": "IE", "200.1.1.1": "", "10.0.0.1": "", "127.0.0.1": "", "2001:db8::1": ""} {
		p := l.Network(netip.MustParseAddr(addr), time.Now())
		if p.Country != want {
			t.Errorf("%s is in %q, want %q", addr, p.Country, want)
		}
		if want != "" && (p.By != "mmdb test" || p.At.Unix() != 1_000_000_000) {
			t.Errorf("%+v", p)
		}
	}
	if _, err := OpenCountries(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there opens")
	}
	if err := os.WriteFile(path+".bad", []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCountries(path + ".bad"); err == nil {
		t.Error("a file of another kind opens")
	}
}

// tinyMMDB is a MaxMind DB (format 2.0) of one node over IPv4: addresses whose first bit is 0
// are in country, the others are not there.
func tinyMMDB(country string) []byte {
	str := func(s string) []byte { return append([]byte{2<<5 | byte(len(s))}, s...) }
	u16 := func(v uint16) []byte { return []byte{5<<5 | 2, byte(v >> 8), byte(v)} }
	u32 := func(v uint32) []byte { return []byte{6<<5 | 4, byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }
	u64 := func(v uint64) []byte {
		b := []byte{8, 2}
		for i := 56; i >= 0; i -= 8 {
			b = append(b, byte(v>>i))
		}
		return b
	}
	object := func(pairs ...[]byte) []byte {
		b := []byte{7<<5 | byte(len(pairs)/2)}
		for _, p := range pairs {
			b = append(b, p...)
		}
		return b
	}
	const nodes = 1
	data := uint32(nodes + 16) // pointer to the first byte of the data section
	out := []byte{byte(data >> 16), byte(data >> 8), byte(data), 0, 0, nodes}
	out = append(out, make([]byte, 16)...)
	out = append(out, object(str("country"), object(str("iso_code"), str(country)))...)
	out = append(out, "\xab\xcd\xefMaxMind.com"...)
	return append(out, object(
		str("binary_format_major_version"), u16(2), str("binary_format_minor_version"), u16(0),
		str("build_epoch"), u64(1_000_000_000), str("database_type"), str("test"),
		str("description"), object(), str("ip_version"), u16(4),
		str("node_count"), u32(nodes), str("record_size"), u16(24))...)
}
