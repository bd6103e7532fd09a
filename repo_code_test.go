package trefoil_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tracked lists the files of the tree that git knows or would add.
func tracked(t *testing.T, patterns ...string) []string {
	t.Helper()
	args := append([]string{"ls-files", "--cached", "--others", "--exclude-standard", "--"}, patterns...)
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		t.Skipf("git ls-files: %v: the rules of text need the repository", err)
	}
	var names []string
	for _, name := range strings.Fields(string(out)) {
		if _, err := os.Stat(name); err == nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Fatalf("no file matches %v", patterns)
	}
	return names
}

// longest is how many lines a source file may have before it must be split.
const longest = 400

func TestFilesAreShort(t *testing.T) {
	for _, name := range tracked(t, "*.go") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); lines > longest {
			t.Errorf("%s has %d lines, more than %d", name, lines, longest)
		}
	}
}

// TestNoHiddenState finds init functions and package variables that a function assigns to.
func TestNoHiddenState(t *testing.T) {
	byDir := map[string][]*ast.File{}
	fset := token.NewFileSet()
	for _, name := range tracked(t, "*.go") {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "internal/testkit/") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Errorf("parse: %v", err)
			continue
		}
		byDir[filepath.Dir(name)] = append(byDir[filepath.Dir(name)], file)
	}
	for _, files := range byDir {
		variables := packageVariables(files)
		for _, file := range files {
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok || f.Body == nil {
					continue
				}
				if f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s: init runs before anyone can inject anything", fset.Position(f.Pos()))
				}
				for _, at := range assigned(f, variables) {
					t.Errorf("%s: a package variable is assigned to: state belongs to a value that someone owns", fset.Position(at))
				}
			}
		}
	}
}

func packageVariables(files []*ast.File) map[string]bool {
	out := map[string]bool{}
	for _, file := range files {
		for _, decl := range file.Decls {
			if g, ok := decl.(*ast.GenDecl); ok && g.Tok == token.VAR {
				for _, spec := range g.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						out[name.Name] = true
					}
				}
			}
		}
	}
	return out
}

// assigned returns where f assigns to one of the variables, leaving out names that f
// declares itself.
func assigned(f *ast.FuncDecl, variables map[string]bool) []token.Pos {
	local := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, left := range n.Lhs {
					if id, ok := left.(*ast.Ident); ok {
						local[id.Name] = true
					}
				}
			}
		case *ast.Field:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		case *ast.ValueSpec:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if id, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					local[id.Name] = true
				}
			}
		}
		return true
	})
	var out []token.Pos
	hit := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.IndexExpr:
				e = x.X
				continue
			case *ast.SelectorExpr:
				e = x.X
				continue
			case *ast.Ident:
				if variables[x.Name] && !local[x.Name] {
					out = append(out, x.Pos())
				}
			}
			return
		}
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, left := range n.Lhs {
					hit(left)
				}
			}
		case *ast.IncDecStmt:
			hit(n.X)
		}
		return true
	})
	return out
}

// testFunctions returns the names of every test and fuzz target of the tree.
func testFunctions(t *testing.T) map[string]bool {
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, name := range tracked(t, "*_test.go") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declared.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
	}
	return names
}

// TestFuzzingCannotPassWithoutATarget guards the runner: go test prints PASS for a -fuzz
// pattern that matches nothing.
func TestFuzzingCannotPassWithoutATarget(t *testing.T) {
	out, err := exec.Command("scripts/fuzz.sh", "1s", "./internal/demo/platform").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no target ran") {
		t.Errorf("the runner accepted a package without targets: %v\n%s", err, out)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"test", "fuzz"} {
		_, recipe, _ := strings.Cut(string(makefile), "\n"+target+":")
		recipe, _, _ = strings.Cut(recipe, "\n\n")
		if !strings.Contains(recipe, "\n\tscripts/fuzz.sh ") {
			t.Errorf("make %s does not run the fuzz targets", target)
		}
	}
}

// TestParsersOfOutsideBytesAreFuzzed holds of packages as soon as they exist.
func TestParsersOfOutsideBytesAreFuzzed(t *testing.T) {
	for _, dir := range []string{".", "internal/strict", "internal/door/wire", "internal/door/identity", "internal/door/statement",
		"internal/rules/catalog", "internal/rules/grant", "internal/proof/monitor", "internal/people/feed/model", "internal/people/feed/features"} {
		tests, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(tests) == 0 {
			continue
		}
		fuzzed := false
		for _, name := range tests {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			fuzzed = fuzzed || bytes.Contains(text, []byte("\nfunc Fuzz"))
		}
		if !fuzzed {
			t.Errorf("%s parses outside bytes and has no fuzz target", dir)
		}
	}
}

// TestAssignedVariablesAreFound shows that the search for hidden state can fail.
func TestAssignedVariablesAreFound(t *testing.T) {
	const source = `package p
var hidden, table = 0, map[string]int{}
func set() { hidden = 1; hidden++; table["x"] = 2 }
func shadow(hidden int) { hidden = 1 }
func local() { table := map[string]int{}; table["x"] = 1 }`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	variables := packageVariables([]*ast.File{file})
	for name, want := range map[string]int{"set": 3, "shadow": 0, "local": 0} {
		f := file.Scope.Lookup(name).Decl.(*ast.FuncDecl)
		if got := len(assigned(f, variables)); got != want {
			t.Errorf("%s: %d assignments to package variables found, want %d", name, got, want)
		}
	}
}
