package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil"
)

// TestKeySucceed: the note that key succeed writes is what verify takes up, and no other.
func TestKeySucceed(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	vkeys := map[string]string{}
	for name, use := range map[string]string{"log": "log", "witness": "witness", "permit": "permit", "next": "witness", "last": "witness", "regulator": "approver"} {
		out, err := cli(t, t.Context(), "key", "new", use, "--out", file(name), "monitor.example/"+use)
		if err != nil {
			t.Fatal(err)
		}
		vkeys[name] = strings.TrimSpace(out)
	}
	if _, err := cli(t, t.Context(), "key", "succeed", "witness", vkeys["next"], "--old", file("witness"), "--out", file("first")); err != nil {
		t.Fatal(err)
	}
	if _, err := cli(t, t.Context(), "key", "succeed", "witness", vkeys["last"], "--old-vkey", vkeys["next"], "--regulator", file("regulator"), "--out", file("second")); err != nil {
		t.Fatal(err)
	}
	trust := func() *trefoil.Trust {
		t.Helper()
		tr, err := trefoil.ParseTrust(vkeys["log"], []string{vkeys["witness"], vkeys["permit"]})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	if err := takeUp(trust(), []string{vkeys["regulator"]}, []string{file("first"), file("second")}); err != nil {
		t.Errorf("in their order: %v", err)
	}
	if err := takeUp(trust(), []string{vkeys["regulator"]}, []string{file("second"), file("first")}); !errors.Is(err, errUnheld) {
		t.Errorf("in another order: %v, want %v", err, errUnheld)
	}
	if err := takeUp(trust(), nil, []string{file("first"), file("second")}); !errors.Is(err, errUnheld) {
		t.Errorf("a regulator whom nobody named: %v, want %v", err, errUnheld)
	}
	if err := os.WriteFile(file("second"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := takeUp(trust(), nil, []string{file("second")}); !errors.Is(err, errUnheld) {
		t.Errorf("an empty note: %v, want %v", err, errUnheld)
	}
	for _, args := range [][]string{{"key", "succeed", "witness", vkeys["next"]}, {"key", "succeed", "log", vkeys["next"], "--old", file("witness")},
		{"key", "succeed", "witness", vkeys["next"], "--old-vkey", vkeys["witness"]}} {
		if code := run(t.Context(), args); code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", args, code, exitUsage)
		}
	}
}
