package feed

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/web"
)

// Handler serves the service. The platform's calls need the bearer token:
//
//	POST /rank                        Request → Answer
//	GET  /decisions/ID/reasons        ?item=ID for one item, ?items=N for the first N → Reasons
//	GET  /surfaces                    → []Status
//
// Open to anyone:
//
//	GET  /sheet/SURFACE[.json]        the parameter sheet (DSA art. 27)
//	GET  /why-this.js, /feed.css      the component and the pages' style
//	GET  /healthz                     200, or 503 while a surface serves an older model than its files
func (s *Service) Handler(token string) (http.Handler, error) {
	pages, err := web.NewRenderer()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	private := func(pattern string, serve func(http.ResponseWriter, *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !authorised(r, token) {
				w.Header().Set("WWW-Authenticate", "Bearer")
				s.answer(w, nil, refuse(CodeUnauthorised, "a bearer token is needed"))
				return
			}
			v, err := serve(w, r)
			s.answer(w, v, err)
		})
	}
	private("POST /rank", s.serveRank)
	private("GET /decisions/{id}/reasons", s.serveReasons)
	private("GET /surfaces", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.Status(r.Context()) })
	mux.HandleFunc("GET /sheet/{surface}", func(w http.ResponseWriter, r *http.Request) { s.serveSheet(pages, w, r) })
	mux.HandleFunc("GET /why-this.js", web.Static)
	mux.HandleFunc("GET /feed.css", web.Static)
	mux.HandleFunc("GET /healthz", s.serveHealth)
	return mux, nil
}

// NewServer bounds how long a client may take.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
}

// authorised compares digests, so that the time says nothing about the token.
func authorised(r *http.Request, token string) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && ok && token != ""
}

// answer writes v, or what err says to a client: a *Refusal's text, nothing of any other.
func (s *Service) answer(w http.ResponseWriter, v any, err error) {
	var no *Refusal
	switch {
	case err == nil:
		web.JSON(w, http.StatusOK, v)
	case errors.As(err, &no):
		web.JSON(w, no.Code.status(), no)
	default:
		s.logger.Error("answer", "err", err)
		web.JSON(w, http.StatusServiceUnavailable, &Refusal{CodeUnavailable, "the service cannot answer now"})
	}
}

func (s *Service) serveRank(w http.ResponseWriter, r *http.Request) (any, error) {
	req, err := ReadRequest(http.MaxBytesReader(w, r.Body, int64(s.config.MaxBody)))
	if err != nil {
		return nil, err
	}
	return s.Rank(r.Context(), req)
}

func (s *Service) serveReasons(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := decision.ParseID(r.PathValue("id"))
	if err != nil {
		return nil, refuse(CodeMalformed, "%s", err)
	}
	first := 0
	if n := r.URL.Query().Get("items"); n != "" {
		if first, err = strconv.Atoi(n); err != nil || first < 1 || first > decision.MaxItems {
			return nil, refuse(CodeMalformed, "items is a number from 1 to %d", decision.MaxItems)
		}
	}
	return s.Reasons(r.Context(), id, r.URL.Query().Get("item"), first)
}

func (s *Service) serveSheet(pages *web.Renderer, w http.ResponseWriter, r *http.Request) {
	surface, asJSON := strings.CutSuffix(r.PathValue("surface"), ".json")
	is, before, err := s.Sheet(r.Context(), surface)
	if err == nil && is == nil {
		err = refuse(CodeNotFound, "no sheet yet: nothing was ranked here")
	}
	if err != nil || asJSON {
		s.answer(w, is, err)
		return
	}
	b := s.surfaces[surface].current.Load()
	stale := is.Model != b.modelHash.String() || is.Features != b.wordsHash.String() || s.now().Sub(is.Measured) > time.Duration(s.config.Checks.SheetAge)
	page, err := pages.Sheet(web.Language(r), is, before, stale)
	if err != nil {
		s.answer(w, nil, err)
		return
	}
	web.Headers(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page) // the client went away: nobody to tell
}

func (s *Service) serveHealth(w http.ResponseWriter, _ *http.Request) {
	status, text := http.StatusOK, "ok"
	for _, sf := range s.surfaces {
		sf.mu.Lock()
		if sf.fault != "" {
			status, text = http.StatusServiceUnavailable, "a surface serves an older model than its files: see /surfaces"
		}
		sf.mu.Unlock()
	}
	web.JSON(w, status, map[string]string{"status": text})
}
