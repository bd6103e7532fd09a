package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// witness cosigns every checkpoint that it is sent. It checks nothing: it stands for the
// monitor, whose work is another machine's and not measured here.
type witness struct {
	url, key string
	server   *http.Server
	signer   note.Signer
}

func startWitness() (*witness, error) {
	const name = "bench.invalid/witness"
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	plain, err := note.NewEd25519VerifierKey(name, pub)
	if err != nil {
		return nil, err
	}
	w := &witness{}
	if w.key, err = fnote.VKeyToCosignatureV1(plain); err != nil {
		return nil, err
	}
	seed := base64.StdEncoding.EncodeToString(append([]byte{1}, priv.Seed()...))
	if w.signer, err = fnote.NewSignerForCosignatureV1("PRIVATE+KEY+" + name + "+" + strings.Split(plain, "+")[1] + "+" + seed); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.url = fmt.Sprintf("http://%s/", l.Addr())
	w.server = &http.Server{Handler: w}
	go func() { _ = w.server.Serve(l) }()
	return w, nil
}

// ServeHTTP implements C2SP tlog-witness's add-checkpoint.
func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(rw, "unreadable", http.StatusBadRequest)
		return
	}
	_, checkpoint, _ := strings.Cut(string(b), "\n\n")
	text, _, ok := strings.Cut(checkpoint, "\n\n")
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, w.signer)
	if !ok || err != nil {
		http.Error(rw, "not a checkpoint", http.StatusBadRequest)
		return
	}
	_, signature, _ := strings.Cut(string(signed), "\n\n")
	_, _ = io.WriteString(rw, signature)
}
