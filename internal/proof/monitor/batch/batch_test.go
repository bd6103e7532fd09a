package batch

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"testing"
)

// signed are n messages of one key, made from a fixed seed.
func signed(n int) (*Key, ed25519.PublicKey, []Item) {
	seed := make([]byte, ed25519.SeedSize)
	private := ed25519.NewKeyFromSeed(seed)
	public := private.Public().(ed25519.PublicKey)
	items := make([]Item, n)
	for i := range items {
		m := fmt.Appendf(nil, "message %d", i)
		items[i] = Item{m, ed25519.Sign(private, m)}
	}
	k, err := NewKey(public)
	if err != nil {
		panic(err)
	}
	return k, public, items
}

func TestGoodSignaturesPass(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 64, 200} {
		k, _, items := signed(n)
		if !k.Good(items) {
			t.Errorf("%d good signatures do not pass", n)
		}
	}
}

// TestOneForgedSignatureAmongMany alters each part of one signature of a batch.
func TestOneForgedSignatureAmongMany(t *testing.T) {
	for bit := range 512 {
		k, _, items := signed(9)
		items[4].Signature[bit/8] ^= 1 << (bit % 8)
		if k.Good(items) {
			t.Fatalf("bit %d of a signature altered, and the batch passes", bit)
		}
	}
	for name, change := range map[string]func(items []Item){
		"another message":   func(items []Item) { items[3].Message = []byte("x") },
		"signatures turned": func(items []Item) { items[1].Signature, items[2].Signature = items[2].Signature, items[1].Signature },
		"too short":         func(items []Item) { items[0].Signature = items[0].Signature[:63] },
		"none":              func(items []Item) { items[0].Signature = nil },
		"errors that cancel": func(items []Item) { // s+1 in one, s-1 in another: a plain sum would not see it
			items[1].Signature[32]++
			items[2].Signature[32]--
		},
	} {
		k, _, items := signed(9)
		change(items)
		if k.Good(items) {
			t.Errorf("%s: the batch passes", name)
		}
	}
	k, _, _ := signed(0)
	other := ed25519.NewKeyFromSeed([]byte("another seed of thirty-two bytes"))
	if k.Good([]Item{{[]byte("m"), ed25519.Sign(other, []byte("m"))}}) {
		t.Error("another key's signature passes")
	}
}

// TestSpellingsThatAreNoSignature: s + L is the same scalar, y + p the same point.
func TestSpellingsThatAreNoSignature(t *testing.T) {
	order, err := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	if err != nil {
		t.Fatal(err)
	}
	k, _, items := signed(1)
	carry := 0
	for i := range order {
		sum := int(items[0].Signature[32+i]) + int(order[i]) + carry
		items[0].Signature[32+i], carry = byte(sum), sum>>8
	}
	if k.Good(items) {
		t.Error("a scalar beyond the group's order passes")
	}
	point := make([]byte, 32)
	for i := range point {
		point[i] = 0xff
	}
	point[31] = 0x7f
	for _, c := range []struct {
		first byte
		want  bool
	}{{0xec, true}, {0xed, false}, {0xee, false}, {0xff, false}} {
		point[0] = c.first
		if reduced(point) != c.want {
			t.Errorf("y that begins with %x: %v", c.first, !c.want)
		}
	}
}

func FuzzGood(f *testing.F) {
	_, public, items := signed(2)
	f.Add(items[0].Message, items[0].Signature, []byte(public))
	f.Add(items[0].Message, items[1].Signature, []byte(public))
	f.Fuzz(func(t *testing.T, message, signature, public []byte) {
		if len(public) != ed25519.PublicKeySize {
			return
		}
		k, err := NewKey(public)
		if err != nil {
			return
		}
		alone := len(signature) == ed25519.SignatureSize && ed25519.Verify(public, message, signature)
		if alone && !k.Good([]Item{{message, signature}}) {
			t.Error("a signature that crypto/ed25519 takes does not pass")
		}
	})
}

func BenchmarkGood(b *testing.B) {
	k, public, items := signed(128)
	b.Run("batch", func(b *testing.B) {
		for b.Loop() {
			if !k.Good(items) {
				b.Fatal("bad")
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(items)), "ns/signature")
	})
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			ed25519.Verify(public, items[0].Message, items[0].Signature)
		}
	})
}
