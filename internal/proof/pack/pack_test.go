package pack

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
)

func key(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

const logDir = "0123456789abcdef"

// signed makes a pack of a kind whose files hold whatever they are given: the signature is good.
func signed(t testing.TB, kind string, content map[string][]byte) string {
	t.Helper()
	s, vkey := key(t, "monitor.example/statement")
	_, log := key(t, "example.eu/log")
	_, permit := key(t, "monitor.example/permit")
	path := filepath.Join(t.TempDir(), "p.zip")
	w, err := NewWriter(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range content {
		if err := w.Add(name, data); err != nil {
			t.Fatal(err)
		}
	}
	k := Keys{Signer: vkey, MonitorLog: vkey, Witnesses: []string{}, Permit: permit, Logs: []LogKey{{Origin: "example.eu/log", Hash: logDir, Key: log}}}
	if err := w.Finish(Manifest{At: time.Now(), Kind: kind, Name: "m"}, k, s); err != nil {
		t.Fatal(err)
	}
	return path
}

// FuzzContent: a pack that is signed may still say anything. It is refused, and nothing fails.
func FuzzContent(f *testing.F) {
	f.Add(0, []byte(`{"country":"CN","since":"2026-11-22T00:00:00Z","holds":true,"logs":[null]}`), []byte(`{"checkpoint":"","begin":18446744073709551615,"end":0,"left":[],"right":[]}`), []byte("{}\n"))
	f.Add(1, []byte(`{"seed":"12345678","head":"","want":1,"indexes":[{"index":0}]}`), []byte("[]"), []byte("\n"))
	f.Add(2, []byte(`{"findings":0,"by_rule":{},"incidents":0,"rules":"","receipts":[],"absent":[],"sizes":{"example.eu/log":0}}`), []byte(`[{"checkpoint":"x","consistency":["AAAA"]}]`), []byte("{\"leaf\":\"AQ==\"}\n"))
	f.Fuzz(func(t *testing.T, which int, claim, proof, lines []byte) {
		kind := []string{KindOrder, KindDraw, KindEvidence}[uint(which)%3]
		path := signed(t, kind, map[string][]byte{kind + ".json": claim, "logs/" + logDir + "/range.json": proof, "logs/" + logDir + "/heads.json": proof,
			"logs/" + logDir + "/records.jsonl": lines, "findings.jsonl": lines, "incidents.jsonl": lines, "rules.json": proof,
			"own/range.json": proof, "own/records.jsonl": lines, "receipts/" + logDir + "/0": lines})
		var no *trefoil.VerifyError
		if _, err := Verify(path, nil); !errors.As(err, &no) {
			t.Errorf("it holds, or fails otherwise: %v", err)
		}
	})
}

// FuzzZip: no bytes make the reader fail otherwise than by refusing.
func FuzzZip(f *testing.F) {
	raw, err := os.ReadFile(signed(f, KindOrder, map[string][]byte{"order.json": []byte("{}")}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "p.zip")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var no *trefoil.VerifyError
		if _, err := Verify(path, nil); !errors.As(err, &no) {
			t.Errorf("it holds, or fails otherwise: %v", err)
		}
	})
}

func TestPathsThatLeaveThePackAreNone(t *testing.T) {
	for path, want := range map[string]bool{"a": true, "logs/0a/range.json": true, "statements/2026-11-22.note": true, "": false, "..": false, "a/../b": false,
		"/a": false, "a/": false, "a//b": false, `a\b`: false, "A": false, "a\x00": false, ".a": false, "a/.b": false, "a/b/c/d/e/f": false,
		"con:": false, "a b": false, strings.Repeat("x", 90): false} {
		if goodPath(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}

func TestTheListHasOneForm(t *testing.T) {
	h := strings.Repeat("0", 64)
	for text, want := range map[string]bool{
		"":                                    true,
		h + " 1 a\n" + h + " 0 b/c\n":         true,
		h + " 1 b\n" + h + " 0 a\n":           false,
		h + " 1 a\n" + h + " 0 a\n":           false,
		h + " 01 a\n":                         false,
		h + " -1 a\n":                         false,
		h + " 1 a":                            false,
		h + " 9223372036854775807 a\n":        false,
		h + " 1 manifest\n":                   false,
		strings.ToUpper("a"+h[1:]) + " 1 a\n": false,
		h + "  1 a\n":                         false,
		h + " 1 ../a\n":                       false,
	} {
		if _, err := parseList(text); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAnAbortedPackLeavesNothing(t *testing.T) {
	for _, name := range []string{"p", "p.zip"} {
		path := filepath.Join(t.TempDir(), name)
		w, err := NewWriter(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add("a", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Create("b"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Create("../c"); err == nil {
			t.Error("a path out of the pack is written")
		}
		if err := w.Abort(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewWriter(path); err == nil {
			t.Error("a file is replaced")
		}
	}
}
