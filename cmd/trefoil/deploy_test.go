package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnitsStartWhatExists: every unit's command and flags are ones that the program has.
func TestUnitsStartWhatExists(t *testing.T) {
	units, err := filepath.Glob("../../deploy/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatalf("%d units, %v", len(units), err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		_, line, found := strings.Cut(string(text), "ExecStart=/usr/local/bin/trefoil ")
		line, _, _ = strings.Cut(line, "\n")
		cmd, rest, err := newRoot().Find(strings.Fields(line))
		if !found || err != nil || cmd.RunE == nil {
			t.Errorf("%s starts %q: %v", unit, line, err)
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil || len(cmd.Flags().Args()) > 0 {
			t.Errorf("%s: %q: %v", unit, line, err)
		}
	}
}
