package monitor

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/trefoil-eu/trefoil"
)

// What a log can do that a mirror must not follow. The mirror keeps what it had.
var (
	errRewound = errors.New("log is smaller than it was")
	errSplit   = errors.New("log shows another past than before")
	errRoot    = errors.New("log's entries do not give its root")
)

var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// tree is the mirror's copy of one log on disk, in C2SP tlog-tiles layout, with its right
// edge in memory. What is beyond its checkpoint is not verified and not served. One
// goroutine at a time extends it.
type tree struct {
	dir  string
	edge *compact.Range // right edge of head
	head *trefoil.Checkpoint
	raw  []byte
}

// openTree reads the mirror in dir. Where the edge on disk is not that of the checkpoint, the
// tree starts anew, and what the log gives must still lead to that checkpoint.
func openTree(dir string, own *trefoil.Trust) (*tree, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open mirror: %w", err)
	}
	t := &tree{dir: dir, edge: ranges.NewEmptyRange(0)}
	raw, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if errors.Is(err, os.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open mirror: %w", err)
	}
	if t.head, err = own.VerifyCheckpoint(raw); err != nil {
		return nil, fmt.Errorf("open mirror: checkpoint: %w", err)
	}
	t.raw = raw
	if edge := t.readEdge(); edge != nil {
		t.edge = edge
	}
	return t, nil
}

// readEdge returns the stored edge if it gives the head's root.
func (t *tree) readEdge() *compact.Range {
	var hashes [][]byte
	raw, err := os.ReadFile(filepath.Join(t.dir, "edge.json"))
	if err != nil || json.Unmarshal(raw, &hashes) != nil {
		return nil
	}
	edge, err := ranges.NewRange(0, t.head.Size, hashes)
	if err != nil {
		return nil
	}
	root, err := rootOf(edge)
	if err != nil || root != t.head.Root {
		return nil
	}
	return edge
}

func rootOf(r *compact.Range) ([32]byte, error) {
	if r.End() == 0 {
		return sha256.Sum256(nil), nil
	}
	root, err := r.GetRootHash(nil)
	if err != nil || len(root) != sha256.Size {
		return [32]byte{}, fmt.Errorf("compute root: %w", err)
	}
	return [32]byte(root), nil
}

// size returns how many leaves are mirrored and verified.
func (t *tree) size() uint64 {
	if t.head == nil {
		return 0
	}
	return t.head.Size
}

// extend mirrors what the log has between the head and the checkpoint c, raw. Also, where the
// tree passes a size in known, its root must be the one given there.
func (t *tree) extend(ctx context.Context, f trefoil.Fetcher, c *trefoil.Checkpoint, raw []byte, known ...*trefoil.Checkpoint) error {
	if t.head != nil {
		switch {
		case c.Size < t.head.Size:
			return errRewound
		case c.Size == t.head.Size && c.Root != t.head.Root:
			return errSplit
		case c.Size == t.head.Size && t.edge.End() == c.Size:
			return nil
		}
		known = append(known, t.head)
	}
	x := &extension{tree: t, fetch: f, known: known, tiles: map[tileAt][]byte{}}
	if err := x.run(ctx, c); err != nil {
		return err
	}
	edge, err := json.Marshal(x.edge.Hashes())
	if err != nil {
		return fmt.Errorf("keep mirror: %w", err)
	}
	if err := writeFileSync(filepath.Join(t.dir, "edge.json"), edge, 0o600); err != nil {
		return fmt.Errorf("keep mirror: %w", err)
	}
	if err := writeFileSync(filepath.Join(t.dir, "checkpoint"), raw, 0o600); err != nil {
		return fmt.Errorf("keep mirror: %w", err)
	}
	t.edge, t.head, t.raw = x.edge, c, raw
	return nil
}

// tileAt names a tile of hashes.
type tileAt struct {
	level int
	index uint64
}

// extension is one run of extend: a copy of the edge, and the tiles it changes.
type extension struct {
	tree  *tree
	fetch trefoil.Fetcher
	edge  *compact.Range
	known []*trefoil.Checkpoint
	tiles map[tileAt][]byte
}

func (x *extension) run(ctx context.Context, c *trefoil.Checkpoint) error {
	hashes := append([][]byte(nil), x.tree.edge.Hashes()...)
	var err error
	if x.edge, err = ranges.NewRange(0, x.tree.edge.End(), hashes); err != nil {
		return fmt.Errorf("copy edge: %w", err)
	}
	for x.edge.End() < c.Size {
		bundle := x.edge.End() / trefoil.TileWidth
		width := int(min(c.Size-bundle*trefoil.TileWidth, trefoil.TileWidth))
		if err := x.bundle(ctx, bundle, width); err != nil {
			return err
		}
	}
	if root, err := rootOf(x.edge); err != nil || root != c.Root {
		return errRoot
	}
	return x.flush(true)
}

// bundle fetches one bundle of entries, adds its new leaves, and writes it.
func (x *extension) bundle(ctx context.Context, index uint64, width int) error {
	raw, err := x.fetch.Entries(ctx, index, width)
	if err != nil {
		return fmt.Errorf("fetch entries: %w", err)
	}
	leaves, err := trefoil.SplitEntries(raw, width)
	if err != nil {
		return fmt.Errorf("%w: %w", errRoot, err)
	}
	start := x.edge.End() - index*trefoil.TileWidth
	if err := x.samePast(index, leaves[:start]); err != nil {
		return err
	}
	for i := start; i < uint64(width); i++ {
		h := trefoil.LeafHash(leaves[i])
		if err := x.add(h[:]); err != nil {
			return err
		}
		if err := x.check(); err != nil {
			return err
		}
	}
	if err := x.write(trefoil.EntriesPath(index, width), raw); err != nil {
		return err
	}
	if width == trefoil.TileWidth {
		if err := os.RemoveAll(filepath.Join(x.tree.dir, trefoil.EntriesPath(index, width)+".p")); err != nil {
			return fmt.Errorf("drop partial tile: %w", err)
		}
	}
	return x.flush(false)
}

// samePast checks that the leaves of a bundle that the mirror has are given again as they were.
func (x *extension) samePast(index uint64, leaves [][]byte) error {
	if len(leaves) == 0 {
		return nil
	}
	tile, err := trefoil.Directory(x.tree.dir).Tile(context.Background(), 0, index, len(leaves))
	if err != nil {
		return fmt.Errorf("read own tile: %w", err)
	}
	for i, leaf := range leaves {
		if trefoil.LeafHash(leaf) != [32]byte(tile[i*sha256.Size:(i+1)*sha256.Size]) {
			return errSplit
		}
	}
	return nil
}

// add appends a leaf hash to the edge and to the tiles that hold its new nodes.
func (x *extension) add(hash []byte) error {
	var failed error
	visit := func(id compact.NodeID, h []byte) {
		if id.Level%8 != 0 || failed != nil {
			return
		}
		at := tileAt{int(id.Level / 8), id.Index / trefoil.TileWidth}
		pos := int(id.Index % trefoil.TileWidth)
		tile, open := x.tiles[at]
		if !open && pos > 0 {
			tile, failed = trefoil.Directory(x.tree.dir).Tile(context.Background(), at.level, at.index, pos)
		}
		x.tiles[at] = append(tile[:min(len(tile), pos*sha256.Size)], h...)
	}
	if err := x.edge.Append(hash, visit); err != nil {
		return fmt.Errorf("append leaf: %w", err)
	}
	if failed != nil {
		return fmt.Errorf("read own tile: %w", failed)
	}
	return nil
}

// check compares the tree with the checkpoints that are known at this size.
func (x *extension) check() error {
	for _, k := range x.known {
		if k == nil || k.Size != x.edge.End() {
			continue
		}
		if root, err := rootOf(x.edge); err != nil || root != k.Root {
			return errSplit
		}
	}
	return nil
}

// flush writes the tiles that are full, and with all the partial ones too.
func (x *extension) flush(all bool) error {
	for at, tile := range x.tiles {
		width := len(tile) / sha256.Size
		if width < trefoil.TileWidth && !all {
			continue
		}
		path := trefoil.TilePath(at.level, at.index, width)
		if err := x.write(path, tile); err != nil {
			return err
		}
		if width == trefoil.TileWidth {
			if err := os.RemoveAll(filepath.Join(x.tree.dir, path+".p")); err != nil {
				return fmt.Errorf("drop partial tile: %w", err)
			}
			delete(x.tiles, at)
		}
	}
	return nil
}

func (x *extension) write(path string, data []byte) error {
	full := filepath.Join(x.tree.dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return fmt.Errorf("write tile: %w", err)
	}
	return writeFileSync(full, data, 0o600)
}

// leaves returns the mirrored leaves of one bundle.
func (t *tree) leaves(ctx context.Context, bundle uint64) ([][]byte, error) {
	width := int(min(t.size()-bundle*trefoil.TileWidth, trefoil.TileWidth))
	raw, err := trefoil.Directory(t.dir).Entries(ctx, bundle, width)
	if err != nil {
		return nil, fmt.Errorf("read mirrored entries: %w", err)
	}
	return trefoil.SplitEntries(raw, width)
}

// rootAt computes the root that the mirror had at an earlier size, from its tiles.
func (t *tree) rootAt(size uint64) ([32]byte, error) {
	if t.head == nil || size > t.head.Size {
		return [32]byte{}, errRewound
	}
	if size == t.head.Size {
		return t.head.Root, nil
	}
	edge, err := ranges.NewRange(0, 0, nil)
	if err != nil {
		return [32]byte{}, fmt.Errorf("compute root: %w", err)
	}
	for done := uint64(0); done < size; { // the largest whole tile's root that begins at done and ends before size, each
		level := 0
		for span := uint64(trefoil.TileWidth); level < 7 && done%span == 0 && done+span <= size; span *= trefoil.TileWidth {
			level++
		}
		step := uint64(1) << (8 * level)
		at := done / step
		width := min(uint64(trefoil.TileWidth), t.head.Size>>(8*level)-at/trefoil.TileWidth*trefoil.TileWidth)
		tile, err := trefoil.Directory(t.dir).Tile(context.Background(), level, at/trefoil.TileWidth, int(width))
		if err != nil {
			return [32]byte{}, fmt.Errorf("compute root: %w", err)
		}
		n := min(width-at%trefoil.TileWidth, (size-done)/step)
		for i := range n {
			p := (at%trefoil.TileWidth + i) * sha256.Size
			leaf, err := ranges.NewRange(done+i*step, done+(i+1)*step, [][]byte{tile[p : p+sha256.Size]})
			if err != nil {
				return [32]byte{}, fmt.Errorf("compute root: %w", err)
			}
			if err := edge.AppendRange(leaf, nil); err != nil {
				return [32]byte{}, fmt.Errorf("compute root: %w", err)
			}
		}
		done += n * step
	}
	return rootOf(edge)
}
