package valve

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
)

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "valve.yaml")
	good := "version: 1\nlisten: 127.0.0.1:5432\ngateway: 127.0.0.1:6432\nkey: key\nmonitor: { url: http://127.0.0.1:7480, token: token }\nlimits: { hold: 5s }\nkeep: { directory: ciphertext, days: 7 }\n"
	for name, data := range map[string]string{path: good, filepath.Join(dir, "key"): strings.Repeat("k", 32) + "\n", filepath.Join(dir, "token"): "t\n"} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := f.Config(); err != nil || c.Token != "t" || len(c.Key) != 32 || c.Limits.Hold.Seconds() != 5 {
		t.Errorf("got %+v, %v", c, err)
	}
	if s, err := f.Store(slog.New(slog.DiscardHandler)); err != nil || s == nil || s.Directory() != filepath.Join(dir, "ciphertext") {
		t.Errorf("the store of ciphertext: %v, %v", s, err)
	}
	bad := strings.NewReplacer("version: 1", "version: 2", "127.0.0.1:5432", "5432", "http:", "ftp:", "token: token", "tokens: token", "5s", "soon", "days: 7", "days: -7").Replace(good)
	if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load(path)
	for _, want := range []string{":1:", "listen", "monitor.url", "tokens", "limits.hold", "keep.days"} {
		if err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "must be host:port") {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

// TestLimitOfNeverOverflows: whatever a monitor says, a limit is not negative, and grows.
func TestLimitOfNeverOverflows(t *testing.T) {
	values := []int64{0, 1, 10, 1 << 20, math.MaxInt64 / 3, math.MaxInt64}
	for _, a := range values {
		for _, b := range values {
			for _, n := range values {
				if got := limitOf(&credit.Line{Allowance: a, Bytes: b, Releases: n}); got < min(a, most) || got < min(b, most) {
					t.Errorf("limitOf(%d, %d, %d) = %d", a, b, n, got)
				}
			}
		}
	}
	if got := limitOf(&credit.Line{}); got != 0 {
		t.Errorf("nothing permitted allows %d bytes", got)
	}
}
