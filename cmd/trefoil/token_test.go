package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/rules/policy"
)

// tokenEnclave is the files of a small enclave with one person.
func tokenEnclave(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	v, err := identity.NewVerifier("correct horse", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.CopyFS(dir, os.DirFS("../../internal/enclave/testdata/small")), os.CopyFS(filepath.Join(dir, "policy"), policy.Shipped()),
		os.Mkdir(filepath.Join(dir, "keys"), 0o700),
		os.WriteFile(filepath.Join(dir, "keys", "staff"), make([]byte, 32), 0o600),
		os.WriteFile(filepath.Join(dir, "people.yaml"), []byte("version: 1\npeople: [{id: ie, verifier: \""+v+"\", employer: shop-ie}]\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "enclave.yaml")
}

// token runs a subcommand and returns what it printed.
func token(t *testing.T, config string, args ...string) (string, error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SetArgs(append([]string{"token", "-c", config}, args...))
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTokenCommand(t *testing.T) {
	config := tokenEnclave(t)
	secret, err := token(t, config, "create", "ie", "--database", "trends", "--name", "weekly report")
	if err != nil || !strings.HasPrefix(secret, identity.TokenPrefix) {
		t.Fatalf("%q: %v", secret, err)
	}
	info, err := os.Stat(filepath.Join(filepath.Dir(config), "tokens.yaml"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("tokens.yaml: %v %v", info, err)
	}
	rows := func() []tokenRow {
		t.Helper()
		text, err := token(t, config, "list", "--json")
		if err != nil {
			t.Fatal(err)
		}
		var rows []tokenRow
		if err := json.Unmarshal([]byte(text), &rows); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return rows
	}
	got := rows()
	if len(got) != 1 || got[0].State != "live" || got[0].Principal != "ie" || got[0].LastUsed != "" || !strings.Contains(secret, got[0].ID) {
		t.Fatalf("%+v", got)
	}
	if text, err := token(t, config, "list"); err != nil || !strings.Contains(text, "never used") || !strings.Contains(text, "weekly report") {
		t.Errorf("%q: %v", text, err)
	}
	if _, err := token(t, config, "revoke", strings.TrimSpace(secret)); err != nil { // the token itself names its id
		t.Fatal(err)
	}
	if got = rows(); got[0].State != "revoked" {
		t.Errorf("%+v", got)
	}
	for name, c := range map[string]struct {
		args  []string
		usage bool
	}{
		"no scope":        {[]string{"create", "ie"}, true},
		"no end":          {[]string{"create", "ie", "--database", "trends", "--for", "0s"}, true},
		"too long":        {[]string{"create", "ie", "--database", "trends", "--for", "9000h"}, true},
		"nobody":          {[]string{"create", "nobody", "--database", "trends"}, false},
		"unknown dataset": {[]string{"create", "ie", "--database", "salaries"}, false},
		"unknown token":   {[]string{"revoke", "abcdefghijkl"}, false},
	} {
		if text, err := token(t, config, c.args...); err == nil || errors.Is(err, errUsage) != c.usage || text != "" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if got = rows(); len(got) != 1 {
		t.Errorf("refused commands left %+v", got)
	}
}
