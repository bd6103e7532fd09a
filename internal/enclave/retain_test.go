package enclave

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestABoundOnTheSourcesLog(t *testing.T) {
	whole, err := os.ReadFile("testdata/small/enclave.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ value, want string }{
		{"20GiB", ""}, {"20GB", "enclave.yaml:7:"}, {"GiB", "want a size"}, {"-1GiB", "want a size"}, {"99999999999TiB", "want a size"}, {"1MiB", "want at least 64MiB"},
	} {
		file := filepath.Join(t.TempDir(), "enclave.yaml")
		text := strings.Replace(string(whole), "shop: {site: dublin-1,", "shop: {site: dublin-1, retain: "+c.value+",", 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, found, err := LoadLenient(file)
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, e := range found {
			said += e.Error() + "\n"
		}
		if c.want == "" {
			if cfg.Retain()["shop"] != 20<<30 || strings.Contains(said, "retain") {
				t.Errorf("%s: %v, %s", c.value, cfg.Retain(), said)
			}
		} else if !strings.Contains(said, c.want) || cfg.Retain()["shop"] != 0 && c.value != "1MiB" {
			t.Errorf("%s: %s, %v", c.value, said, cfg.Retain())
		}
	}
}
