package accesslog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// StoredBody is the answer to GET body/INDEX. Byte strings are base64. Openings are not in it.
type StoredBody struct {
	Body   []byte `json:"body"`
	Salt   []byte `json:"salt"`
	Permit string `json:"permit,omitempty"`
}

// Body returns one record, with its permit if one was stored. ErrNoBody: deleted, expired, or
// never here.
func (l *Log) Body(index uint64) (trefoil.Record, string, error) { return l.store.body(index) }

func (s *store) body(index uint64) (trefoil.Record, string, error) {
	e, _, err := s.read(s.bodies, index)
	if err != nil {
		return trefoil.Record{}, "", err
	}
	r, _, err := e.record()
	if err != nil {
		return trefoil.Record{}, "", fmt.Errorf("read body of record %d: %w", index, err)
	}
	permit, _, err := s.read(s.permits, index)
	if errors.Is(err, ErrNoBody) {
		return r, "", nil
	}
	if err != nil {
		return trefoil.Record{}, "", err
	}
	return r, string(permit.payload), nil
}

// Opening returns what Append was given to keep at the site. It is for audits on the spot.
func (l *Log) Opening(index uint64) ([]byte, error) {
	e, _, err := l.store.read(l.store.bodies, index)
	if err != nil {
		return nil, err
	}
	_, opening, err := e.record()
	return opening, err
}

// Receipt returns everything that checks record index offline, under the latest checkpoint.
func (l *Log) Receipt(ctx context.Context, index uint64) (*trefoil.Receipt, error) {
	p, err := l.readPublication()
	if err != nil {
		return nil, fmt.Errorf("make receipt %d: %w", index, err)
	}
	return l.store.receipt(ctx, p, index)
}

func (s *store) receipt(ctx context.Context, p *publication, index uint64) (*trefoil.Receipt, error) {
	r, permit, err := s.body(index)
	if err != nil {
		return nil, fmt.Errorf("make receipt %d: %w", index, err)
	}
	proof, err := p.prove(ctx, index, r.Leaf())
	if err != nil {
		return nil, fmt.Errorf("make receipt %d: %w", index, err)
	}
	if sabotage.Active("receipt") {
		proof.Index++
	}
	return &trefoil.Receipt{Record: r, Proof: proof.String(), Permit: permit}, nil
}

// Handler serves the log: `checkpoint` and `tile/…` to anyone, `body/INDEX` and
// `bodies/FROM/COUNT` to the bearer of token (an empty token: to nobody). Only what the published checkpoint covers is served, by
// names that are parsed and built anew: no path of the request reaches the file system.
func (l *Log) Handler(token string) http.Handler {
	h := &handler{l: l, token: sha256.Sum256([]byte(token)), open: token != ""}
	return http.HandlerFunc(h.serve)
}

type handler struct {
	l     *Log
	token [32]byte
	open  bool
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	switch {
	case path == "checkpoint":
		h.checkpoint(w, r)
	case strings.HasPrefix(path, "tile/"):
		h.tile(w, r, path)
	case strings.HasPrefix(path, "body/"):
		h.body(w, r, path[len("body/"):])
	case strings.HasPrefix(path, "bodies/"):
		h.bodies(w, r, path[len("bodies/"):])
	default:
		notFound(w)
	}
}

func notFound(w http.ResponseWriter) { http.Error(w, "not in the log", http.StatusNotFound) }

func (h *handler) checkpoint(w http.ResponseWriter, r *http.Request) {
	raw, err := h.l.public.Checkpoint(r.Context())
	if err != nil {
		notFound(w)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	h.write(w, r, raw)
}

// tile serves a tile or bundle that the published checkpoint covers: what lies beyond may
// yet change, and it would be cached for ever.
func (h *handler) tile(w http.ResponseWriter, r *http.Request, path string) {
	t, ok := parseTile(path)
	raw, err := h.l.public.Checkpoint(r.Context())
	if !ok || err != nil {
		notFound(w)
		return
	}
	c, err := trefoil.ParseCheckpoint(raw)
	if err != nil || !t.within(c.Size) {
		notFound(w)
		return
	}
	var data []byte
	if t.level < 0 {
		data, err = h.l.public.Entries(r.Context(), t.index, t.width)
	} else {
		data, err = h.l.public.Tile(r.Context(), t.level, t.index, t.width)
	}
	if err != nil {
		notFound(w)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	h.write(w, r, data)
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, data []byte) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// allowed answers whoever has no token for bodies.
func (h *handler) allowed(w http.ResponseWriter, r *http.Request) bool {
	given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(given))
	if !h.open || !bearer || subtle.ConstantTimeCompare(sum[:], h.token[:]) != 1 {
		w.Header().Set("WWW-Authenticate", `Bearer realm="bodies"`)
		http.Error(w, "bodies are for the monitor", http.StatusUnauthorized)
		return false
	}
	return true
}

func (h *handler) body(w http.ResponseWriter, r *http.Request, name string) {
	if !h.allowed(w, r) {
		return
	}
	index, err := strconv.ParseUint(name, 10, 62)
	if err != nil || strconv.FormatUint(index, 10) != name {
		notFound(w)
		return
	}
	record, permit, err := h.l.Body(index)
	switch {
	case errors.Is(err, ErrNoBody) && index < h.l.Size():
		http.Error(w, "the body is gone", http.StatusGone)
		return
	case errors.Is(err, ErrNoBody):
		notFound(w)
		return
	case err != nil:
		h.l.c.Logger.Error("access log: body cannot be read", "error", err)
		http.Error(w, "the body cannot be read", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// A client that went away is no error of ours.
	_ = json.NewEncoder(w).Encode(StoredBody{Body: record.Body, Salt: record.Salt, Permit: permit})
}

// tileName is a parsed tile path; level -1 is a bundle of entries.
type tileName struct {
	level int
	index uint64
	width int
}

// parseTile accepts exactly the paths that C2SP tlog-tiles defines.
func parseTile(path string) (tileName, bool) {
	level, rest, ok := strings.Cut(strings.TrimPrefix(path, "tile/"), "/")
	t := tileName{level: -1, width: trefoil.TileWidth}
	if !ok || len(path) > 100 {
		return t, false
	}
	if level != "entries" {
		n, err := strconv.ParseUint(level, 10, 6)
		if err != nil {
			return t, false
		}
		t.level = int(n)
	}
	if name, width, partial := strings.Cut(rest, ".p/"); partial {
		n, err := strconv.ParseUint(width, 10, 8)
		if err != nil || n == 0 {
			return t, false
		}
		rest, t.width = name, int(n)
	}
	digits := strings.ReplaceAll(strings.ReplaceAll(rest, "/", ""), "x", "")
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return t, false
	}
	t.index = n
	want := trefoil.EntriesPath(t.index, t.width)
	if t.level >= 0 {
		want = trefoil.TilePath(t.level, t.index, t.width)
	}
	return t, want == path
}

// within reports whether a tree of the given size has the whole of t.
func (t tileName) within(size uint64) bool {
	at := size >> (8 * max(t.level, 0))
	if t.level >= 8 {
		return false
	}
	return t.index < 1<<55 && t.index*trefoil.TileWidth+uint64(t.width) <= at
}
