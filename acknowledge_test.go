package trefoil_test

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"golang.org/x/mod/sumdb/note"
)

// TestAcknowledgementForgedOrAltered opens what was signed and nothing else.
func TestAcknowledgementForgedOrAltered(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "monitor.example/permit")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	a := trefoil.Acknowledgement{Dataset: "analytics", Definition: strings.Repeat("a", 64), Class: "pseudonymised",
		Origin: "log.example", At: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	text, err := trefoil.SignAcknowledgement(a, signer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := trefoil.OpenAcknowledgement(text, v)
	if err != nil || got != a {
		t.Fatalf("OpenAcknowledgement = %+v, %v; want %+v", got, err, a)
	}
	if _, err := trefoil.OpenAcknowledgement(strings.Replace(text, "analytics", "support", 1), v); err == nil {
		t.Error("altered acknowledgement opened")
	}
	if _, err := trefoil.SignAcknowledgement(trefoil.Acknowledgement{Dataset: "a\nb"}, signer); err == nil {
		t.Error("signed a field with a line break")
	}
}
