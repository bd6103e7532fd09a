package acceptance

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil"
)

// targets are what hostile statements are aimed at: a table of the dataset, a column whose
// clear values are elsewhere, and the table's key. The last column is not there at all.
var targets = [][3]string{
	{"app.kinds", "p_text", "id"}, {"app.people", "email", "id"}, {"app.kinds", "n_text", "id"}, {"app.kinds", "p_uuid", "id"}, {"app.kinds", "g_tstz", "id"},
	{"app.kinds", "p_doc", "id"}, {"app.devices", "id", "person_id"}, {"app.kinds", "g_text", "id"}, {"app.kinds", "w_text", "id"},
}

// disturbs names what would end or hold up the sessions beside it: these run alone.
var disturbs = []string{"pg_terminate_backend", "pg_cancel_backend", "pg_advisory_lock"}

// corpus is the door's own list of hostile statements, and one that knows this enclave.
func corpus(t *testing.T) (together, alone []string) {
	t.Helper()
	for _, name := range []string{"../door/release/testdata/hostile.sql", "testdata/hostile.sql"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			switch {
			case line == "" || strings.HasPrefix(line, "--"):
			case slices.ContainsFunc(disturbs, func(s string) bool { return strings.Contains(line, s) }):
				alone = append(alone, line)
			default:
				together = append(together, line)
			}
		}
	}
	if len(together) < 500 || len(alone) < 3 {
		t.Fatalf("%d hostile statements, and %d alone", len(together), len(alone))
	}
	return together, alone
}

// played is one hostile session after its end.
type played struct {
	received []byte
	rows     int
	errors   int
	refused  bool // no session was opened
}

// hostileSessions runs the corpus twice, in the simple and in the extended protocol, over
// many sessions at once.
func hostileSessions(t *testing.T, h *haystack) {
	const parts = 12
	serviceReceivesThem(t, h)
	m := openMirror(t)
	from := m.size(t)
	together, alone := corpus(t)
	var mu sync.Mutex
	var all []played
	var running sync.WaitGroup
	began := time.Now()
	for part := range parts {
		for extended := range 2 {
			running.Go(func() {
				lines := together[part*len(together)/parts : (part+1)*len(together)/parts]
				done := play(t, lines, part+extended*parts, extended == 1)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, done...)
			})
		}
	}
	running.Wait()
	for extended := range 2 {
		all = append(all, play(t, alone, extended, extended == 1)...)
	}
	rows, failed, total := 0, 0, 0
	found := make([]bool, len(h.needles))
	for _, p := range all {
		h.in(p.received, found)
		rows, failed, total = rows+p.rows, failed+p.errors, total+len(p.received)
	}
	h.report(t, "a hostile session received", found)
	if t.Logf("%d statements in %d sessions: %d rows, %d errors, %d bytes, %.1f s", 2*(len(together)+len(alone)), len(all), rows, failed, total, time.Since(began).Seconds()); rows < 10_000 || failed < 200 {
		t.Error("the corpus did not do what it is for")
	}
	balance(t, m, from, all)
}

// serviceReceivesThem shows that the search sees values in what a session receives: the
// service reads the same table and gets them, as text and in binary.
func serviceReceivesThem(t *testing.T, h *haystack) {
	t.Helper()
	r, f := record(t, shared.env["SERVICE_DSN"])
	for _, binary := range []bool{false, true} {
		if err := f.extended("SELECT * FROM app.kinds", binary); err != nil {
			t.Fatal(err)
		}
	}
	f.end(r)
	found, columns := make([]bool, len(h.needles)), map[string]bool{}
	h.in(r.buf.Bytes(), found)
	for i, hit := range found {
		if hit {
			columns[h.needles[i].column] = true
		}
	}
	if len(columns) < len(kinds) {
		t.Errorf("the search sees values of %d columns in what the service reads, want %d", len(columns), len(kinds))
	}
}

// play runs the statements in one session, or in several where they end it.
func play(t *testing.T, lines []string, turn int, extended bool) []played {
	var out []played
	var r *recorded
	var f *frontend
	finish := func() {
		if r != nil {
			f.end(r)
			out = append(out, played{received: r.buf.Bytes(), rows: f.rows, errors: f.errors})
		}
		r, f = nil, nil
	}
	defer finish()
	for i, line := range lines {
		if r == nil {
			if r, f = enter(t, &out); r == nil {
				return out
			}
		}
		_ = r.SetDeadline(time.Now().Add(time.Minute))
		target := targets[(i+turn)%len(targets)]
		sql := strings.NewReplacer(":table", target[0], ":column", target[1], ":key", target[2]).Replace(line)
		var err error
		if extended {
			err = f.extended(sql, i%2 == 0)
		} else {
			err = f.simple(sql)
		}
		if err != nil {
			t.Logf("the session ended: %v: %s", err, line)
			finish()
		}
	}
	finish()
	return out
}

// enter opens a hostile session. One before it may have stored settings with their role:
// then the first attempt is turned away, and what it received counts as well.
func enter(t *testing.T, out *[]played) (*recorded, *frontend) {
	for range 3 {
		r, f, err := open(bounded(t), shared.dsn("hostile-cn", "analytics"))
		if err == nil {
			return r, f
		}
		var e *pgconn.PgError
		if r != nil {
			*out = append(*out, played{received: r.buf.Bytes(), refused: true})
		}
		if !errors.As(err, &e) || e.Code != "55000" {
			t.Errorf("connect: %v", err)
			return nil, nil
		}
	}
	t.Error("turned away three times")
	return nil, nil
}

// balance compares, session by session, the bytes at the client with the records at the
// monitor.
func balance(t *testing.T, m *mirror, from uint64, all []played) {
	t.Helper()
	var client, recorded []int64
	turned := 0 // away; each is in a record of its own
	for _, p := range all {
		if p.refused {
			turned++
			continue
		}
		client = append(client, int64(len(p.received)))
	}
	released := map[string]int64{}
	m.follow(t, from, func(b *trefoil.Body) bool {
		switch {
		case !m.of(b, "hostile-cn"):
		case b.Refusal != nil:
			turned--
		case b.Release != nil:
			released[b.Release.Access.Session] += b.Release.Bytes
		case b.Session != nil && b.Session.Event == "end":
			s := b.Session
			if s.Released != released[s.Access.Session] || s.Covered > s.Allowance && s.Allowance > 0 {
				t.Errorf("a session ends with %d bytes released, its releases have %d", s.Released, released[s.Access.Session])
			}
			recorded = append(recorded, s.Released+s.Covered+s.Fixed)
		}
		return len(recorded) == len(client)
	})
	if turned != 0 {
		t.Errorf("%d more sessions were turned away than are in records", turned)
	}
	slices.Sort(client)
	slices.Sort(recorded)
	if !slices.Equal(client, recorded) {
		t.Errorf("bytes at the clients, by session: %v\nbytes in the mirror's records:   %v", client, recorded)
	}
}
