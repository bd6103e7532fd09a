package trefoil_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/trefoil-eu/trefoil"

// listed is what `go list` says of one package of the module.
type listed struct {
	ImportPath string
	Name       string
	Dir        string
	Doc        string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
	Deps       []string
}

// path is the package's path in the module, "." for its root.
func (p listed) path() string {
	if rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"); rel != "" {
		return rel
	}
	return "."
}

// packages lists the module once for all tests of this file.
var packages = sync.OnceValues(func() ([]listed, error) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Doc,GoFiles,CgoFiles,Imports,Deps", "./...").Output()
	if err != nil {
		return nil, err
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			return nil, err
		}
		if len(p.GoFiles)+len(p.CgoFiles) > 0 {
			all = append(all, p)
		}
	}
	return all, nil
})

func everyPackage(t *testing.T) []listed {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages: the rules would hold of nothing", len(all))
	}
	return all
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range everyPackage(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + filepath.Base(p.ImportPath) + " "
		}
		if !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s: the package comment must begin with %q", p.path(), want)
		}
	}
}

// within says whether path is one of the prefixes or under one of them.
func within(path string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	})
}

// mayImport holds the directions of the wings: a package under From may import, of this
// module, what is under one of To and nothing else. The first entry that fits counts.
var mayImport = []struct {
	From string
	To   []string
	Why  string
}{
	{".", nil, "outsiders verify with the root package alone"},
	{"internal/strict", nil, "both sides of the house decode with it: it must hold no rule"},
	{"internal/certfile", nil, "both sides of the house speak TLS with it: it must hold no rule"},
	{"internal/preamble", nil, "valve and gateway both speak it: it must hold no rule"},
	{"internal/rules/law", nil, "the monitor applies it: it must not reach the operator's rules"},
	{"internal/rules/grant", []string{".", "internal/rules/law", "internal/strict"}, "the monitor imports it"},
	{"internal/rules", []string{".", "internal/rules", "internal/strict"}, "rules are pure"},
	{"internal/proof/accesslog", []string{"."}, "the monitor imports it"},
	{"internal/proof/monitor", []string{".", "internal/proof/accesslog", "internal/proof/monitor", "internal/rules/law",
		"internal/rules/grant", "internal/page", "internal/strict", "internal/certfile"}, "the monitor is independent of what it watches"},
	{"internal/proof", []string{".", "internal/proof", "internal/rules", "internal/strict", "internal/page", "internal/preamble", "internal/certfile"}, "proof does not depend on what it proves"},
	{"internal/door", []string{".", "internal/door", "internal/preamble", "internal/certfile", "internal/rules", "internal/strict", "internal/proof/accesslog", "internal/home/postgres"},
		"orders to other wings go through interfaces that enclave wires"},
	{"internal/home", []string{".", "internal/home", "internal/rules", "internal/strict", "internal/proof", "internal/certfile"}, "home does not know the door"},
	{"internal/people", []string{".", "internal/people", "internal/rules", "internal/strict", "internal/proof", "internal/home", "internal/page"},
		"people do not know the door"},
	{"internal/page", []string{".", "internal/page"}, "the monitor imports it"},
	{"internal/sabotage", nil, "every wing may ask it"},
	{"internal/enclave", []string{".", "internal/door", "internal/rules", "internal/strict", "internal/proof", "internal/home", "internal/people",
		"internal/page", "internal/preamble", "internal/certfile", "internal/enclave"}, "wiring does not know the demo"},
}

func TestImportsFollowTheDirections(t *testing.T) {
	for _, p := range everyPackage(t) {
		for _, rule := range mayImport {
			if p.path() != rule.From && (rule.From == "." || !within(p.path(), rule.From)) {
				continue
			}
			for _, imported := range p.Imports {
				to, ours := strings.CutPrefix(imported, module)
				if to = strings.TrimPrefix(to, "/"); to == "" {
					to = "."
				}
				// The sabotage hooks are constant false without their build tag.
				if !ours || to == "internal/sabotage" || slices.ContainsFunc(rule.To, func(a string) bool {
					return to == a || (a != "." && within(to, a))
				}) {
					continue
				}
				t.Errorf("%s imports %s: %s", p.path(), to, rule.Why)
			}
			break
		}
	}
}

// importedOnlyBy holds the libraries (and parts of this module) that one place knows.
var importedOnlyBy = []struct {
	Import string
	By     []string
	Why    string
}{
	{"github.com/cedar-policy/cedar-go", []string{"internal/rules/policy"}, "one package speaks Cedar"},
	{"github.com/transparency-dev/tessera", []string{"internal/proof/accesslog"}, "the log can be exchanged in one place"},
	{"github.com/jackc/pgx/v5/pgproto3", []string{"internal/door/wire", "internal/home/flow", "internal/testkit"}, "messages are framed in one place"},
	{"github.com/pganalyze/pg_query_go", []string{"internal/door/statement"}, "nothing else may depend on parsing SQL"},
	{"github.com/spf13/cobra", []string{"cmd/trefoil"}, "packages do not know the command line"},
	{module + "/internal/door", []string{"internal/door", "internal/enclave", "internal/demo", "cmd/trefoil", "bench"}, "nobody imports the door but its wiring"},
	{module + "/internal/demo", []string{"internal/demo", "cmd/trefoil", "bench", "internal/testkit/demotest"}, "the demo stands above everything"},
	{module + "/internal/testkit", []string{"internal/testkit"}, "tests only"},
	{"testing", []string{"internal/testkit"}, "test code does not ship"},
}

func TestLibrariesAreKnownInOnePlace(t *testing.T) {
	for _, p := range everyPackage(t) {
		for _, rule := range importedOnlyBy {
			if within(p.path(), rule.By...) {
				continue
			}
			for _, imported := range p.Imports {
				if within(imported, rule.Import) || strings.HasPrefix(imported, rule.Import+"/v") {
					t.Errorf("%s imports %s: %s", p.path(), imported, rule.Why)
				}
			}
		}
	}
}

func TestRulesReachNoNetworkAndNoDisk(t *testing.T) {
	for _, p := range everyPackage(t) {
		if !within(p.path(), "internal/rules") {
			continue
		}
		for _, imported := range p.Imports {
			if within(imported, "os", "net", "syscall", "path/filepath", "database/sql", "github.com/jackc/pgx") {
				t.Errorf("%s imports %s: rules are pure", p.path(), imported)
			}
		}
	}
}

// TestMonitorReachesNothingItWatches follows the monitor's imports to their ends.
func TestMonitorReachesNothingItWatches(t *testing.T) {
	for _, p := range everyPackage(t) {
		if p.path() != "internal/proof/monitor" {
			continue
		}
		for _, dep := range p.Deps {
			if within(dep, module+"/internal/door", module+"/internal/home", module+"/internal/people", module+"/internal/rules/policy",
				module+"/internal/rules/catalog", module+"/internal/enclave", "github.com/cedar-policy/cedar-go", "github.com/jackc/pgx") {
				t.Errorf("the monitor depends on %s: it must be independent of what it watches", dep)
			}
		}
	}
}

func TestDependenciesAreExplained(t *testing.T) {
	mod, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace []any
	}
	if err := json.Unmarshal(mod, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Replace) > 0 {
		t.Error("go.mod replaces modules: those who install Trefoil would get other code")
	}
	page, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for _, r := range file.Require {
		if r.Indirect {
			continue
		}
		direct[r.Path] = true
		if !strings.Contains(string(page), "`"+r.Path+"`") {
			t.Errorf("docs/dependencies.md does not say why %s is there", r.Path)
		}
	}
	for _, row := range strings.Split(string(page), "\n") {
		name, isRow := strings.CutPrefix(row, "| `")
		name, _, closed := strings.Cut(name, "`")
		if isRow && closed && strings.Contains(name, "/") && !direct[name] {
			t.Errorf("docs/dependencies.md explains %s, which go.mod does not require directly", name)
		}
	}
}
