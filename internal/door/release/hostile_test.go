package release

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// hostile reads the corpus for the test's own table.
func hostile(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/hostile.sql")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, line := range strings.Split(string(text), "\n") {
		if line != "" && !strings.HasPrefix(line, "--") {
			out = append(out, strings.NewReplacer(":table", "person", ":column", "secret", ":key", "id").Replace(line))
		}
	}
	if len(out) < 300 {
		t.Fatalf("%d hostile statements, fewer than 300", len(out))
	}
	return out
}

// The corpus in one session: the session goes on (or says why not), the mirror holds, and at
// the end every byte is in a record.
func TestHostileStatementsAreAllInTheBooks(t *testing.T) {
	d := openDoor(t, nil)
	var f *pgproto3.Frontend
	sessions, covered := 0, 0
	for _, sql := range hostile(t) {
		if f == nil {
			conn := d.must(pgx.QueryExecModeExec)
			h, err := conn.PgConn().Hijack()
			if err != nil {
				t.Fatal(err)
			}
			defer h.Conn.Close()
			h.Conn.SetDeadline(time.Now().Add(60 * time.Second))
			f = pgproto3.NewFrontend(h.Conn, h.Conn)
			sessions++
		}
		before, began := len(d.log.releases()), time.Now()
		send(t, f, &pgproto3.Query{String: sql})
		if strings.HasPrefix(sql, "COPY person FROM") {
			send(t, f, &pgproto3.CopyFail{Message: "no"})
		}
		all, err := until(t, f, 1)
		if since := time.Since(began); since > time.Second {
			t.Logf("%v: %s", since, sql)
		}
		recorded := len(d.log.releases()) > before
		if !recorded {
			covered++
		}
		if !recorded && strings.Contains(all, "secret-") {
			t.Errorf("values left without a record of their own: %s", sql)
		}
		if err != nil {
			t.Logf("the session ended: %v after %s: %.200s", err, sql, all)
			f = nil
		}
	}
	t.Logf("%d sessions, %d statements covered", sessions, covered)
	if sessions > 3 {
		t.Errorf("%d sessions were needed", sessions)
	}
	for _, s := range d.all() {
		if s.track.lost {
			t.Error("the mirror was lost")
		}
		s.Stop(Drained)
	}
	if f != nil {
		until(t, f, 1)
	}
	d.balance()
}

// The rules that keep "no receipt, no row" true of the source itself.
func TestOneFunctionWritesToTheClient(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	writes, makes := 0, 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			fn, _ := decl.(*ast.FuncDecl)
			ast.Inspect(decl, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if inner, ok := n.X.(*ast.SelectorExpr); ok && inner.Sel.Name == "out" && n.Sel.Name == "w" {
						writes++
						if fn == nil || fn.Name.Name != "letOut" {
							t.Errorf("%s: the client is written outside letOut", fset.Position(n.Pos()))
						}
					}
					if id, ok := n.X.(*ast.Ident); ok && n.Sel.Name == "Client" && id.Name == "s" {
						t.Errorf("%s: the client's connection is used", fset.Position(n.Pos()))
					}
				case *ast.CompositeLit:
					if id, ok := n.Type.(*ast.Ident); ok && id.Name == "cleared" && len(n.Elts) > 0 {
						makes++
						if name != "clear.go" {
							t.Errorf("%s: a cleared value is made outside clear.go", fset.Position(n.Pos()))
						}
					}
				}
				return true
			})
		}
	}
	if writes != 1 || makes != 3 {
		t.Errorf("%d writes and %d makers of cleared values found, want 1 and 3", writes, makes)
	}
}

func TestNothingIsClearedByDefault(t *testing.T) {
	s := &Session{Config: Config{Epoch: new(Epoch), Now: time.Now}, out: outlet{&strings.Builder{}}}
	h := newHeld(&budget{limit: 1 << 20}, new(segmentPool), "", nil)
	if err := h.add([]byte("row")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]cleared{
		"zero": {}, "no basis": {held: h}, "covered before the session is permitted": {held: h, basis: covered},
		"permitted without a permit": {held: h, basis: permitted},
		"permitted, expired":         {held: h, basis: permitted, pass: pass{expires: time.Now().Add(-time.Second)}},
	} {
		if err := s.letOut(c); err == nil {
			t.Errorf("%s: let out", name)
		}
	}
	if n := s.out.w.(*strings.Builder).Len(); n != 0 {
		t.Errorf("%d bytes left", n)
	}
}
