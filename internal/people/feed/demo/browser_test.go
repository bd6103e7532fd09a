package demo_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/demo"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/testkit/browser"
)

func site(t *testing.T) string {
	t.Helper()
	c, err := demo.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o, err := feed.OpenMemory(t.Context(), c, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	if err := demo.Traffic(t.Context(), o.Service, 60); err != nil {
		t.Fatal(err)
	}
	if err := o.CheckSheets(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, err := o.CheckAll(t.Context(), o.Now()); err != nil || !found[0].Holds() || found[0].Decisions != 60 {
		t.Fatalf("%+v, %v", found, err)
	}
	h, err := demo.Handler(o.Service, features.Text{EN: "In memory.", FR: "En mémoire."})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// quiet says that the page asked nobody else, broke no rule of its policy and threw nothing.
func quiet(t *testing.T, p *browser.Page, url string) {
	t.Helper()
	for _, e := range p.Heard("Network.requestWillBeSent") {
		var r struct{ Request struct{ URL string } }
		if json.Unmarshal(e.Params, &r) == nil && !strings.HasPrefix(r.Request.URL, url) && r.Request.URL != "about:blank" {
			t.Errorf("the page asked %s", r.Request.URL)
		}
	}
	for _, e := range p.Heard("Log.entryAdded") {
		if !strings.Contains(string(e.Params), "favicon") {
			t.Errorf("the browser complains: %s", e.Params)
		}
	}
	for _, e := range p.Heard("Runtime.exceptionThrown") {
		t.Errorf("the page threw: %s", e.Params)
	}
}

func TestReasonsOpenByKeyboardAndAreReadAloud(t *testing.T) {
	url := site(t)
	p := browser.Open(t)
	for lang, want := range map[string]struct{ button, region, because string }{
		"en": {"Why this?", "Why this is shown", "because"},
		"fr": {"Pourquoi ceci ?", "Pourquoi ceci est affiché", "parce qu"},
	} {
		p.Go(url + "/?profiling=on&lang=" + lang)
		p.Until(`document.querySelectorAll("why-this").length === 30 && document.querySelector("why-this").shadowRoot`)
		p.Eval(`document.querySelector("form button").focus()`, nil)
		p.Press("Tab") // from the form into the feed
		var label string
		p.Eval(`document.activeElement.shadowRoot.activeElement.getAttribute("aria-label")`, &label)
		if !strings.HasPrefix(label, want.button) || len(label) < len(want.button)+5 {
			t.Fatalf("%s: Tab leads to %q", lang, label)
		}
		p.Press("Enter")
		p.Until(`document.querySelector("why-this").shadowRoot.querySelector("[role=region] li")`)
		heard := p.Accessible()
		if !slices.ContainsFunc(heard, func(n browser.Node) bool { return n.Role == "region" && n.Name == want.region }) {
			t.Errorf("%s: a screen reader hears no region %q", lang, want.region)
		}
		if !slices.ContainsFunc(heard, func(n browser.Node) bool { return n.Role == "StaticText" && strings.Contains(n.Name, want.because) }) {
			t.Errorf("%s: a screen reader hears no reason", lang)
		}
		var expanded, inside string
		p.Eval(`document.querySelector("why-this").shadowRoot.querySelector("button").getAttribute("aria-expanded")`, &expanded)
		p.Eval(`document.querySelector("why-this").shadowRoot.activeElement.getAttribute("role")`, &inside)
		if expanded != "true" || inside != "region" {
			t.Errorf("%s: expanded %q, focus in %q", lang, expanded, inside)
		}
		p.Press("Escape")
		var hidden bool
		p.Eval(`document.querySelector("why-this").shadowRoot.querySelector("[role=region]").hidden && document.querySelector("why-this").shadowRoot.activeElement.tagName === "BUTTON"`, &hidden)
		if !hidden {
			t.Errorf("%s: Escape does not close it, or loses the focus", lang)
		}
		p.Press(" ") // opens again, without asking again
		p.Until(`!document.querySelector("why-this").shadowRoot.querySelector("[role=region]").hidden`)
	}
	asked := 0
	for _, e := range p.Heard("Network.requestWillBeSent") {
		if strings.Contains(string(e.Params), "/why/") && !strings.Contains(string(e.Params), "why-this.js") {
			asked++
		}
	}
	if asked > 4 {
		t.Errorf("the component asked %d times for two answers", asked)
	}
	quiet(t, p, url)
}

func TestTheSwitchWorksWithoutScriptAndReasonsSaySo(t *testing.T) {
	url := site(t)
	p := browser.Open(t)
	p.Do("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	p.Go(url + "/?profiling=on")
	p.Do("Emulation.setScriptExecutionDisabled", map[string]any{"value": false}, nil)
	order := func() (titles []string) {
		p.Eval(`[...document.querySelectorAll("ol.feed h2")].map(h => h.textContent.replace(/^\d+\. /, ""))`, &titles)
		return titles
	}
	on := order()
	p.Eval(`document.querySelector("#profiling").value = "off"; document.querySelector("form").submit()`, nil)
	p.Until(`location.search.includes("profiling=off") && document.readyState === "complete" && document.querySelector("why-this").shadowRoot`)
	off := order()
	if len(on) != 30 || len(off) != 30 || slices.Equal(on, off) {
		t.Errorf("the switch leaves the order as it was: %d and %d", len(on), len(off))
	}
	p.Go(url + "/?profiling=off&viewer=1")
	if other := order(); len(other) != 30 || !slices.Equal(other, off) {
		t.Error("without profiling two people see two orders")
	}
	p.Until(`document.querySelector("why-this").shadowRoot`)
	p.Eval(`document.querySelector("why-this").toggle()`, nil)
	var text string
	p.Eval(`document.querySelector("why-this").shadowRoot.querySelector("[role=region]").textContent`, &text)
	if !strings.Contains(text, "Profiling is off: nothing personal counted.") {
		t.Errorf("the reasons say %q", text)
	}
	quiet(t, p, url)
}

func TestTheSheetIsReadableInLightDarkAndPrint(t *testing.T) {
	url := site(t)
	p := browser.Open(t)
	p.Go(url + "/sheet/for-you?lang=fr")
	var rows int
	if p.Eval(`document.querySelectorAll("tbody tr").length`, &rows); rows != 8 {
		t.Errorf("%d parameters", rows)
	}
	if !slices.ContainsFunc(p.Accessible(), func(n browser.Node) bool { return n.Role == "rowheader" && strings.Contains(n.Name, "popularité") }) {
		t.Error("a parameter's name is no header of its row")
	}
	colours := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		p.Do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
		var both []string
		p.Eval(`[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]`, &both)
		colours[scheme] = strings.Join(both, "/")
		if both[0] == both[1] {
			t.Errorf("%s: text in the colour of its ground", scheme)
		}
	}
	if colours["light"] == colours["dark"] {
		t.Errorf("dark is as light: %v", colours)
	}
	p.Do("Emulation.setEmulatedMedia", map[string]any{"media": "print"}, nil)
	var nav string
	if p.Eval(`getComputedStyle(document.querySelector("nav")).display`, &nav); nav != "none" {
		t.Error("the navigation is printed")
	}
	quiet(t, p, url)
}

// The reasons hold names that an operator wrote: they must stay text.
func TestMarkupInReasonsStaysText(t *testing.T) {
	h := http.NewServeMux()
	url := site(t)
	script, err := http.Get(url + "/why-this.js")
	if err != nil {
		t.Fatal(err)
	}
	defer script.Body.Close()
	js, err := io.ReadAll(script.Body)
	if err != nil {
		t.Fatal(err)
	}
	const evil = `<img src=x onerror=\"document.title='taken'\">`
	h.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<!doctype html><html lang="en"><title>safe</title><script src="/js"></script><why-this src="/bad"></why-this><why-this id="dead" src="/none"></why-this>`))
	})
	h.HandleFunc("GET /js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(js)
	})
	h.HandleFunc("GET /bad", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"model":"abc","settings":{"profiling":true},"items":[{"rank":1,"summary":{"en":"` + evil + `"},"reasons":[{"contribution":1,"share":0.5,"personal":true,"name":{"en":"` + evil + `"},"sentence":{"en":"` + evil + `"}}]}]}`))
	})
	s := httptest.NewServer(h)
	defer s.Close()
	p := browser.Open(t)
	p.Go(s.URL + "/")
	p.Until(`document.querySelector("why-this").shadowRoot`)
	p.Eval(`document.querySelector("why-this").toggle()`, nil)
	var images int
	var title, text string
	p.Eval(`document.querySelector("why-this").shadowRoot.querySelectorAll("img").length`, &images)
	p.Eval(`document.title`, &title)
	p.Eval(`document.querySelector("why-this").shadowRoot.querySelector("[role=region]").textContent`, &text)
	if images != 0 || title != "safe" || !strings.Contains(text, "<img") {
		t.Errorf("markup became markup: %d images, title %q", images, title)
	}
	p.Eval(`document.querySelector("#dead").toggle()`, nil)
	p.Eval(`document.querySelector("#dead").shadowRoot.querySelector("[role=status]").textContent`, &text)
	if text != "The reasons cannot be shown now." {
		t.Errorf("a failed look-up says %q", text)
	}
}
