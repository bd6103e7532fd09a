package trefoil

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"

	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

func verifyLog(ctx context.Context, f Fetcher, t *Trust, o LogOptions) (*LogReport, error) {
	raw, err := f.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	c, err := t.VerifyCheckpoint(raw)
	if err != nil {
		return nil, err
	}
	v := &logVerifier{fetch: f, options: o, target: c}
	if o.Tiles && !sabotage.Active("altered") {
		v.tree.tile = v.collect
	}
	report := &LogReport{Checkpoint: c, Raw: raw, Leaves: c.Size}
	if o.Earlier != nil {
		if report.Earlier, err = v.earlier(t); err != nil {
			return nil, err
		}
	}
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	return report, nil
}

// logVerifier rebuilds one tree from its entries.
type logVerifier struct {
	fetch   Fetcher
	options LogOptions
	target  *Checkpoint
	before  *Checkpoint
	tree    treeBuilder
	tiles   []tileBuilder // by level
}

// tileBuilder collects the hashes of the tile that is growing at one level.
type tileBuilder struct {
	index  uint64
	hashes []byte
}

// earlier reads the checkpoint of before: the log's own signature is enough, it binds the
// log to what it said.
func (v *logVerifier) earlier(t *Trust) (*Checkpoint, error) {
	own := *t
	own.Quorum = -1
	c, err := own.VerifyCheckpoint(v.options.Earlier)
	if err != nil {
		return nil, err
	}
	if c.Size > v.target.Size {
		return nil, failed(ReasonRewound, "the log had %d entries before and has %d now", c.Size, v.target.Size)
	}
	v.before = c
	return c, nil
}

func (v *logVerifier) run(ctx context.Context) error {
	for bundle := uint64(0); ; bundle++ {
		if err := v.checkPast(); err != nil {
			return err
		}
		if v.tree.size == v.target.Size {
			break
		}
		width := int(min(v.target.Size-v.tree.size, TileWidth))
		if err := v.bundle(ctx, bundle, width); err != nil {
			return err
		}
		if v.options.Progress != nil {
			v.options.Progress(v.tree.size, v.target.Size)
		}
	}
	if v.tree.root() != v.target.Root && !sabotage.Active("altered") {
		return failed(ReasonRoot, "the %d entries do not give the root that the checkpoint states", v.target.Size)
	}
	for level := range v.tiles {
		if err := v.checkTile(ctx, level); err != nil {
			return err
		}
	}
	return nil
}

// collect takes note of one hash of a level of tiles.
func (v *logVerifier) collect(level int, h [32]byte) {
	for len(v.tiles) <= level {
		v.tiles = append(v.tiles, tileBuilder{})
	}
	v.tiles[level].hashes = append(v.tiles[level].hashes, h[:]...)
}

// checkTile compares the tile that has grown at a level with the published one.
func (v *logVerifier) checkTile(ctx context.Context, level int) error {
	t := &v.tiles[level]
	width := len(t.hashes) / sha256.Size
	if width == 0 {
		return nil
	}
	published, err := v.fetch.Tile(ctx, level, t.index, width)
	if errors.Is(err, ErrNotFound) {
		return failed(ReasonTiles, "tile %d of level %d is missing", t.index, level)
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(published, t.hashes) {
		return failed(ReasonTiles, "tile %d of level %d is not the hashes of the entries", t.index, level)
	}
	if width == TileWidth {
		t.index++
		t.hashes = t.hashes[:0]
	}
	return nil
}

// checkPast compares with the earlier checkpoint once the tree has its size.
func (v *logVerifier) checkPast() error {
	if v.before != nil && v.tree.size == v.before.Size && v.tree.root() != v.before.Root {
		return failed(ReasonSplit, "the first %d entries are not those that the earlier checkpoint states", v.before.Size)
	}
	return nil
}

func (v *logVerifier) bundle(ctx context.Context, index uint64, width int) error {
	data, err := v.fetch.Entries(ctx, index, width)
	if errors.Is(err, ErrNotFound) {
		return failed(ReasonEntries, "entry bundle %d is missing", index)
	}
	if err != nil {
		return err
	}
	leaves, err := SplitEntries(data, width)
	if err != nil {
		return failed(ReasonEntries, "entry bundle %d: %v", index, err)
	}
	for _, leaf := range leaves {
		if err := v.checkPast(); err != nil {
			return err
		}
		if v.options.Leaf != nil {
			if err := v.options.Leaf(v.tree.size, leaf); err != nil {
				return err
			}
		}
		v.tree.add(LeafHash(leaf))
	}
	for level := range v.tiles {
		if len(v.tiles[level].hashes) < TileWidth*sha256.Size {
			break
		}
		if err := v.checkTile(ctx, level); err != nil {
			return err
		}
	}
	return nil
}

// treeBuilder is an RFC 6962 tree that keeps only its right edge: at most 64 hashes.
type treeBuilder struct {
	size  uint64
	edge  [][32]byte // roots of the perfect subtrees, largest first
	bytes [65]byte
	// tile, if set, gets each hash that stands in a tile, with the tile's level.
	tile func(level int, h [32]byte)
}

func (t *treeBuilder) add(leaf [32]byte) {
	h, height := leaf, 0
	for n := t.size; ; n >>= 1 {
		if t.tile != nil && height%tileHeight == 0 {
			t.tile(height/tileHeight, h)
		}
		if n&1 == 0 {
			break
		}
		h = t.node(t.edge[len(t.edge)-1], h)
		t.edge = t.edge[:len(t.edge)-1]
		height++
	}
	t.edge = append(t.edge, h)
	t.size++
}

func (t *treeBuilder) root() [32]byte {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	h := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		h = t.node(t.edge[i], h)
	}
	return h
}

// node is SHA-256(0x01 ‖ left ‖ right).
func (t *treeBuilder) node(left, right [32]byte) [32]byte {
	t.bytes[0] = 1
	copy(t.bytes[1:], left[:])
	copy(t.bytes[33:], right[:])
	return sha256.Sum256(t.bytes[:])
}
