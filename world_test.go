package trefoil_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

const origin = "log.example/dublin-1"

// world is a log in memory with its keys. Its tree is the Go checksum database's own
// implementation, so that nothing here is checked against itself.
type world struct {
	t        testing.TB
	log      note.Signer
	permit   note.Signer
	one, two note.Signer
	trust    *trefoil.Trust

	leaves [][]byte
	stored []tlog.Hash
	signed []byte // the checkpoint that Checkpoint returns
	broken map[string][]byte
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, broken: map[string][]byte{}}
	var logV, permitV note.Verifier
	w.log, logV, _ = witnesstest.Key(t, origin)
	w.permit, permitV, _ = witnesstest.Key(t, "monitor.example/permit")
	w.trust = &trefoil.Trust{Log: logV, Permit: permitV}
	w.one = w.witness("monitor.example/witness")
	w.two = w.witness("other.example/witness")
	return w
}

// witness makes a witness key and trusts it.
func (w *world) witness(name string) note.Signer {
	w.t.Helper()
	s, vkey := witnesstest.WitnessKey(w.t, name)
	v, err := trefoil.NewWitnessVerifier(vkey)
	if err != nil {
		w.t.Fatal(err)
	}
	w.trust.Witnesses = append(w.trust.Witnesses, v)
	return s
}

// ReadHashes implements tlog.HashReader.
func (w *world) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = w.stored[x]
	}
	return out, nil
}

func (w *world) add(leaf []byte) uint64 {
	w.t.Helper()
	n := int64(len(w.leaves))
	hashes, err := tlog.StoredHashes(n, leaf, w)
	if err != nil {
		w.t.Fatal(err)
	}
	w.stored = append(w.stored, hashes...)
	w.leaves = append(w.leaves, leaf)
	return uint64(n)
}

// addOthers fills the tree with n leaves of other records.
func (w *world) addOthers(n int) {
	for i := range n {
		w.add(trefoil.Record{Body: fmt.Appendf(nil, "other %d", i), Salt: make([]byte, 32)}.Leaf())
	}
}

// text is the checkpoint's text at a size.
func (w *world) text(name string, size int) string {
	w.t.Helper()
	root, err := tlog.TreeHash(int64(size), w)
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf("%s\n%d\n%s\n", name, size, root)
}

func sign(t testing.TB, text string, signers ...note.Signer) []byte {
	t.Helper()
	out, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// checkpoint signs and cosigns the tree as it is.
func (w *world) checkpoint() []byte {
	w.t.Helper()
	return sign(w.t, w.text(origin, len(w.leaves)), w.log, w.one, w.two)
}

func (w *world) proof(index uint64, cp []byte) *trefoil.Proof {
	w.t.Helper()
	path, err := tlog.ProveRecord(int64(len(w.leaves)), int64(index), w)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &trefoil.Proof{Index: index, Checkpoint: cp}
	for _, h := range path {
		p.Hashes = append(p.Hashes, h)
	}
	return p
}

// Checkpoint implements trefoil.Fetcher.
func (w *world) Checkpoint(context.Context) ([]byte, error) { return w.signed, nil }

// Tile implements trefoil.Fetcher.
func (w *world) Tile(_ context.Context, level int, index uint64, width int) ([]byte, error) {
	if data, ok := w.broken[trefoil.TilePath(level, index, width)]; ok {
		return data, nil
	}
	return tlog.ReadTileData(tlog.Tile{H: 8, L: level, N: int64(index), W: width}, w)
}

// Entries implements trefoil.Fetcher.
func (w *world) Entries(_ context.Context, index uint64, width int) ([]byte, error) {
	if data, ok := w.broken[trefoil.EntriesPath(index, width)]; ok {
		if data == nil {
			return nil, trefoil.ErrNotFound
		}
		return data, nil
	}
	var b bytes.Buffer
	for _, leaf := range w.leaves[index*256 : index*256+uint64(width)] {
		b.Write([]byte{byte(len(leaf) >> 8), byte(len(leaf))})
		b.Write(leaf)
	}
	return b.Bytes(), nil
}

// release is a release record of this log.
func release(t testing.TB, change func(*trefoil.Body)) trefoil.Record {
	t.Helper()
	b := &trefoil.Body{At: time.Now(), Kind: trefoil.KindRelease, Origin: origin, Release: &trefoil.ReleaseBody{Rows: 3, Bytes: 100, Outcome: "complete"}}
	if change != nil {
		change(b)
	}
	r, err := trefoil.NewRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// receipt puts r into the tree between others and makes its receipt, permit included.
func (w *world) receipt(r trefoil.Record) *trefoil.Receipt {
	w.t.Helper()
	w.addOthers(5)
	index := w.add(r.Leaf())
	w.addOthers(7)
	return &trefoil.Receipt{Record: r, Proof: w.proof(index, w.checkpoint()).String(), Permit: w.permitFor(index, r, nil)}
}

func (w *world) permitFor(index uint64, r trefoil.Record, change func(*trefoil.Permit)) string {
	w.t.Helper()
	p := trefoil.Permit{Origin: origin, Index: index, Leaf: trefoil.LeafHash(r.Leaf()), Expires: time.Now().Add(time.Minute)}
	if change != nil {
		change(&p)
	}
	text, err := trefoil.SignPermit(p, w.permit)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// noteOf signs text with the permit key; "" if it is no text of a note.
func noteOf(text string, w *world) string {
	out, err := note.Sign(&note.Note{Text: text}, w.permit)
	if err != nil {
		return ""
	}
	return string(out)
}
