package release

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	trefoil "github.com/trefoil-eu/trefoil"
)

const testOrigin = "log.test/release"

// fakeLog is a log, its witness and the monitor in memory, with real signatures and real
// proofs, and a place for a fault at every step.
type fakeLog struct {
	logKey, witnessKey, permitKey note.Signer
	trust                         *trefoil.Trust

	mu      sync.Mutex
	leaves  [][]byte
	bodies  []*trefoil.Body
	permits map[uint64]string
	epoch   uint64

	// Faults. Each is asked with the record's body.
	onAppend  func(*trefoil.Body) error
	onWitness func(context.Context, *trefoil.Body, *trefoil.Proof) error
	onPermit  func(context.Context, *trefoil.Body, *trefoil.Permit) (*trefoil.NoteReason, error)
	onStore   func() error
	delay     time.Duration
}

func newFakeLog(t testing.TB) *fakeLog {
	t.Helper()
	key := func(name string) (note.Signer, string) {
		skey, vkey, err := note.GenerateKey(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := note.NewSigner(skey)
		if err != nil {
			t.Fatal(err)
		}
		return s, vkey
	}
	f := &fakeLog{permits: map[uint64]string{}}
	var logV, permitV string
	f.logKey, logV = key(testOrigin)
	f.permitKey, permitV = key("monitor.test/permit")
	skey, vkey, err := note.GenerateKey(nil, "monitor.test/witness")
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := fnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	f.witnessKey = cosigner
	_ = vkey
	f.trust, err = trefoil.ParseTrust(logV, []string{permitV})
	if err != nil {
		t.Fatal(err)
	}
	f.trust.Witnesses = []note.Verifier{cosigner.Verifier()}
	return f
}

type fakeTicket struct {
	f     *fakeLog
	index uint64
	body  *trefoil.Body
}

func (f *fakeLog) Append(ctx context.Context, r trefoil.Record, opening []byte) (Ticket, error) {
	body, err := trefoil.DecodeBody(r.Body)
	if err != nil {
		return nil, err
	}
	if f.onAppend != nil {
		if err := f.onAppend(body); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaves = append(f.leaves, r.Leaf())
	f.bodies = append(f.bodies, body)
	return &fakeTicket{f, uint64(len(f.leaves) - 1), body}, nil
}

func (t *fakeTicket) Witnessed(ctx context.Context) (*trefoil.Proof, error) {
	select {
	case <-time.After(t.f.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t.f.mu.Lock()
	hashes := make([][32]byte, len(t.f.leaves))
	for i, l := range t.f.leaves {
		hashes[i] = trefoil.LeafHash(l)
	}
	t.f.mu.Unlock()
	root := treeHash(hashes)
	text := fmt.Sprintf("%s\n%d\n%s\n", testOrigin, len(hashes), base64.StdEncoding.EncodeToString(root[:]))
	cp, err := note.Sign(&note.Note{Text: text}, t.f.logKey, t.f.witnessKey)
	if err != nil {
		return nil, err
	}
	p := &trefoil.Proof{Index: t.index, Hashes: inclusion(int(t.index), hashes), Checkpoint: cp}
	if t.f.onWitness != nil {
		if err := t.f.onWitness(ctx, t.body, p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (f *fakeLog) StorePermit(index uint64, permit string) error {
	if f.onStore != nil {
		if err := f.onStore(); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.permits[index] = permit
	return nil
}

func (f *fakeLog) Permit(ctx context.Context, r trefoil.PermitRequest) (trefoil.PermitAnswer, error) {
	rec := trefoil.Record{Body: r.Body, Salt: r.Salt}
	proof, err := trefoil.ParseProof(r.Proof)
	if err != nil {
		return trefoil.PermitAnswer{}, err
	}
	if _, err := f.trust.VerifyProof(proof, rec.Leaf()); err != nil {
		return trefoil.PermitAnswer{}, err
	}
	body, err := trefoil.DecodeBody(r.Body)
	if err != nil {
		return trefoil.PermitAnswer{}, err
	}
	p := trefoil.Permit{
		Origin: testOrigin, Index: proof.Index, Leaf: trefoil.LeafHash(rec.Leaf()),
		Expires: time.Now().Add(time.Minute).UTC().Truncate(time.Second), StopEpoch: f.epoch,
	}
	if f.onPermit != nil {
		refusal, err := f.onPermit(ctx, body, &p)
		if err != nil || refusal != nil {
			return trefoil.PermitAnswer{Refusal: refusal}, err
		}
	}
	text, err := trefoil.SignPermit(p, f.permitKey)
	return trefoil.PermitAnswer{Permit: text}, err
}

// permitted sums what the permitted records of one kind say.
func (f *fakeLog) permitted() (releases, allowance int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, b := range f.bodies {
		if f.permits[uint64(i)] == "" && !trefoil.Unpermitted(b) {
			continue
		}
		if b.Release != nil {
			releases += b.Release.Bytes
		}
		if b.Session != nil && b.Session.Event == "start" {
			allowance += b.Session.Allowance
		}
	}
	return releases, allowance
}

func (f *fakeLog) of(k trefoil.Kind) []*trefoil.Body {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*trefoil.Body
	for _, b := range f.bodies {
		if b.Kind == k {
			out = append(out, b)
		}
	}
	return out
}

func (f *fakeLog) releases() []*trefoil.ReleaseBody {
	var out []*trefoil.ReleaseBody
	for _, b := range f.of(trefoil.KindRelease) {
		out = append(out, b.Release)
	}
	return out
}

// end waits for the end record of a session.
func (f *fakeLog) end(t testing.TB) *trefoil.SessionBody {
	t.Helper()
	for range 1000 {
		for _, b := range f.of(trefoil.KindSession) {
			if b.Session.Event == "end" {
				return b.Session
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the session's end was not recorded")
	return nil
}

// treeHash and inclusion are RFC 6962, section 2.1, as it is written.
func treeHash(l [][32]byte) [32]byte {
	if len(l) == 1 {
		return l[0]
	}
	k := split(len(l))
	a, b := treeHash(l[:k]), treeHash(l[k:])
	return sha256.Sum256(append(append([]byte{1}, a[:]...), b[:]...))
}

func inclusion(m int, l [][32]byte) [][32]byte {
	if len(l) == 1 {
		return nil
	}
	k := split(len(l))
	if m < k {
		return append(inclusion(m, l[:k]), treeHash(l[k:]))
	}
	return append(inclusion(m-k, l[k:]), treeHash(l[:k]))
}

func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

var errFault = errors.New("fault")
