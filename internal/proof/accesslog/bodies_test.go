package accesslog_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// TestManyBodiesAtOnce: the bearer of the token gets those that are there, nobody else any.
func TestManyBodiesAtOnce(t *testing.T) {
	f := newFixture(t, 0)
	f.config.Quorum = -1
	l := f.open(t)
	defer closeLog(t, l)
	var last *accesslog.Ticket
	for i := range 20 {
		last = appendRecord(t, l, record(t, i))
	}
	witnessed(t, last)
	if err := l.DeleteBody(7); err != nil {
		t.Fatal(err)
	}
	ask := func(path, token string) (int, []accesslog.IndexedBody) {
		w := get(t, l.Handler("secret"), http.MethodGet, path, token)
		var out []accesslog.IndexedBody
		for lines := bufio.NewScanner(w.Body); lines.Scan() && w.Code == http.StatusOK; {
			var b accesslog.IndexedBody
			if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
				t.Fatal(err)
			}
			out = append(out, b)
		}
		return w.Code, out
	}
	code, got := ask("/bodies/5/256", "secret")
	if code != http.StatusOK || len(got) != 14 {
		t.Fatalf("%d: %d bodies", code, len(got))
	}
	for i, b := range got {
		want := uint64(5 + i)
		if want >= 7 {
			want++
		}
		r, _, err := l.Body(b.Index)
		if err != nil || b.Index != want || string(r.Body) != string(b.Body) || string(r.Salt) != string(b.Salt) || b.Permit != "" {
			t.Errorf("body %d is of index %d, %v", i, b.Index, err)
		}
	}
	for path, want := range map[string]int{"/bodies/0/0": 404, "/bodies/0/257": 404, "/bodies/0": 404, "/bodies/-1/5": 404, "/bodies/00/5": 404,
		"/bodies/0/5/5": 404, "/bodies/x/y": 404, "/bodies/4611686018427387900/256": 200} {
		if code, got := ask(path, "secret"); code != want || len(got) != 0 {
			t.Errorf("%s: %d, %d bodies", path, code, len(got))
		}
	}
	for _, token := range []string{"", "secre", "secret2"} {
		if code, _ := ask("/bodies/0/5", token); code != http.StatusUnauthorized {
			t.Errorf("token %q: %d", token, code)
		}
	}
}
