package trefoil

import (
	"context"
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

// ProveInclusion computes the inclusion path of leaf (an entry as in the log, not its hash)
// at index, from the log's tiles, and checks it against the checkpoint's root.
func ProveInclusion(ctx context.Context, f Fetcher, c *Checkpoint, index uint64, leaf []byte) ([][32]byte, error) {
	if index >= c.Size {
		return nil, fmt.Errorf("prove entry %d: %w: the tree has %d", index, ErrNotFound, c.Size)
	}
	path, err := tlog.ProveRecord(int64(c.Size), int64(index), tileHashes(ctx, f, c.Size))
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", index, err)
	}
	raw, out := make([][]byte, len(path)), make([][32]byte, len(path))
	for i, h := range path {
		raw[i], out[i] = h[:], h
	}
	hash := LeafHash(leaf)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, c.Size, hash[:], raw, c.Root[:]); err != nil {
		return nil, fmt.Errorf("prove entry %d: tiles and checkpoint do not agree on it", index)
	}
	return out, nil
}

// ProveConsistency computes the consistency proof from the tree of size old to c (RFC 6962
// section 2.1.2), as a witness wants it. It is empty for old 0 and for old = c.Size.
func ProveConsistency(ctx context.Context, f Fetcher, c *Checkpoint, old uint64) ([][32]byte, error) {
	if old > c.Size {
		return nil, fmt.Errorf("prove consistency: the tree has %d entries, fewer than %d", c.Size, old)
	}
	if old == 0 || old == c.Size {
		return nil, nil
	}
	path, err := tlog.ProveTree(int64(c.Size), int64(old), tileHashes(ctx, f, c.Size))
	if err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	out := make([][32]byte, len(path))
	for i, h := range path {
		out[i] = h
	}
	return out, nil
}

// VerifyConsistency checks that the tree of newer begins with the tree of older.
func VerifyConsistency(older, newer *Checkpoint, path [][32]byte) error {
	raw := make([][]byte, len(path))
	for i := range path {
		raw[i] = path[i][:]
	}
	switch {
	case older.Origin != newer.Origin:
		return failed(ReasonOrigin, "the checkpoints are of two logs")
	case newer.Size < older.Size:
		return failed(ReasonRewound, "the log had %d entries before and has %d now", older.Size, newer.Size)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, raw, older.Root[:], newer.Root[:]); err != nil {
		return failed(ReasonSplit, "the tree of size %d does not begin with the tree of size %d", newer.Size, older.Size)
	}
	return nil
}

// tileHeight is log2(TileWidth).
const tileHeight = 8

// tileHashes reads stored hashes of the tree of the given size from its tiles.
func tileHashes(ctx context.Context, f Fetcher, size uint64) tlog.HashReader {
	type coordinates struct {
		level int
		index int64
	}
	tiles := map[coordinates][]byte{}
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			t := tlog.TileForIndex(tileHeight, index)
			inLevel := int64(size >> (tileHeight * t.L))
			t.W = int(min(inLevel-t.N*TileWidth, TileWidth))
			at := coordinates{t.L, t.N}
			data, ok := tiles[at]
			if !ok {
				var err error
				if data, err = f.Tile(ctx, t.L, uint64(t.N), t.W); err != nil {
					return nil, err
				}
				tiles[at] = data
			}
			h, err := tlog.HashFromTile(t, data, index)
			if err != nil {
				return nil, err
			}
			hashes[i] = h
		}
		return hashes, nil
	})
}
