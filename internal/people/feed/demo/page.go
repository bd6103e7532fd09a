package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/web"
)

// site is the demonstration's platform: it calls the service and draws the page.
type site struct {
	service *feed.Service
	page    *template.Template
	storage features.Text // where decisions are kept, for the page
}

// Handler serves the page at /, reasons at /why/DECISION and the service's public pages.
// storage says on the page where decisions are kept.
func Handler(s *feed.Service, storage features.Text) (http.Handler, error) {
	t, err := template.ParseFS(files, "files/page.html")
	if err != nil {
		return nil, fmt.Errorf("parse page: %w", err)
	}
	public, err := s.Handler("")
	if err != nil {
		return nil, err
	}
	x := &site{s, t, storage}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", x.feed)
	mux.HandleFunc("GET /why/{decision}", x.why)
	mux.Handle("GET /", public)
	return mux, nil
}

type pageItem struct {
	Rank, Hue, X             int
	ID, Title, Topic, Region string
}

type page struct {
	Lang, Surface, Decision, Storage string
	Viewers, Topics                  []string
	Viewer                           int
	Profiling, TrendOff, Reset       bool
	More, Less                       string
	Items                            []pageItem

	query url.Values
}

// T picks one of two texts.
func (p *page) T(en, fr string) string { return features.Text{EN: en, FR: fr}.In(p.Lang) }

// With is this page's address with one thing changed.
func (p *page) With(key, value string) string {
	q := url.Values{}
	for k, v := range p.query {
		q[k] = v
	}
	q.Set(key, value)
	return "/?" + q.Encode()
}

// read takes the settings from the address; profiling is off unless it says on.
func read(r *http.Request) *page {
	q := r.URL.Query()
	p := &page{Lang: web.Language(r), Surface: Surface, Profiling: q.Get("profiling") == "on", TrendOff: q.Get("trend") == "off",
		Reset: q.Get("reset") == "on", More: q.Get("more"), Less: q.Get("less"), query: q}
	if n, err := strconv.Atoi(q.Get("viewer")); err == nil && n >= 0 && n < len(viewers) {
		p.Viewer = n
	}
	for _, v := range viewers {
		p.Viewers = append(p.Viewers, v.name)
	}
	return p
}

func (p *page) controls() feed.Controls {
	c := feed.Controls{Reset: p.Reset}
	if p.TrendOff {
		c.Off = []string{"region-trend"}
	}
	if p.More != "" {
		c.More = []string{p.More}
	}
	if p.Less != "" && p.Less != p.More {
		c.Less = []string{p.Less}
	}
	return c
}

func (x *site) feed(w http.ResponseWriter, r *http.Request) {
	p := read(r)
	a, topics, err := x.rank(r.Context(), p)
	var no *feed.Refusal
	if errors.As(err, &no) {
		http.Error(w, no.Message, http.StatusBadRequest)
		return
	}
	if err != nil {
		http.Error(w, "the feed cannot be ranked now", http.StatusServiceUnavailable)
		return
	}
	p.Decision, p.Topics, p.Storage = a.Decision, topics, x.storage.In(p.Lang)
	for rank, id := range a.Order {
		n, err := strconv.Atoi(id[len("video-"):])
		if err != nil {
			http.Error(w, "the feed cannot be ranked now", http.StatusServiceUnavailable)
			return
		}
		v := videos[n]
		p.Items = append(p.Items, pageItem{rank + 1, n * 37 % 360, 20 + n*41%120, id, v.title.In(p.Lang), topics[v.topic], v.region})
	}
	var out bytes.Buffer
	if err := x.page.Execute(&out, p); err != nil {
		http.Error(w, "the page cannot be drawn", http.StatusInternalServerError)
		return
	}
	web.Headers(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(out.Bytes()) // the client went away: nobody to tell
}

func (x *site) rank(ctx context.Context, p *page) (*feed.Answer, []string, error) {
	a, err := x.service.Rank(ctx, request(viewers[p.Viewer], uint64(p.Viewer), p.controls(), p.Profiling))
	if err != nil {
		return nil, nil, err
	}
	src, err := files.ReadFile("files/features.yaml")
	if err != nil {
		return nil, nil, err
	}
	f, err := features.Parse("features.yaml", src)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(f.Features, func(f features.Feature) bool { return f.Feature == "topic" })
	return a, f.Features[i].Categories, nil
}

// why gives an item's reasons to the component, as a platform's own server would.
func (x *site) why(w http.ResponseWriter, r *http.Request) {
	id, err := decision.ParseID(r.PathValue("decision"))
	item := r.URL.Query().Get("item")
	if err != nil || item == "" {
		web.JSON(w, http.StatusBadRequest, map[string]string{"error": "a decision and an item are needed"})
		return
	}
	why, err := x.service.Reasons(r.Context(), id, item, 0)
	if err != nil {
		web.JSON(w, http.StatusNotFound, map[string]string{"error": "no reasons"})
		return
	}
	web.JSON(w, http.StatusOK, why)
}
