package acceptance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheMonitorsCanaryFindsItsOwnRecordsToTheByte looks at a dataset with an ordinary account, as
// the monitor does, and has the command compare what it got with what the log says.
func TestTheMonitorsCanaryFindsItsOwnRecordsToTheByte(t *testing.T) {
	dir := filepath.Join(shared.dir, "monitor")
	dsn := strings.Replace(shared.dsn("hostile-cn", "analytics"), ":"+password+"@", "@", 1)
	secret := filepath.Join(t.TempDir(), "canary")
	settings := "version: 1\naccounts:\n  - principal: hostile-cn\n    dsn: '" + dsn + "'\n    password: " + secret +
		"\n    statements: ['SELECT * FROM pg_catalog.pg_class LIMIT 7', 'SELECT * FROM pg_catalog.pg_class, pg_catalog.pg_class c LIMIT 500']\n"
	for path, text := range map[string]string{secret: password + "\n", filepath.Join(dir, "canary.yaml"): settings} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Remove(filepath.Join(dir, "canary.yaml")) })
	out, err := shared.trefoil(bounded(t), "monitor", "canary", "--dir", dir, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Rows, Bytes int64
		Findings    []any
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != 1 || got[0].Rows < 500 || got[0].Bytes < 10_000 || len(got[0].Findings) > 0 {
		t.Errorf("the canary got %s %v", out, err)
	}
}
