package enclave

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/home/intake"
)

// A hurried operator leaves lines without TLS and keys for everybody: check says each.
func TestCheckFindsWhatOthersCouldRead(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := func() *Config {
		c := &Config{Databases: map[string]Database{"shop": {DSN: "postgres://db.example/x?sslmode=verify-full", Reader: "postgres:///x?host=/run/pg"}}}
		c.Monitor.URL, c.Gateway.Listen, c.Log.Listen = "http://127.0.0.1:7480", "127.0.0.1:5432", "localhost:7481"
		c.Keys.Pseudonyms, c.Log.Key = key, key
		return c
	}
	for name, x := range map[string]struct {
		change func(*Config)
		want   string // part of the finding; "" for none
		hard   bool
	}{
		"as it should be":         {func(*Config) {}, "", false},
		"monitor over http":       {func(c *Config) { c.Monitor.URL = "http://monitor.example" }, "monitor.url", true},
		"monitor over https":      {func(c *Config) { c.Monitor.URL = "https://monitor.example" }, "", false},
		"door without TLS":        {func(c *Config) { c.Gateway.Listen = ":5432" }, "gateway.listen", true},
		"log on every address":    {func(c *Config) { c.Log.Listen = "0.0.0.0:7481" }, "log.listen", false},
		"source that prefers TLS": {func(c *Config) { c.Databases["shop"] = Database{DSN: "postgres://db.example/x?sslmode=prefer"} }, "databases.shop.dsn", false},
		"key for everybody":       {func(c *Config) { c.Keys.Staff = filepath.Dir(key) }, "staff key", true},
	} {
		c, k := good(), &checking{report: &CheckReport{}}
		x.change(c)
		k.exposed(c)
		found := k.report.Findings
		switch {
		case x.want == "" && len(found) > 0:
			t.Errorf("%s: %v", name, found)
		case x.want != "" && (len(found) != 1 || !strings.Contains(found[0].Text, x.want) || (found[0].Severity == intake.Error) != x.hard):
			t.Errorf("%s: %v", name, found)
		}
	}
}
