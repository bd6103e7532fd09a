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
