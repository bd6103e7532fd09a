package trefoil_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// update rewrites generated pages instead of comparing them: TREFOIL_UPDATE=1 go test .
func update() bool { return os.Getenv("TREFOIL_UPDATE") == "1" }

// foreign are traces of one machine or one workplace, which mean nothing to a reader.
var foreign = regexp.MustCompile(`(^|[\s"'=(` + "`" + `])/(work|root)(/|\b)|proxy\.golang\.org|registry\.npmjs\.org|deb\.debian\.org`)

func TestNoTraceOfOneMachine(t *testing.T) {
	for _, name := range tracked(t) {
		if name == "repo_text_test.go" || name == "go.sum" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text, 0) >= 0 {
			continue // not text
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := foreign.FindString(line); m != "" {
				t.Errorf("%s:%d: %q is of one machine", name, i+1, strings.TrimSpace(m))
			}
		}
	}
}

func TestReadmeIsShort(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(text, []byte("\n")); lines > 200 {
		t.Errorf("README.md has %d lines, more than 200", lines)
	}
}

func TestLinksBetweenPagesLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	for _, name := range tracked(t, "*.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			target := string(m[1])
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, target)
			}
		}
	}
}

// shown returns the command lines of `trefoil` in the fenced blocks of a page.
func shown(page string) []string {
	var out []string
	fenced := false
	joined := strings.ReplaceAll(page, "\\\n", " ")
	for _, line := range strings.Split(joined, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		line = strings.TrimPrefix(strings.TrimPrefix(line, "$ "), "bin/")
		if fenced && regexp.MustCompile(`^trefoil ([a-z-])`).MatchString(line) {
			line, _, _ = strings.Cut(line, "  #")
			line, _, _ = strings.Cut(line, " | ")
			out = append(out, line)
		}
	}
	return out
}

func TestCommandsInPagesExist(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "trefoil")
	if out, err := exec.Command("go", "build", "-o", binary, "./cmd/trefoil").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, name := range tracked(t, "*.md") {
		if name == "docs/cli.md" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range shown(string(text)) {
			checkCommand(t, binary, name, line)
		}
	}
}

// checkCommand asks the binary's help for the subcommand and every flag of line.
func checkCommand(t *testing.T, binary, page, line string) {
	t.Helper()
	words := strings.Fields(line)[1:]
	subcommand := []string{}
	help := runHelp(binary, subcommand)
	for _, w := range words {
		if strings.HasPrefix(w, "-") || !regexp.MustCompile(`(?m)^  `+regexp.QuoteMeta(w)+`\s`).MatchString(commands(help)) {
			break
		}
		subcommand = append(subcommand, w)
		help = runHelp(binary, subcommand)
	}
	if len(subcommand) == 0 && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		t.Errorf("%s shows %q: there is no such command", page, line)
		return
	}
	for _, w := range words {
		flag, _, _ := strings.Cut(strings.Trim(w, "[]"), "=")
		if !strings.HasPrefix(flag, "-") || flag == "-" || flag == "--" {
			continue
		}
		if !regexp.MustCompile(`(^|[\s,])` + regexp.QuoteMeta(flag) + `([\s,=]|$)`).MatchString(help) {
			t.Errorf("%s shows %q: %s has no flag %s", page, line, strings.Join(subcommand, " "), flag)
		}
	}
}

// commands is the part of a help text that lists subcommands.
func commands(help string) string {
	_, list, _ := strings.Cut(help, "Available Commands:")
	list, _, _ = strings.Cut(list, "\n\n")
	return list
}

func runHelp(binary string, subcommand []string) string {
	out, _ := exec.Command(binary, append(slices.Clone(subcommand), "--help")...).CombinedOutput()
	return string(out)
}

// TestThreatModelIsWhole merges the rows of docs/threat-model.d into the page, and looks for
// every test that a row names.
func TestThreatModelIsWhole(t *testing.T) {
	const begin, end = "<!-- rows -->\n", "<!-- end of rows -->"
	page, err := os.ReadFile("docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("docs/threat-model.md has lost its markers")
	}
	rows := threatRows(t)
	whole := before + begin + "| adversary | asset | control | test |\n|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n" + end + after
	if whole != string(page) {
		if !update() {
			t.Error("docs/threat-model.md is not what docs/threat-model.d says: TREFOIL_UPDATE=1 go test -run ThreatModel .")
		} else if err := os.WriteFile("docs/threat-model.md", []byte(whole), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := testFunctions(t)
	for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(whole, -1) {
		if !tests[name] {
			t.Errorf("the threat model names %s, which is no test of this tree", name)
		}
	}
	for _, row := range rows {
		if !regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).MatchString(row) {
			t.Errorf("no test stands behind: %s", row)
		}
	}
}

// threatRows collects the rows of every part, without the parts' own headings.
func threatRows(t *testing.T) []string {
	t.Helper()
	parts, err := filepath.Glob("docs/threat-model.d/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, part := range parts {
		text, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(text), "\n") {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "|--") && !strings.HasPrefix(line, "| --") &&
				!strings.HasPrefix(strings.ToLower(line), "| adversary ") {
				rows = append(rows, line)
			}
		}
	}
	return rows
}
