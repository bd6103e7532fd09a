package enclave_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// load reads a configuration made of testdata/small with one replacement.
func change(t *testing.T, old, replacement string) error {
	t.Helper()
	src, err := os.ReadFile("testdata/small/enclave.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(src), old) {
		t.Fatalf("testdata has no %q", old)
	}
	path := filepath.Join(t.TempDir(), "enclave.yaml")
	if err := os.WriteFile(path, []byte(strings.Replace(string(src), old, replacement, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = enclave.Load(path)
	return err
}

func TestLoadSaysWhereAndWhat(t *testing.T) {
	for _, c := range []struct{ old, replacement, want string }{
		{"gateway: {", "gateway: {valve: {listen: '127.0.0.1:6543', key: k, secrets: {directory: d}}, ", "needs directory and key"},
		{"gateway: {", "gateway: {valve: {listen: '127.0.0.1:6543', key: k, secrets: {directory: d, key: s, days: -1}}, ", "at most 3650"},
		{"name: small", "nane: small", "nane"},
		{"version: 1", "version: 2", "version 2 is not known"},
		{"entity: shop-cn", "entity: shop-kp", `entity "shop-kp" is not listed`},
		{"date: 2026-01-01", "date: soon", "is not a date"},
		{"site: dublin-1\n", "site: dublin-9\n", `site "dublin-9" is not listed`},
		{"role: processor, scopes", "role: processor, scope", "scope"},
		{"jp-appi", "jp-api", "is no scope"},
		{"country: JP", "country: Japan", "is not an ISO 3166-1"},
		{"clusters:\n  inside", "clusters:\n  beside", "inside or outside"},
	} {
		err := change(t, c.old, c.replacement)
		var found strict.Errors
		if !errors.As(err, &found) {
			t.Errorf("%s: %v", c.replacement, err)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || found[0].Line == 0 {
			t.Errorf("%s: %v", c.replacement, err)
		}
	}
}

func TestLoadMakesPathsAbsoluteToTheFile(t *testing.T) {
	c, err := enclave.Load("testdata/small/enclave.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.People != "testdata/small/people.yaml" || c.Log.Key != "testdata/small/keys/log" || c.Policy != "testdata/small/policy" {
		t.Errorf("people %s, log key %s, policy %s", c.People, c.Log.Key, c.Policy)
	}
}

func FuzzLoad(f *testing.F) {
	src, err := os.ReadFile("testdata/small/enclave.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(src))
	f.Add("version: 1\nname: x\nclusters: {inside: {}}\n")
	f.Fuzz(func(t *testing.T, src string) {
		path := filepath.Join(t.TempDir(), "enclave.yaml")
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := enclave.Load(path); err == nil && (c.Version != 1 || len(c.Databases) == 0) {
			t.Errorf("accepted %q", src)
		}
	})
}
