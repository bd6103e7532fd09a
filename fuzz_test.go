package trefoil_test

import (
	"bytes"
	"testing"

	"github.com/trefoil-eu/trefoil"
)

// FuzzDecodeBody: what decodes has one spelling.
func FuzzDecodeBody(f *testing.F) {
	for _, kind := range kinds {
		enc, err := trefoil.EncodeBody(fullBody(f, kind))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := trefoil.DecodeBody(data)
		if err != nil {
			return
		}
		again, err := trefoil.EncodeBody(b)
		if err != nil || !bytes.Equal(data, again) {
			t.Fatalf("two spellings of one body: %q and %q (%v)", data, again, err)
		}
	})
}

// FuzzParseProof: what parses is written back the same, but for the extra line.
func FuzzParseProof(f *testing.F) {
	w := newWorld(f)
	w.addOthers(20)
	f.Add(w.proof(3, w.checkpoint()).String())
	f.Add("c2sp.org/tlog-proof@v1\nextra aGVsbG8=\nindex 0\n\no\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— o AAAAAAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := trefoil.ParseProof(text)
		if err != nil {
			return
		}
		q, err := trefoil.ParseProof(p.String())
		if err != nil || q.String() != p.String() {
			t.Fatalf("a proof does not survive its own text: %v", err)
		}
		_, _ = w.trust.VerifyProof(p, w.leaves[3])
	})
}

// FuzzParseReceipt: what parses is written back byte for byte, and verifies only if it is
// the receipt that was made.
func FuzzParseReceipt(f *testing.F) {
	w := newWorld(f)
	good, err := w.receipt(release(f, nil)).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("trefoil.eu/receipt/v1\nsalt \nbody \nBEGIN PROOF\n\nEND PROOF\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := trefoil.ParseReceipt(data)
		if err != nil {
			return
		}
		if again, err := r.Marshal(); err == nil && !bytes.Equal(again, data) {
			t.Fatal("two spellings of one receipt")
		}
		if b, err := w.trust.VerifyReceipt(r); err == nil && b.Release.Rows != 3 {
			t.Fatal("a forged receipt verifies")
		}
	})
}

// FuzzOpenPermit signs arbitrary texts with the permit key: only a permit in its one form opens.
func FuzzOpenPermit(f *testing.F) {
	w := newWorld(f)
	good := w.permitFor(5, release(f, nil), nil)
	f.Add(good[:bytes.Index([]byte(good), []byte("\n\n"))+1])
	f.Add("trefoil.eu/permit/v1\no\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n2026-01-01T00:00:00Z\n0\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = trefoil.OpenPermit(text, w.trust.Permit)
		n := noteOf(text, w)
		if n == "" {
			return
		}
		p, err := trefoil.OpenPermit(n, w.trust.Permit)
		if err != nil {
			return
		}
		again, err := trefoil.SignPermit(p, w.permit)
		if err != nil || again != n {
			t.Fatalf("two spellings of one permit: %v", err)
		}
	})
}

// FuzzParseCheckpoint: what parses has an origin, and hostile signatures are never believed.
func FuzzParseCheckpoint(f *testing.F) {
	w := newWorld(f)
	w.addOthers(3)
	good := w.checkpoint()
	f.Add(good)
	f.Add([]byte("o\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— o AAAAAAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := trefoil.ParseCheckpoint(data)
		if err == nil && c.Origin == "" {
			t.Fatal("a checkpoint without an origin")
		}
		if v, err := w.trust.VerifyCheckpoint(data); err == nil && v.Size != 3 {
			t.Fatal("a forged checkpoint verifies")
		}
	})
}

// FuzzSplitEntries: what splits is the bundle and nothing else.
func FuzzSplitEntries(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0}, 2)
	f.Add([]byte{255, 255}, 1)
	f.Fuzz(func(t *testing.T, bundle []byte, width int) {
		width &= 0x1ff
		entries, err := trefoil.SplitEntries(bundle, width)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = append(append(again, byte(len(e)>>8), byte(len(e))), e...)
		}
		if len(entries) != width || !bytes.Equal(again, bundle) {
			t.Fatal("entries are not the bundle")
		}
	})
}
