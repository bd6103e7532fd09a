package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const commandLinePage = "../../docs/cli.md"

// TestCommandLinePage compares docs/cli.md with the command tree. `make docs` writes it anew.
func TestCommandLinePage(t *testing.T) {
	var page bytes.Buffer
	page.WriteString("# Command line\n\nGenerated from the command tree by `make docs`. Exit codes: 0 done, 1 failed, 2 wrong usage, " +
		"3 what was checked does not hold.\n")
	writeCommand(&page, newRoot())
	if os.Getenv("TREFOIL_UPDATE") == "1" {
		if err := os.WriteFile(commandLinePage, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	there, err := os.ReadFile(commandLinePage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(there, page.Bytes()) {
		t.Error("docs/cli.md is not what the command tree says: run make docs")
	}
}

func writeCommand(page *bytes.Buffer, cmd *cobra.Command) {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return
	}
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(page, "\n## %s\n\n%s\n", cmd.CommandPath(), strings.TrimSpace(text))
	if cmd.Runnable() {
		fmt.Fprintf(page, "\n    %s\n", cmd.UseLine())
	}
	if flags := strings.TrimRight(cmd.LocalFlags().FlagUsages(), "\n"); flags != "" {
		fmt.Fprintf(page, "\n```text\n%s\n```\n", flags)
	}
	for _, sub := range cmd.Commands() {
		writeCommand(page, sub)
	}
}

// TestEveryCommandExplainsItself: help is the first page that anyone reads.
func TestEveryCommandExplainsItself(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}
