package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// TestTheClientSignsWhatItWasShown: each call carries a signature of this method, path and body;
// a request that is not the one asked for, or not that of its hash, is not signed.
func TestTheClientSignsWhatItWasShown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	vkey, err := monitor.NewKey(monitor.UseApprover, "dpo", file)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	id, hash, now := strings.Repeat("1", 32), strings.Repeat("a", 64), time.Now()
	real := grant.New(grant.KindRequest, grant.Request{Dataset: "care", Definition: hash, From: now, Until: now.Add(time.Hour), ID: id,
		Policy: hash, Principal: "ann", Purpose: "support", Reason: hash}, "ann", now).Request
	show := enclave.GrantView{Request: real, Hash: real.Hash()}
	var envelope string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c, _, err := grant.OpenCall(r.Header.Get(grant.CallField), []note.Verifier{v})
		if err != nil || c != grant.NewCall("shop/log", r.Method, r.URL.RequestURI(), c.Nonce, body, c.At) {
			t.Errorf("%s %s is signed as %+v: %v", r.Method, r.URL, c, err)
		}
		if r.Method == http.MethodGet {
			_ = json.NewEncoder(w).Encode(show)
			return
		}
		var sent struct{ Envelope string }
		if err := json.Unmarshal(body, &sent); err != nil {
			t.Error(err)
		}
		envelope = sent.Envelope
		_ = json.NewEncoder(w).Encode(enclave.Answered{Request: real, Kind: grant.KindApproval, By: "dpo", Granted: true})
	}))
	defer server.Close()
	c := &grantsClient{url: server.URL, enclave: "shop/log", keyFile: file}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	got, err := c.fetch(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := c.answer(t.Context(), got, grant.KindApproval, ""); err != nil || !a.Granted {
		t.Fatalf("%+v %v", a, err)
	}
	s, err := grant.Open(envelope, []grant.Approver{{Name: "dpo", Verifier: v}})
	if err != nil || s.CheckAnswers(real) != nil || s.Envelope.Kind != grant.KindApproval {
		t.Errorf("signed %+v: %v", s, err)
	}
	if _, err := c.fetch(t.Context(), strings.Repeat("2", 32)); err == nil {
		t.Error("another request than was asked for was taken")
	}
	show.Request.Until = show.Request.Until.Add(time.Hour)
	if _, err := c.fetch(t.Context(), id); err == nil {
		t.Error("a request that is not that of its hash was taken")
	}
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"error":"nobody approves their own request"}`)
	})
	if _, err := c.fetch(t.Context(), id); err == nil || !strings.Contains(err.Error(), "nobody approves their own request") {
		t.Errorf("a refusal: %v", err)
	}
}

// TestTheClientTakesNoOtherRequestThanItsOwn: what the ticket system shows approvers is what it asked for.
func TestTheClientTakesNoOtherRequestThanItsOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if _, err := monitor.NewKey(monitor.UseApprover, "tickets", file); err != nil {
		t.Fatal(err)
	}
	hash, now := strings.Repeat("a", 64), time.Now()
	honest := grant.New(grant.KindRequest, grant.Request{Dataset: "care", Definition: hash, From: now, Until: now.Add(time.Hour), ID: strings.Repeat("1", 32),
		Policy: hash, Principal: "ann", Purpose: "support", Reason: hash}, "ann", now).Request
	show := enclave.GrantView{Request: honest, Hash: honest.Hash()}
	var asked map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/grants" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(show)
	}))
	defer server.Close()
	c := &grantsClient{url: server.URL, enclave: "shop/log", keyFile: file}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	ask := enclave.Ask{Principal: "ann", Dataset: "care", For: time.Hour, Reason: "ticket 1", Subjects: []string{"7"}}
	if q, err := c.ask(t.Context(), ask); err != nil || q.ID != honest.ID {
		t.Fatalf("%+v %v", q, err)
	}
	if asked["principal"] != "ann" || asked["for"] != "1h0m0s" || asked["reason"] != "ticket 1" {
		t.Errorf("asked %v", asked)
	}
	for name, alter := range map[string]func(*enclave.GrantView){
		"for somebody else":  func(v *enclave.GrantView) { v.Request.Principal = "bob"; v.Hash = v.Request.Hash() },
		"of another dataset": func(v *enclave.GrantView) { v.Request.Dataset = "all"; v.Hash = v.Request.Hash() },
		"of another hash":    func(v *enclave.GrantView) { v.Hash = hash },
	} {
		show = enclave.GrantView{Request: honest, Hash: honest.Hash()}
		alter(&show)
		if _, err := c.ask(t.Context(), ask); err == nil {
			t.Errorf("a request %s was taken", name)
		}
	}
}
