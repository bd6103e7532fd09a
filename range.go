package trefoil

import (
	"context"
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

// RangeProof shows that a run of leaves, none left out, is what a log holds from Begin on: the
// hashes of the largest whole subtrees before and after it, from left to right. With the leaves
// they give the checkpoint's root.
type RangeProof struct {
	Begin uint64     `json:"begin"`
	Left  [][32]byte `json:"left"`
	Right [][32]byte `json:"right"`
}

// ProveRange computes from the log's tiles the proof of the leaves from begin up to, and
// without, end.
func ProveRange(ctx context.Context, f Fetcher, c *Checkpoint, begin, end uint64) (*RangeProof, error) {
	if begin > end || end > c.Size {
		return nil, fmt.Errorf("prove range: %d to %d of a tree of %d", begin, end, c.Size)
	}
	p := &RangeProof{Begin: begin}
	r := tileHashes(ctx, f, c.Size)
	for _, part := range []struct {
		from, to uint64
		into     *[][32]byte
	}{{0, begin, &p.Left}, {end, c.Size, &p.Right}} {
		nodes := compact.RangeNodes(part.from, part.to, nil)
		indexes := make([]int64, len(nodes))
		for i, n := range nodes {
			indexes[i] = tlog.StoredHashIndex(int(n.Level), int64(n.Index))
		}
		hashes, err := r.ReadHashes(indexes)
		if err != nil {
			return nil, fmt.Errorf("prove range: %w", err)
		}
		for _, h := range hashes {
			*part.into = append(*part.into, h)
		}
	}
	return p, nil
}

// VerifyRange checks that leafHashes (RFC 6962) are all that c's tree holds from p.Begin up
// to, and without, p.Begin + len(leafHashes). Its errors are *VerifyError.
func VerifyRange(c *Checkpoint, p *RangeProof, leafHashes [][32]byte) error {
	end := p.Begin + uint64(len(leafHashes))
	if end < p.Begin || end > c.Size {
		return failed(ReasonInclusion, "%d records from %d on are more than a tree of %d holds", len(leafHashes), p.Begin, c.Size)
	}
	root, err := rangeRoot(c.Size, p, leafHashes)
	if err != nil {
		return failed(ReasonInclusion, "the proof of a range has not the hashes that belong in it")
	}
	if root != c.Root {
		return failed(ReasonInclusion, "these %d records are not what the tree of size %d holds from %d on", len(leafHashes), c.Size, p.Begin)
	}
	return nil
}

func rangeRoot(size uint64, p *RangeProof, leafHashes [][32]byte) (root [32]byte, err error) {
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	slices := func(hashes [][32]byte) [][]byte {
		out := make([][]byte, len(hashes))
		for i := range hashes {
			out[i] = hashes[i][:]
		}
		return out
	}
	all, err := factory.NewRange(0, p.Begin, slices(p.Left))
	if err != nil {
		return root, err
	}
	for i := range leafHashes {
		if err := all.Append(leafHashes[i][:], nil); err != nil {
			return root, err
		}
	}
	rest, err := factory.NewRange(all.End(), size, slices(p.Right))
	if err != nil {
		return root, err
	}
	if err := all.AppendRange(rest, nil); err != nil {
		return root, err
	}
	if size == 0 {
		copy(root[:], rfc6962.DefaultHasher.EmptyRoot())
		return root, nil
	}
	raw, err := all.GetRootHash(nil)
	if err != nil || len(raw) != len(root) {
		return root, errors.New("no root")
	}
	copy(root[:], raw)
	return root, nil
}
