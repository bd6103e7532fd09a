// Package witnesstest is a C2SP tlog-witness inside a test: it can go away, answer late, or forge
// its cosignature, on demand.
//
// The invariant it keeps: unless told to misbehave it cosigns only what is consistent with
// what it cosigned before. It keeps its state in memory; the real witness is the monitor's.
package witnesstest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
)

// Witness is one running witness.
type Witness struct {
	URL  string // prefix of add-checkpoint
	VKey string // cosignature/v1 verifier key

	signer note.Signer
	log    note.Verifier
	server *http.Server

	mu     sync.Mutex
	latest trefoil.Checkpoint
	mode   Mode
	delay  time.Duration
	asked  int
}

// Mode is how a witness behaves.
type Mode int

// The modes. Honest is the zero value.
const (
	Honest Mode = iota
	Away        // answers 503 at once
	Silent      // accepts the request and never answers
	Forged      // answers with a cosignature whose bytes were changed
)

// Key makes a fresh key pair for a log or a permit (Ed25519 signed note).
func Key(t testing.TB, name string) (note.Signer, note.Verifier, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return s, v, vkey
}

// WitnessKey makes a fresh cosignature/v1 key pair.
func WitnessKey(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, vkey, err := witnessKey(name, pub, priv)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func witnessKey(name string, pub ed25519.PublicKey, priv ed25519.PrivateKey) (note.Signer, string, error) {
	plain, err := note.NewEd25519VerifierKey(name, pub)
	if err != nil {
		return nil, "", err
	}
	vkey, err := fnote.VKeyToCosignatureV1(plain)
	if err != nil {
		return nil, "", err
	}
	hash := strings.Split(plain, "+")[1]
	seed := base64.StdEncoding.EncodeToString(append([]byte{1}, priv.Seed()...))
	s, err := fnote.NewSignerForCosignatureV1("PRIVATE+KEY+" + name + "+" + hash + "+" + seed)
	return s, vkey, err
}

// Start runs a witness of one log until the test ends.
func Start(t testing.TB, name string, log note.Verifier) *Witness {
	t.Helper()
	signer, vkey := WitnessKey(t, name)
	w := &Witness{VKey: vkey, signer: signer, log: log}
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	w.URL = s.URL
	return w
}

// New makes a witness that listens on nothing yet, at an address of its own: see Listen.
func New(t testing.TB, name string, log note.Verifier) *Witness {
	t.Helper()
	signer, vkey := WitnessKey(t, name)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Witness{VKey: vkey, signer: signer, log: log, URL: "http://" + l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// Listen starts a witness that New made.
func (w *Witness) Listen(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", strings.TrimPrefix(w.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = w.server.Close()
		<-done
	})
}

// Set changes how the witness behaves and how long each answer takes.
func (w *Witness) Set(m Mode, delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mode, w.delay = m, delay
}

// Asked is how many requests came so far.
func (w *Witness) Asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

// Latest is the size of the last tree that it cosigned.
func (w *Witness) Latest() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest.Size
}

func (w *Witness) sign(cp []byte) ([]byte, error) {
	text, _, ok := bytes.Cut(cp, []byte("\n\n"))
	if !ok {
		return nil, errors.New("not a signed note")
	}
	n, err := note.Sign(&note.Note{Text: string(text) + "\n"}, w.signer)
	if err != nil {
		return nil, err
	}
	_, line, _ := bytes.Cut(n, []byte("\n\n"))
	return line, nil
}

// ServeHTTP is POST /add-checkpoint (C2SP tlog-witness).
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.asked++
	mode, delay := w.mode, w.delay
	w.mu.Unlock()
	time.Sleep(delay)
	switch {
	case r.URL.Path != "/add-checkpoint" || r.Method != http.MethodPost:
		http.NotFound(rw, r)
		return
	case mode == Away:
		http.Error(rw, "away", http.StatusServiceUnavailable)
		return
	case mode == Silent:
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(rw, "cannot read", http.StatusBadRequest)
		return
	}
	w.answer(rw, raw, mode)
}

func (w *Witness) answer(rw http.ResponseWriter, raw []byte, mode Mode) {
	old, path, cp, err := parseRequest(raw)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	trust := trefoil.Trust{Log: w.log, Quorum: -1}
	c, err := trust.VerifyCheckpoint(cp)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusForbidden)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if status := w.consistent(old, path, c); status != http.StatusOK {
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(status)
		fmt.Fprintf(rw, "%d\n", w.latest.Size)
		return
	}
	w.latest = *c
	line, err := w.sign(cp)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	if mode == Forged {
		i := len(line) - 10
		line[i] ^= 'a' ^ 'b'
	}
	_, _ = rw.Write(line)
}

// consistent is what makes a witness one. w.mu is held.
func (w *Witness) consistent(old uint64, path [][32]byte, c *trefoil.Checkpoint) int {
	switch {
	case old > c.Size:
		return http.StatusBadRequest
	case old != w.latest.Size:
		return http.StatusConflict
	case old == 0:
		return http.StatusOK
	}
	before := w.latest
	before.Origin = c.Origin
	if trefoil.VerifyConsistency(&before, c, path) != nil {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}

func parseRequest(raw []byte) (old uint64, path [][32]byte, cp []byte, err error) {
	head, cp, ok := bytes.Cut(raw, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	size, isOld := strings.CutPrefix(lines[0], "old ")
	if !ok || !isOld {
		return 0, nil, nil, errors.New("not an add-checkpoint request")
	}
	if old, err = strconv.ParseUint(size, 10, 63); err != nil {
		return 0, nil, nil, errors.New("old size is not a number")
	}
	for _, l := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(l)
		if err != nil || len(h) != 32 {
			return 0, nil, nil, errors.New("a hash is malformed")
		}
		path = append(path, [32]byte(h))
	}
	return old, path, cp, nil
}
