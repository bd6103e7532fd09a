package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
)

// passwd runs the command with input on standard input.
func passwd(t *testing.T, input string, args ...string) (string, error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetIn(strings.NewReader(input))
	root.SetOut(&out)
	root.SetArgs(append([]string{"passwd"}, args...))
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestPasswd(t *testing.T) {
	out, err := passwd(t, "correct horse\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.ParseVerifier(strings.TrimSpace(out)); err != nil || strings.Contains(out, "correct") {
		t.Fatalf("%q: %v", out, err)
	}
	again, err := passwd(t, "correct horse")
	if err != nil || again == out {
		t.Fatalf("the same verifier twice, or %v", err)
	}
	if out, err = passwd(t, "x\n", "aoife"); err != nil {
		t.Fatal(err)
	}
	file := "version: 1\npeople:\n" + out + "    employer: acme\n    workplace: IE\n"
	if f, err := identity.Decode("people.yaml", []byte(file)); err != nil || f.People[0].ID != "aoife" {
		t.Fatalf("what passwd prints does not fit people.yaml: %v\n%s", err, file)
	}
	if out, err = passwd(t, "x\n", "--json", "--iterations", "5000", "aoife"); err != nil {
		t.Fatal(err)
	}
	var report struct{ ID, Verifier string }
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.ID != "aoife" || !strings.Contains(report.Verifier, "$5000:") {
		t.Fatalf("%s: %v", out, err)
	}
	for name, c := range map[string]struct {
		in   string
		args []string
	}{
		"empty":           {"\n", nil},
		"nothing":         {"", nil},
		"NUL":             {"a\x00b\n", nil},
		"too long":        {strings.Repeat("x", 2000) + "\n", nil},
		"weak iterations": {"x\n", []string{"--iterations", "1"}},
		"two ids":         {"x\n", []string{"a", "b"}},
	} {
		if out, err := passwd(t, c.in, c.args...); err == nil || out != "" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}
