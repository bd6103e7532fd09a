package accesslog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

func get(t *testing.T, h http.Handler, method, path, token string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(method, "http://log.example/", nil)
	req.URL.Path = path
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func permitFor(t *testing.T, f *fixture, p *trefoil.Proof, r trefoil.Record) string {
	t.Helper()
	text, err := trefoil.SignPermit(trefoil.Permit{Origin: origin, Index: p.Index, Leaf: trefoil.LeafHash(r.Leaf()), Expires: time.Now().Add(time.Minute)}, f.permitter)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestBodiesAreForTheBearerOnly(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	r := recordAt(t, 7, trefoil.KindRelease)
	p := witnessed(t, appendRecord(t, l, r))
	permit := permitFor(t, f, p, r)
	if err := l.StorePermit(p.Index, permit); err != nil {
		t.Fatal(err)
	}
	h := l.Handler("secret")
	for name, c := range map[string]struct {
		handler http.Handler
		token   string
		path    string
		status  int
	}{
		"no token":        {h, "", "/body/0", 401},
		"wrong token":     {h, "secreT", "/body/0", 401},
		"prefix of token": {h, "secre", "/body/0", 401},
		"no token set":    {l.Handler(""), "", "/body/0", 401},
		"empty bearer":    {l.Handler(""), " ", "/body/0", 401},
		"beyond the log":  {h, "secret", "/body/1", 404},
		"leading zero":    {h, "secret", "/body/00", 404},
		"negative":        {h, "secret", "/body/-1", 404},
		"huge":            {h, "secret", "/body/99999999999999999999", 404},
		"right":           {h, "secret", "/body/0", 200},
	} {
		if got := get(t, c.handler, "GET", c.path, c.token); got.Code != c.status {
			t.Errorf("%s: %d, want %d", name, got.Code, c.status)
		}
	}
	answer := get(t, h, "GET", "/body/0", "secret")
	var stored accesslog.StoredBody
	if err := json.Unmarshal(answer.Body.Bytes(), &stored); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored.Body, r.Body) || !bytes.Equal(stored.Salt, r.Salt) || stored.Permit != permit {
		t.Fatal("the answer is not the record and its permit")
	}
	if strings.Contains(answer.Body.String(), "opening") || answer.Header().Get("Cache-Control") != "no-store" {
		t.Fatal("the answer holds an opening, or may be cached")
	}
	receipt, err := l.Receipt(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.trust.VerifyReceipt(receipt); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyPublicPathsAreServed(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	witnessed(t, appendRecord(t, l, record(t, 0)))
	h := l.Handler("secret")
	for _, path := range []string{
		"/", "/.state/treeState", "/tile/../.state/treeState", "/tile/0/../../.state/treeState", "/tile/entries/../../../site/bodies.index",
		"/site/bodies.index", "/tile/0/000", "/tile/0/000.p/2", "/tile/0/000.p/0", "/tile/0/000.p/01", "/tile/0/000.p/256", "/tile/0/0",
		"/tile/0/x000/000.p/1", "/tile/00/000.p/1", "/tile/8/000.p/1", "/tile/64/000", "/tile/entries/000.p/1/", "/tile/entries/000.p/1/..", "/checkpoint/", "/lock",
		"/tile/0/001", "/tile//000.p/1", "/tile/entries/\x00", "/tile/0/" + strings.Repeat("x999/", 30) + "999",
	} {
		if got := get(t, h, "GET", path, "secret"); got.Code != 404 {
			t.Errorf("GET %q: %d, want 404", path, got.Code)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
		if got := get(t, h, method, "/checkpoint", "secret"); got.Code != 405 || got.Header().Get("Allow") == "" {
			t.Errorf("%s /checkpoint: %d, want 405", method, got.Code)
		}
	}
	for path, cache := range map[string]string{"/checkpoint": "no-cache", "/tile/0/000.p/1": "public, max-age=31536000, immutable", "/tile/entries/000.p/1": "public, max-age=31536000, immutable"} {
		got := get(t, h, "GET", path, "")
		if got.Code != 200 || got.Header().Get("Cache-Control") != cache || got.Body.Len() == 0 {
			t.Errorf("GET %s: %d, Cache-Control %q", path, got.Code, got.Header().Get("Cache-Control"))
		}
		if head := get(t, h, "HEAD", path, ""); head.Code != 200 || head.Body.Len() != 0 {
			t.Errorf("HEAD %s: %d with %d bytes", path, head.Code, head.Body.Len())
		}
	}
}

func TestServedLogVerifiesOverHTTP(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	var last *accesslog.Ticket
	for i := range 300 {
		last = appendRecord(t, l, record(t, i))
	}
	witnessed(t, last)
	s := httptest.NewServer(l.Handler(""))
	defer s.Close()
	report, err := trefoil.VerifyLog(t.Context(), trefoil.NewClient(s.URL, nil), f.trust, trefoil.LogOptions{Tiles: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.Leaves != 300 {
		t.Fatalf("%d leaves", report.Leaves)
	}
}

// holds reports in which files below dir the bytes are.
func holds(t *testing.T, dir string, want []byte) (files []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, want) {
			files = append(files, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

func TestDeletedBodyIsGoneFromDiskAndTheTreeVerifies(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	records := []trefoil.Record{record(t, 0), record(t, 1), record(t, 2)}
	for _, r := range records {
		p := witnessed(t, appendRecord(t, l, r))
		if err := l.StorePermit(p.Index, "permit of "+string(r.Salt)); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range [][]byte{records[1].Body, records[1].Salt} {
		if len(holds(t, f.config.Directory, part)) == 0 {
			t.Fatal("the search does not find what is there: it proves nothing")
		}
	}
	for range 2 {
		if err := l.DeleteBody(1); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range [][]byte{records[1].Body, records[1].Salt} {
		if files := holds(t, f.config.Directory, part); len(files) != 0 {
			t.Fatalf("deleted bytes are still in %v", files)
		}
	}
	if _, err := l.Receipt(t.Context(), 1); !errors.Is(err, accesslog.ErrNoBody) {
		t.Fatalf("Receipt of a deleted body: %v", err)
	}
	if got := get(t, l.Handler("s"), "GET", "/body/1", "s"); got.Code != http.StatusGone {
		t.Fatalf("GET of a deleted body: %d, want 410", got.Code)
	}
	closeLog(t, l)
	l = f.open(t)
	verifyAll(t, f, 3)
	for _, i := range []uint64{0, 2} {
		if _, err := l.Receipt(t.Context(), i); err != nil {
			t.Errorf("neighbour %d: %v", i, err)
		}
	}
	if err := l.DeleteBody(77); !errors.Is(err, accesslog.ErrNoBody) {
		t.Fatalf("DeleteBody beyond the log: %v", err)
	}
}

func verifyAll(t testing.TB, f *fixture, want uint64) {
	t.Helper()
	report, err := trefoil.VerifyLog(t.Context(), trefoil.Directory(filepath.Join(f.config.Directory, accesslog.PublicDir)), f.trust, trefoil.LogOptions{Tiles: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.Leaves != want {
		t.Fatalf("%d leaves, want %d", report.Leaves, want)
	}
}

func TestRetentionDeletesByKindAndDay(t *testing.T) {
	f := newFixture(t, 1)
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	f.config.Now = func() time.Time { return now }
	f.config.Retention = map[trefoil.Kind]time.Duration{trefoil.KindRelease: 48 * time.Hour}
	l := f.open(t)
	old, site := recordAt(t, 1, trefoil.KindRelease), record(t, 2)
	witnessed(t, appendRecord(t, l, old))
	witnessed(t, appendRecord(t, l, site))
	now = now.Add(47 * time.Hour)
	fresh := recordAt(t, 3, trefoil.KindRelease)
	witnessed(t, appendRecord(t, l, fresh))
	if n, err := l.Expire(t.Context(), now); n != 0 || err != nil {
		t.Fatalf("Expire before its time: %d, %v", n, err)
	}
	now = now.Add(2 * time.Hour)
	if n, err := l.Expire(t.Context(), now); n != 1 || err != nil {
		t.Fatalf("Expire: %d, %v; want 1", n, err)
	}
	if files := holds(t, f.config.Directory, old.Salt); len(files) != 0 {
		t.Fatalf("expired salt is still in %v", files)
	}
	if len(holds(t, f.config.Directory, site.Salt)) == 0 || len(holds(t, f.config.Directory, fresh.Salt)) == 0 {
		t.Fatal("more went than was due")
	}
	if _, _, err := l.Body(0); !errors.Is(err, accesslog.ErrNoBody) {
		t.Fatalf("Body of an expired record: %v", err)
	}
	// The growing segment, too: entry by entry.
	now = now.Add(48 * time.Hour)
	if n, err := l.Expire(t.Context(), now); n != 1 || err != nil {
		t.Fatalf("second Expire: %d, %v; want 1", n, err)
	}
	if files := holds(t, f.config.Directory, fresh.Salt); len(files) != 0 {
		t.Fatalf("expired salt is still in %v", files)
	}
	witnessed(t, appendRecord(t, l, recordAt(t, 4, trefoil.KindRelease)))
	closeLog(t, l)
	l = f.open(t)
	verifyAll(t, f, 4)
	if _, _, err := l.Body(3); err != nil {
		t.Fatalf("a record after Expire: %v", err)
	}
}
