package compat

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// page is what these tests write.
const page = "../../../docs/compatibility.md"

// works is the outcome of a row that does what PostgreSQL does.
const works = "works"

// way is one kind of session.
type way struct {
	path  string // service or release
	major int
	dsn   string
}

func (w way) String() string { return fmt.Sprintf("%s %d", w.path, w.major) }
func (w way) release() bool  { return w.path == "release" }

// ways are the columns of the table.
func ways() []way {
	all := []way{{"service", 15, shared.env["SERVICE_DSN"]}, {"service", 18, shared.dsn("app18", "platform18")},
		{"release", 15, shared.dsn("compat-cn", "analytics")}, {"release", 18, shared.dsn("compat-ie", "analytics18")}}
	if shared.bin18 == "" {
		return slices.DeleteFunc(all, func(w way) bool { return w.major == 18 })
	}
	return all
}

// database is the path of the way's DSN; both sides of the gateway use one name.
func (w way) database() string {
	u, err := url.Parse(w.dsn)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(u.Path, "/")
}

// role is what the session's principal is in the database.
func (w way) role(t testing.TB) (name string) {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), w.dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(bounded(t), "SELECT current_user").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

// cell is what one row showed on one way: works, or how it is refused.
type cell struct{ what, outcome string }

// client is one section of the table.
type client struct {
	name, about string
	missing     func() error                     // what it needs is not there
	run         func(t *testing.T, w way) []cell // problems that belong to no row go to t
	whole       bool                             // once for all ways: see all
	all         func(t *testing.T, ws []way) map[way][]cell
}

// book collects what was seen.
type book struct {
	mu    sync.Mutex
	rows  map[string][]string                     // of a client, in the order in which they appeared
	cells map[string]map[string]map[string]string // client, row, way
}

func (b *book) note(client, way string, cells []cell) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cells[client] == nil {
		b.cells[client] = map[string]map[string]string{}
	}
	for _, c := range cells {
		if b.cells[client][c.what] == nil {
			b.cells[client][c.what] = map[string]string{}
			b.rows[client] = append(b.rows[client], c.what)
		}
		b.cells[client][c.what][way] = c.outcome
	}
}

// clients are all sections, in the page's order.
func clients() []client {
	return []client{psqlClient(), pythonClient("psycopg2", "psycopg2"), pythonClient("psycopg", "psycopg 3"), nodeClient(), jdbcClient(), perlClient(), odbcClient(),
		pgxClient(), libpqClient(), biClient(), protocolClient(), dumpClient()}
}

// TestCompatibility tries each client in each way, and compares docs/compatibility.md with
// what it saw.
func TestCompatibility(t *testing.T) {
	if shared.bin18 == "" && os.Getenv("CI") != "" {
		t.Error("PostgreSQL 18 is required and not there: run make pg18")
	}
	seen := &book{rows: map[string][]string{}, cells: map[string]map[string]map[string]string{}}
	absent := map[string]bool{}
	t.Run("try", func(t *testing.T) {
		for _, c := range clients() {
			if c.missing != nil {
				if err := c.missing(); err != nil {
					absent[c.name] = true
					if os.Getenv("CI") != "" {
						t.Errorf("%s is required and not there: run make deps drivers: %v", c.name, err)
					}
					continue
				}
			}
			t.Run(label(c.name), func(t *testing.T) {
				t.Parallel()
				try(t, c, seen)
			})
		}
	})
	if t.Failed() || t.Skipped() {
		return
	}
	comparePage(t, seen, absent)
}

func try(t *testing.T, c client, seen *book) {
	if c.whole {
		for w, cells := range c.all(t, ways()) {
			judge(t, c.name, w, cells, seen)
		}
		return
	}
	for _, w := range ways() {
		t.Run(label(w.String()), func(t *testing.T) {
			t.Parallel()
			judge(t, c.name, w, c.run(t, w), seen)
		})
	}
}

// judge makes a test of every row.
func judge(t *testing.T, name string, w way, cells []cell, seen *book) {
	for _, c := range cells {
		t.Run(label(c.what), func(t *testing.T) {
			if !strings.HasPrefix(c.outcome, works) && !strings.HasPrefix(c.outcome, "refused, ") && !strings.HasPrefix(c.outcome, "as PostgreSQL: ") {
				t.Errorf("%s, %s, %s: %s", name, w, c.what, c.outcome)
			}
		})
	}
	if len(cells) == 0 {
		t.Errorf("%s, %s: no row was tried", name, w)
	}
	seen.note(name, w.String(), cells)
}

func label(s string) string { return strings.ReplaceAll(s, " ", "_") }

// comparePage fails when the page is not what was seen. What could not be tried here (no
// driver, no PostgreSQL 18) is taken as the page has it.
func comparePage(t *testing.T, seen *book, absent map[string]bool) {
	t.Helper()
	old, err := os.ReadFile(page)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	partial := len(absent) > 0 || shared.bin18 == ""
	if os.Getenv("TREFOIL_UPDATE") != "" {
		if partial {
			t.Fatal("the page is written only where every client and both versions are there")
		}
		if err := os.WriteFile(page, []byte(seen.render()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !partial {
		if string(old) != seen.render() {
			t.Errorf("docs/compatibility.md is not what was seen: TREFOIL_UPDATE=1 go test -run TestCompatibility ./internal/acceptance/compat\n%s", differences(string(old), seen.render()))
		}
		return
	}
	for name, rows := range seen.cells {
		for what, cells := range rows {
			for w, outcome := range cells {
				if got := readCell(string(old), name, what, w); got != outcome {
					t.Errorf("docs/compatibility.md says %q of %s, %s, %s, and it is %q", got, name, what, w, outcome)
				}
			}
		}
	}
}

// columns are those of the page, whatever could be tried here.
var columns = []string{"service 15", "service 18", "release 15", "release 18"}

// escape makes a text safe in a cell of a table.
func escape(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

func (b *book) render() string {
	var out strings.Builder
	out.WriteString(preface)
	for _, c := range clients() {
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n| | %s |\n|---|---|---|---|---|\n", c.name, c.about, strings.Join(columns, " | "))
		for _, what := range b.rows[c.name] {
			fmt.Fprintf(&out, "| %s |", escape(what))
			for _, w := range columns {
				outcome := b.cells[c.name][what][w]
				if outcome == "" {
					outcome = "not tried"
				}
				fmt.Fprintf(&out, " %s |", escape(outcome))
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

// readCell finds one cell of a rendered page.
func readCell(text, client, what, w string) string {
	_, section, _ := strings.Cut(text, "\n## "+client+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.SplitSeq(section, "\n") {
		rest, ok := strings.CutPrefix(line, "| "+escape(what)+" | ")
		if i := slices.Index(columns, w); ok && i >= 0 {
			if cells := strings.Split(strings.TrimSuffix(rest, " |"), " | "); i < len(cells) {
				return cells[i]
			}
		}
	}
	return ""
}

// differences are the lines of which only one text has them.
func differences(old, now string) string {
	var out strings.Builder
	a, b := strings.Split(old, "\n"), strings.Split(now, "\n")
	for _, l := range a {
		if !slices.Contains(b, l) {
			fmt.Fprintln(&out, "- "+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			fmt.Fprintln(&out, "+ "+l)
		}
	}
	return out.String()
}

// TestNoRowIsUntried: each row of the page has an outcome in every column.
func TestNoRowIsUntried(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "not tried") || strings.Count(string(text), "\n| ") < 100 {
		t.Error("docs/compatibility.md has rows that were not tried, or hardly any rows")
	}
}

// bounded ends every wait of a test.
func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

const preface = `# Compatibility: what works through the gateway

This page is written from what the tests of internal/acceptance/compat see; each row is a
test, on the two versions of PostgreSQL that Trefoil is tested on. A test fails when the page
is not what it sees.

- *service*: the service path. Bytes are passed on, so everything works that works with the
  same role directly.
- *release*: the release path. What a session sees is a dataset, and each answer waits until
  its record is witnessed and permitted. Reads work; the dataset's own tables cannot be
  written; temporary tables, cursors, settings and transactions work as ever.

A cell says *works*; or *refused* with the SQLSTATE that the client gets; or *as PostgreSQL*, where the server behind
the gateway gives the same error to the same role and client directly (psql 15 does not know all of PostgreSQL 18's catalogs). Nothing
is refused by parsing statements: the dataset's database refuses, because the role may only read.
`
