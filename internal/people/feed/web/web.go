// Package web draws what the public sees of the feed: the parameter sheet, and the files of the
// <why-this> component.
//
// The invariant it keeps: a page works without script, asks nothing of a third party, and is
// served under a policy that forbids inline script and style. Every text exists in French and
// English. It decides nothing: it is given a sheet and draws it.
package web

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/sheet"
)

//go:embed static/why-this.js static/feed.css sheet.html
var files embed.FS

// Policy is the Content-Security-Policy of every page.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Headers sets what every answer of the service carries.
func Headers(h http.Header) {
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// Language picks fr or en: what the query says, else what the browser prefers.
func Language(r *http.Request) string {
	if l := r.URL.Query().Get("lang"); l == "fr" || l == "en" {
		return l
	}
	for _, part := range strings.Split(r.Header.Get("Accept-Language"), ",") {
		switch tag, _, _ := strings.Cut(strings.TrimSpace(strings.ToLower(part)), "-"); tag {
		case "fr", "en":
			return tag
		}
	}
	return "en"
}

// Static serves why-this.js and feed.css.
func Static(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	kind := map[string]string{"why-this.js": "text/javascript; charset=utf-8", "feed.css": "text/css; charset=utf-8"}[name]
	content, err := files.ReadFile("static/" + name)
	if err != nil || kind == "" {
		http.NotFound(w, r)
		return
	}
	Headers(w.Header())
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(content) // the client went away: nobody to tell
}

// Renderer holds the parsed pages.
type Renderer struct{ sheet *template.Template }

// NewRenderer parses the pages.
func NewRenderer() (*Renderer, error) {
	t, err := template.ParseFS(files, "sheet.html")
	if err != nil {
		return nil, fmt.Errorf("parse pages: %w", err)
	}
	return &Renderer{t}, nil
}

type sheetPage struct {
	Lang                  string
	Sheet                 *sheet.Sheet
	Rows                  []row
	Diff                  []features.Text
	Hash                  string
	Stale                 bool
	Measured, From, Until string
}

// T picks one of two texts.
func (p sheetPage) T(en, fr string) string { return features.Text{EN: en, FR: fr}.In(p.Lang) }

type row struct {
	sheet.Parameter
	Percent, Interval, StatedText         string
	ShareW, LowX, HighX, StatedX, StatedW string
	Outside                               bool
}

func rowOf(p sheet.Parameter) row {
	x := func(v float64) string { return fmt.Sprintf("%.1f", 100*v) }
	r := row{Parameter: p, Percent: sheet.Percent(p.Share), ShareW: x(p.Share), LowX: x(p.Low), HighX: x(p.High),
		Interval: fmt.Sprintf("%.1f – %.1f %%", 100*p.Low, 100*p.High)}
	if p.Stated != nil {
		r.StatedText = sheet.Percent(p.Stated.Min) + " – " + sheet.Percent(p.Stated.Max)
		r.StatedX, r.StatedW = x(p.Stated.Min), x(p.Stated.Max-p.Stated.Min)
		r.Outside = p.High < p.Stated.Min || p.Low > p.Stated.Max
	}
	return r
}

// Sheet draws a sheet; before may be nil. stale says that it is not the current one of the
// model in production.
func (r *Renderer) Sheet(lang string, is, before *sheet.Sheet, stale bool) ([]byte, error) {
	when := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
	p := sheetPage{Lang: lang, Sheet: is, Hash: is.Hash(), Stale: stale, Measured: when(is.Measured), From: when(is.From), Until: when(is.Until)}
	for _, x := range is.Parameters {
		p.Rows = append(p.Rows, rowOf(x))
	}
	if before != nil {
		p.Diff = sheet.Diff(before, is)
	}
	var out bytes.Buffer
	if err := r.sheet.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("draw sheet: %w", err)
	}
	return out.Bytes(), nil
}

// JSON writes v as the answer's body.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "the answer cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	Headers(w.Header())
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client went away: nobody to tell
}
