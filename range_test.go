package trefoil_test

import (
	"context"
	"slices"
	"testing"

	"github.com/trefoil-eu/trefoil"
)

func leafHashes(w *world, begin, end uint64) [][32]byte {
	var out [][32]byte
	for _, leaf := range w.leaves[begin:end] {
		out = append(out, trefoil.LeafHash(leaf))
	}
	return out
}

// parsed is the checkpoint of the tree as it is.
func (w *world) parsed() *trefoil.Checkpoint {
	w.t.Helper()
	c, err := w.trust.VerifyCheckpoint(w.checkpoint())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestEveryRangeOfATreeIsProved(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{1, 2, 3, 7, 8, 13, 21} {
		w.addOthers(size - len(w.leaves))
		c := w.parsed()
		for begin := range uint64(size) + 1 {
			for end := begin; end <= uint64(size); end++ {
				p, err := trefoil.ProveRange(context.Background(), w, c, begin, end)
				if err != nil {
					t.Fatalf("prove %d to %d of %d: %v", begin, end, size, err)
				}
				if err := trefoil.VerifyRange(c, p, leafHashes(w, begin, end)); err != nil {
					t.Errorf("%d to %d of %d: %v", begin, end, size, err)
				}
			}
		}
	}
}

func TestRangeOverManyTiles(t *testing.T) {
	w := newWorld(t)
	w.addOthers(3*256 + 70)
	c := w.parsed()
	p, err := trefoil.ProveRange(context.Background(), w, c, 250, 600)
	if err != nil {
		t.Fatal(err)
	}
	if err := trefoil.VerifyRange(c, p, leafHashes(w, 250, 600)); err != nil {
		t.Error(err)
	}
}

// TestARangeWithAGapDoesNotVerify: who leaves a record out, adds, swaps or moves one, or calls
// the range another, is found.
func TestARangeWithAGapDoesNotVerify(t *testing.T) {
	w := newWorld(t)
	w.addOthers(21)
	c := w.parsed()
	const begin, end = 5, 17
	honest := leafHashes(w, begin, end)
	for name, tamper := range map[string]func(p *trefoil.RangeProof, l [][32]byte) [][32]byte{
		"one left out in the middle": func(_ *trefoil.RangeProof, l [][32]byte) [][32]byte { return slices.Delete(l, 4, 5) },
		"the first left out":         func(_ *trefoil.RangeProof, l [][32]byte) [][32]byte { return l[1:] },
		"the first left out, and begin moved": func(p *trefoil.RangeProof, l [][32]byte) [][32]byte {
			p.Begin++
			return l[1:]
		},
		"the last left out": func(_ *trefoil.RangeProof, l [][32]byte) [][32]byte { return l[:len(l)-1] },
		"one put in":        func(_ *trefoil.RangeProof, l [][32]byte) [][32]byte { return slices.Insert(l, 3, l[3]) },
		"two swapped": func(_ *trefoil.RangeProof, l [][32]byte) [][32]byte {
			l[2], l[3] = l[3], l[2]
			return l
		},
		"one altered": func(_ *trefoil.RangeProof, l [][32]byte) [][32]byte {
			l[2][0] ^= 1
			return l
		},
		"said to begin earlier": func(p *trefoil.RangeProof, l [][32]byte) [][32]byte {
			p.Begin--
			return l
		},
		"begin that overflows": func(p *trefoil.RangeProof, l [][32]byte) [][32]byte {
			p.Begin = 1<<64 - 3
			return l
		},
		"hash on the left dropped": func(p *trefoil.RangeProof, l [][32]byte) [][32]byte {
			p.Left = p.Left[1:]
			return l
		},
		"hash on the right altered": func(p *trefoil.RangeProof, l [][32]byte) [][32]byte {
			p.Right[0][7] ^= 1
			return l
		},
	} {
		p, err := trefoil.ProveRange(context.Background(), w, c, begin, end)
		if err != nil {
			t.Fatal(err)
		}
		if trefoil.VerifyRange(c, p, tamper(p, slices.Clone(honest))) == nil {
			t.Errorf("%s: verifies", name)
		}
	}
}
