package monitor

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// Handler serves the monitor (docs/design/monitor.md, "HTTP").
func (m *Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	judging := make(chan struct{}, maxJudging)
	mux.HandleFunc("POST /add-checkpoint", m.limited(m.asks, m.addCheckpoint))
	mux.HandleFunc("POST /permit", m.withToken(judging, m.permit))
	mux.HandleFunc("GET /valve", m.withValveToken(m.valve))
	mux.HandleFunc("POST /valve", m.withValveToken(m.valveReport))
	mux.HandleFunc("POST /acknowledge", m.withToken(judging, m.acknowledgement))
	mux.HandleFunc("GET /mirror/{log}/{path...}", m.limited(m.reads, m.mirror))
	mux.HandleFunc("GET /bodies/{log}/{index}", m.limited(m.reads, m.body))
	mux.HandleFunc("GET /status", m.limited(m.reads, m.status))
	mux.HandleFunc("GET /statements/{name...}", m.limited(m.reads, m.statement))
	mux.HandleFunc("POST /statements/", m.limited(m.asks, m.hold))
	m.handleOrders(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/log/", m.limited(m.reads, http.StripPrefix("/log", m.diary.handler(m.bodies)).ServeHTTP))
	return mux
}

// limited bounds by l how often one address may ask without one of the two tokens. Readers and
// wrong tokens have bounds of their own: a witness must go on answering its log.
func (m *Monitor) limited(l *limiter, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !m.bearer(r, m.token) && !m.bearer(r, m.bodies) && !l.allow(r.RemoteAddr, m.now()) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		h(w, r)
	}
}

// withToken wants the callers' token, and bounds how many requests are worked on at a time.
func (m *Monitor) withToken(slots chan struct{}, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !m.bearer(r, m.token) {
			if !m.wrong.allow(r.RemoteAddr, m.now()) {
				http.Error(w, "too many requests", http.StatusTooManyRequests)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="monitor"`)
			http.Error(w, "the callers' token is missing or wrong", http.StatusUnauthorized)
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			h(w, r)
		case <-r.Context().Done():
		}
	}
}

// bearer compares in constant time. An empty token opens nothing.
func (m *Monitor) bearer(r *http.Request, token string) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return ok && token != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// readBody reads at most limit bytes, or answers why not.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, bool) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		http.Error(w, "request is too large", http.StatusRequestEntityTooLarge)
		return nil, false
	}
	if err != nil {
		http.Error(w, "request cannot be read", http.StatusBadRequest)
		return nil, false
	}
	return raw, true
}

// addCheckpoint is C2SP tlog-witness.
func (m *Monitor) addCheckpoint(w http.ResponseWriter, r *http.Request) {
	raw, ok := readBody(w, r, maxAddCheckpoint)
	if !ok {
		return
	}
	line, size, err := m.AddCheckpoint(raw)
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(line) // a log that went away asks again
	case errors.Is(err, errMalformed):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, errUnknownOrigin):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, errLogSignature):
		http.Error(w, err.Error(), http.StatusForbidden)
	case errors.Is(err, errConflict):
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", size)
	case errors.Is(err, errInconsistent):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	default:
		m.logger.Error("add checkpoint", "error", err)
		http.Error(w, "the witness cannot keep the checkpoint", http.StatusInternalServerError)
	}
}

// AddCheckpoint is POST /add-checkpoint: the cosignature line, or the size to start from
// with a conflict.
func (m *Monitor) AddCheckpoint(raw []byte) (line []byte, size uint64, err error) {
	req, err := parseAddRequest(raw)
	if err != nil {
		return nil, 0, err
	}
	log, watched := m.state.logs[req.cp.Origin]
	if !watched {
		return nil, 0, errUnknownOrigin
	}
	f := m.followers[log]
	if _, err := f.plain.VerifyCheckpoint(req.raw); err != nil {
		return nil, 0, errLogSignature
	}
	m.setBack(log, req.raw)
	line, size, err = f.witness.add(req)
	switch {
	case errors.Is(err, errConflict) && req.old == size && req.cp.Size == size:
		m.finding(Finding{Rule: "split-view", Origin: f.origin, Evidence: string(req.raw), Text: "the log signed another root for a size that was cosigned"})
	case errors.Is(err, errInconsistent):
		m.finding(Finding{Rule: "inconsistent", Origin: f.origin, Text: "the log asked for a cosignature that its proof does not carry", Evidence: string(req.raw)})
	case errors.Is(err, errConflict) && req.cp.Size < size:
		m.finding(Finding{Rule: "rewound", Origin: f.origin, Evidence: string(req.raw), Text: "the log asked for a cosignature on a smaller tree than was cosigned"})
	}
	return line, size, err
}

func (m *Monitor) permit(w http.ResponseWriter, r *http.Request) {
	req, ok := m.request(w, r)
	if !ok {
		return
	}
	text, no, err := m.Permit(r.Context(), req)
	if err != nil {
		m.failed(w, r, err)
		return
	}
	status := http.StatusOK
	if no != nil {
		status = http.StatusForbidden
	}
	writeJSON(w, status, trefoil.PermitAnswer{Permit: text, Refusal: no})
}

func (m *Monitor) acknowledgement(w http.ResponseWriter, r *http.Request) {
	req, ok := m.request(w, r)
	if !ok {
		return
	}
	answer, err := m.Acknowledge(req)
	if err != nil {
		m.failed(w, r, err)
		return
	}
	status := http.StatusOK
	if answer.Refusal != nil {
		status = http.StatusForbidden
	}
	writeJSON(w, status, answer)
}

// request decodes a PermitRequest strictly.
func (m *Monitor) request(w http.ResponseWriter, r *http.Request) (*trefoil.PermitRequest, bool) {
	raw, ok := readBody(w, r, maxPermitRequest)
	if !ok {
		return nil, false
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	var req trefoil.PermitRequest
	if err := dec.Decode(&req); err != nil || dec.More() {
		http.Error(w, "not a permit request", http.StatusBadRequest)
		return nil, false
	}
	return &req, true
}

// failed answers an error: what the caller did, or that the monitor's disk does not work.
func (m *Monitor) failed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errUnproved):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case r.Context().Err() != nil: // nobody listens
	default:
		m.logger.Error("answer", "path", r.URL.Path, "error", err)
		http.Error(w, "the monitor cannot keep its state", http.StatusServiceUnavailable)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no error of ours
}

var tilePath = regexp.MustCompile(`^tile/(entries|[0-7])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?$`)

// mirror serves a mirrored log's checkpoint and the tiles that it covers.
func (m *Monitor) mirror(w http.ResponseWriter, r *http.Request) {
	f := m.byHash[r.PathValue("log")]
	path := r.PathValue("path")
	if f == nil {
		http.NotFound(w, r)
		return
	}
	f.mu.Lock()
	t := f.tree
	f.mu.Unlock()
	if path == "checkpoint" && t.raw != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(t.raw)
		return
	}
	if !covered(path, t.size()) {
		http.NotFound(w, r)
		return
	}
	raw, err := os.ReadFile(filepath.Join(t.dir, filepath.FromSlash(path)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(raw)
}

// covered reports whether path names a tile that is whole in a tree of size.
func covered(path string, size uint64) bool {
	p := tilePath.FindStringSubmatch(path)
	if p == nil {
		return false
	}
	index, err := strconv.ParseUint(strings.NewReplacer("x", "", "/", "").Replace(p[2]), 10, 62)
	if err != nil {
		return false
	}
	width, level := uint64(trefoil.TileWidth), uint64(0)
	if p[3] != "" {
		if width, err = strconv.ParseUint(p[3], 10, 8); err != nil {
			return false
		}
	}
	if p[1] != "entries" {
		level = uint64(p[1][0] - '0')
	}
	return index < 1<<54 && index*trefoil.TileWidth+width <= size>>(8*level)
}

// body serves a mirrored body to whoever has the monitor's own token.
func (m *Monitor) body(w http.ResponseWriter, r *http.Request) {
	if !m.bearer(r, m.bodies) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="bodies"`)
		http.Error(w, "bodies are for the monitor's own readers", http.StatusUnauthorized)
		return
	}
	f := m.byHash[r.PathValue("log")]
	index, err := strconv.ParseUint(r.PathValue("index"), 10, 62)
	if f == nil || err != nil {
		http.NotFound(w, r)
		return
	}
	rec, permit, err := m.Record(f.log, index)
	if errors.Is(err, trefoil.ErrNotFound) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		m.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"body": rec.Body, "salt": rec.Salt, "permit": permit})
}

// Record returns a mirrored record and its permit, "" if none was given. Log is the place of
// the log in the rules.
func (m *Monitor) Record(log int, index uint64) (trefoil.Record, string, error) {
	m.state.mu.Lock()
	found := m.state.records.get(recordKey{log, index})
	if found == nil {
		m.state.mu.Unlock()
		return trefoil.Record{}, "", fmt.Errorf("read record %d: %w", index, trefoil.ErrNotFound)
	}
	r, seq := *found, m.journal.last()
	m.state.mu.Unlock()
	if err := m.journal.wait(seq); err != nil {
		return trefoil.Record{}, "", err
	}
	e, raw, err := m.journal.entry(r.body)
	if err != nil {
		return trefoil.Record{}, "", err
	}
	rec, text := trefoil.Record{Body: raw, Salt: e.Salt}, ""
	if r.permitted {
		first, others := m.keys.permitAt(time.Unix(r.expires, 0))
		text, err = trefoil.SignPermit(trefoil.Permit{Origin: m.rules.Logs[log].Origin, Index: index, Leaf: trefoil.LeafHash(rec.Leaf()),
			Expires: time.Unix(r.expires, 0).UTC(), StopEpoch: r.epoch}, first, others...)
	}
	return rec, text, err
}
