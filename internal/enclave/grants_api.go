package enclave

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

const (
	maxAPIBody = 1 << 20         // a request with the subjects of a case
	callSkew   = 2 * time.Minute // how far a caller's clock may be off
	maxCalls   = 100_000         // nonces kept; beyond them callers wait
)

// grantsAPI takes requests for grants, and answers to them, over HTTP. Every call is signed by
// an approver or a caller of the configuration, for this enclave, once. It decides nothing:
// answers are signed envelopes that Rules.Answer verifies.
type grantsAPI struct {
	rules    func() *Rules
	store    *control.Store
	audience string
	now      func() time.Time
	started  time.Time // what was signed before could be a replay of what another process took
	logger   *slog.Logger

	mu   sync.Mutex
	seen map[string]time.Time // nonce → when it may be forgotten
}

func newGrantsAPI(rules func() *Rules, s *control.Store, audience string, now func() time.Time, logger *slog.Logger) *grantsAPI {
	return &grantsAPI{rules: rules, store: s, audience: audience, now: now, started: now().Truncate(time.Second), logger: logger, seen: map[string]time.Time{}}
}

// party is who signed a call.
type party struct {
	approver *grant.Approver
	caller   *Caller
	monitor  bool
}

// may reports whether the party may see a request.
func (p *party) may(q grant.Request) bool {
	if p.approver != nil {
		return slices.Contains(p.approver.Purposes, q.Purpose) || slices.Contains(p.approver.Purposes, "*")
	}
	return p.asksFor(q.Principal)
}

func (p *party) asksFor(principal string) bool {
	return p.caller != nil && (slices.Contains(p.caller.Principals, principal) || slices.Contains(p.caller.Principals, "*"))
}

// apiError is what a caller is told.
type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return e.text }

func apiFail(status int, format string, args ...any) error {
	return &apiError{status, fmt.Sprintf(format, args...)}
}

// handler serves POST /grants, GET /grants, GET /grants/ID and POST /grants/ID/answers.
func (g *grantsAPI) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(context.Context, *party, *http.Request, []byte) (any, error){
		"POST /grants": g.ask, "GET /grants": g.list, "GET /grants/{id}": g.show, "POST /grants/{id}/answers": g.answer,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			out, err := g.take(w, r, do)
			g.reply(w, out, err)
		})
	}
	return mux
}

// take reads and authenticates one call before anything is looked at.
func (g *grantsAPI) take(w http.ResponseWriter, r *http.Request, do func(context.Context, *party, *http.Request, []byte) (any, error)) (any, error) {
	if r.Header.Get(grant.CallField) == "" {
		return nil, apiFail(http.StatusUnauthorized, "the request is not signed")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAPIBody))
	if err != nil {
		return nil, apiFail(http.StatusRequestEntityTooLarge, "the request is too large, or was cut off")
	}
	p, err := g.caller(r, body)
	if err != nil {
		return nil, err
	}
	return do(r.Context(), p, r, body)
}

// caller finds out who signed, and that it is this request, now, and for the first time.
func (g *grantsAPI) caller(r *http.Request, body []byte) (*party, error) {
	no := apiFail(http.StatusUnauthorized, "the request is not signed by a known key, for this enclave, as it is, and now")
	rules, now := g.rules(), g.now()
	var keys []note.Verifier
	var parties []*party
	for i, a := range rules.Approvers {
		if a.Until.IsZero() || now.Before(a.Until) {
			keys = append(keys, a.Verifier)
			parties = append(parties, &party{approver: &rules.Approvers[i], monitor: rules.Config.Approvers[i].Monitor})
		}
	}
	for i, c := range rules.Config.Callers {
		if v, err := grant.NewVerifier(c.Key); err == nil { // checked by Load
			keys, parties = append(keys, v), append(parties, &party{caller: &rules.Config.Callers[i]})
		}
	}
	c, who, err := grant.OpenCall(r.Header.Get(grant.CallField), keys)
	if err != nil {
		return nil, no
	}
	if c != grant.NewCall(g.audience, r.Method, r.URL.RequestURI(), c.Nonce, body, c.At) {
		return nil, no
	}
	if d := now.Sub(c.At); d > callSkew || d < -callSkew || c.At.Before(g.started) {
		return nil, no
	}
	return parties[who], g.once(c.Nonce, now)
}

// once takes a nonce for the first time.
func (g *grantsAPI) once(nonce string, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.seen) >= maxCalls {
		for n, until := range g.seen {
			if now.After(until) {
				delete(g.seen, n)
			}
		}
	}
	if len(g.seen) >= maxCalls {
		return apiFail(http.StatusServiceUnavailable, "too many requests; try again in a few minutes")
	}
	if _, twice := g.seen[nonce]; twice {
		return apiFail(http.StatusUnauthorized, "the request was taken before")
	}
	g.seen[nonce] = now.Add(2*callSkew + time.Second)
	return nil
}

// askBody is POST /grants.
type askBody struct {
	Principal string   `json:"principal"`
	Dataset   string   `json:"dataset"`
	Purpose   string   `json:"purpose"`
	For       string   `json:"for"`
	Reason    string   `json:"reason"`
	Subjects  []string `json:"subjects"`
	Statement string   `json:"statement"`
}

func (g *grantsAPI) ask(ctx context.Context, p *party, _ *http.Request, body []byte) (any, error) {
	var b askBody
	if err := strictJSON(body, &b); err != nil {
		return nil, err
	}
	if !p.asksFor(b.Principal) {
		return nil, apiFail(http.StatusForbidden, "this key may not ask for that principal")
	}
	term, err := time.ParseDuration(b.For)
	if err != nil {
		return nil, apiFail(http.StatusBadRequest, "for is not a duration such as 4h")
	}
	q, err := g.rules().Request(ctx, g.store, Ask{Principal: b.Principal, Dataset: b.Dataset, Purpose: b.Purpose, For: term,
		Reason: b.Reason, Subjects: b.Subjects, Statement: b.Statement}, g.now())
	if err != nil {
		return nil, err
	}
	return g.view(ctx, p, q.ID)
}

func (g *grantsAPI) view(ctx context.Context, p *party, id string) (*GrantView, error) {
	if !requestID.MatchString(id) {
		return nil, control.ErrNotFound
	}
	found, err := g.store.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if !p.may(found.Request) {
		return nil, control.ErrNotFound
	}
	v := g.rules().View(found, g.now())
	if p.monitor {
		v.Reason = "" // it may name people
	}
	return &v, nil
}

func (g *grantsAPI) show(ctx context.Context, p *party, r *http.Request, _ []byte) (any, error) {
	return g.view(ctx, p, r.PathValue("id"))
}

func (g *grantsAPI) list(ctx context.Context, p *party, r *http.Request, _ []byte) (any, error) {
	limit := 50
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			return nil, apiFail(http.StatusBadRequest, "limit is a number from 1 to 1000")
		}
		limit = n
	}
	found, err := g.store.List(ctx, limit)
	if err != nil {
		return nil, err
	}
	out := []GrantView{}
	for i := range found {
		if p.may(found[i].Request) {
			v := g.rules().View(&found[i], g.now())
			if p.monitor {
				v.Reason = ""
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// answerBody is POST /grants/ID/answers: an envelope that an approver signed.
type answerBody struct {
	Envelope string `json:"envelope"`
}

func (g *grantsAPI) answer(ctx context.Context, p *party, r *http.Request, body []byte) (any, error) {
	var b answerBody
	if err := strictJSON(body, &b); err != nil {
		return nil, err
	}
	if p.approver == nil {
		return nil, apiFail(http.StatusForbidden, "this key answers no requests")
	}
	open, err := grant.Open(b.Envelope, g.rules().Approvers)
	if err != nil {
		return nil, err
	}
	if open.Approver.Name != p.approver.Name || open.Envelope.Request.ID != r.PathValue("id") {
		return nil, apiFail(http.StatusForbidden, "the answer is somebody else's, or to another request")
	}
	return g.rules().Answer(ctx, g.store, b.Envelope, g.now())
}

// reply writes an answer, or says what is wrong without anything of the store.
func (g *grantsAPI) reply(w http.ResponseWriter, out any, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		status, text := g.explain(err)
		w.WriteHeader(status)
		out = map[string]string{"error": text}
	}
	_ = json.NewEncoder(w).Encode(out) // a client that went away needs no answer
}

// explain turns an error into what the caller may know of it.
func (g *grantsAPI) explain(err error) (int, string) {
	var api *apiError
	switch {
	case errors.As(err, &api):
		return api.status, api.text
	case errors.Is(err, control.ErrNotFound):
		return http.StatusNotFound, control.ErrNotFound.Error()
	case errors.Is(err, ErrAsk), errors.Is(err, grant.ErrMalformed):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, ErrRefused), errors.Is(err, control.ErrNoApproval):
		return http.StatusConflict, err.Error()
	}
	for _, known := range []error{grant.ErrUnknownKey, grant.ErrSelf, grant.ErrAltered, grant.ErrExpired, grant.ErrNotYet, grant.ErrPurpose, grant.ErrKind, grant.ErrRetired} {
		if errors.Is(err, known) {
			return http.StatusForbidden, err.Error()
		}
	}
	g.logger.Error("request for a grant failed", "error", err)
	return http.StatusInternalServerError, "the enclave cannot do that now"
}

var requestID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// strictJSON decodes one object: no unknown key, none twice, none in another case, nothing after it.
func strictJSON(body []byte, into any) error {
	no := apiFail(http.StatusBadRequest, "the body is not the JSON that is expected here")
	if bytes.IndexByte(body, 0) >= 0 || !uniqueKeys(body) {
		return no
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return no
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return no
	}
	return nil
}

// uniqueKeys reports whether body is a flat object in which no key appears twice, in any case.
func uniqueKeys(body []byte) bool {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		key, isText := t.(string)
		if err != nil || !isText || seen[key] || key != lower(key) {
			return false
		}
		seen[key] = true
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return false
		}
	}
	return true
}

func lower(s string) string { return string(bytes.ToLower([]byte(s))) }
