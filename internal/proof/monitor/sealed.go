package monitor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The journal at rest: what is older than the file `journal` lies in sealed/START.zst, START being
// the hex offset of its first byte in the journal as a whole. START.raw is one that was put aside
// and is not compressed yet. Offsets never change.
//
// A .zst file is magic ‖ start ‖ end ‖ blocks; a block is length ‖ CRC-32C ‖ zstd of sealBlock
// bytes of the journal, the last of fewer. In it a record's leaf is zeros, since body and salt give it,
// and so are the frames' checksums.
const (
	sealedMagic  = 0x54525a31 // "TRZ1"
	sealedHeader = 20
	sealBlock    = 1 << 20
	sealedDir    = "sealed"
)

// segment is one sealed part of the journal.
type segment struct {
	start, end int64
	path       string
	raw        *os.File // not compressed yet; nil: .zst
	blocks     []int64  // where each block begins in the file
}

// journalFiles is the journal as one run of bytes, whatever files it lies in.
type journalFiles struct {
	dir    string
	coder  *zstd.Encoder
	reader *zstd.Decoder

	mu     sync.RWMutex
	active *os.File
	base   int64 // where active begins
	sealed []segment

	cacheMu sync.Mutex
	cached  [4]unpacked // last blocks read
	turn    int
}

type unpacked struct {
	start int64
	data  []byte
}

// openFiles opens dir/journal with flag, and finds what is sealed. A journal that another process
// rotates meanwhile is read again.
func openFiles(dir string, flag int) (*journalFiles, error) {
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(4*sealBlock))
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	f := &journalFiles{dir: dir, reader: reader}
	path := filepath.Join(dir, "journal")
	for {
		if f.active, err = os.OpenFile(path, flag, 0o600); err != nil {
			return nil, fmt.Errorf("open journal: %w", err)
		}
		if err := f.find(); err != nil {
			return nil, errors.Join(fmt.Errorf("open journal: %w", err), f.close())
		}
		mine, err := f.active.Stat()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open journal: %w", err), f.close())
		}
		if now, err := os.Stat(path); err == nil && os.SameFile(mine, now) {
			return f, nil
		}
		if err := f.close(); err != nil {
			return nil, err
		}
	}
}

// find lists the sealed parts and sees that none is missing.
func (f *journalFiles) find() error {
	f.sealed, f.base = nil, 0
	files, err := os.ReadDir(filepath.Join(f.dir, sealedDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	byStart := map[int64]string{}
	for _, e := range files {
		name, kind, _ := strings.Cut(e.Name(), ".")
		start, err := strconv.ParseInt(name, 16, 64)
		if err != nil || kind != "raw" && kind != "zst" {
			continue
		}
		if byStart[start] == "" || kind == "zst" { // whole: it was renamed
			byStart[start] = filepath.Join(f.dir, sealedDir, e.Name())
		}
	}
	var starts []int64
	for s := range byStart {
		starts = append(starts, s)
	}
	slices.Sort(starts)
	for _, s := range starts {
		g, err := openSegment(s, byStart[s])
		if err != nil {
			return err
		}
		if g.start != f.base {
			return fmt.Errorf("%w: a sealed part is missing", errJournalCorrupt)
		}
		f.sealed, f.base = append(f.sealed, g), g.end
	}
	return nil
}

func openSegment(start int64, path string) (segment, error) {
	g := segment{start: start, path: path}
	file, err := os.Open(path)
	if err != nil {
		return g, err
	}
	info, err := file.Stat()
	if err != nil {
		return g, errors.Join(err, file.Close())
	}
	if strings.HasSuffix(path, ".raw") {
		g.raw, g.end = file, start+info.Size()
		return g, nil
	}
	defer file.Close()
	var hdr [sealedHeader]byte
	if _, err := file.ReadAt(hdr[:], 0); err != nil || binary.BigEndian.Uint32(hdr[:]) != sealedMagic || int64(binary.BigEndian.Uint64(hdr[4:])) != start {
		return g, fmt.Errorf("%w: %s", errJournalCorrupt, filepath.Base(path))
	}
	g.end = int64(binary.BigEndian.Uint64(hdr[12:]))
	for at := int64(sealedHeader); at < info.Size(); {
		var l [4]byte
		if _, err := file.ReadAt(l[:], at); err != nil {
			return g, fmt.Errorf("%w: %s", errJournalCorrupt, filepath.Base(path))
		}
		g.blocks = append(g.blocks, at)
		at += 8 + int64(binary.BigEndian.Uint32(l[:]))
	}
	if want := (g.end - g.start + sealBlock - 1) / sealBlock; g.end <= g.start || int64(len(g.blocks)) != want {
		return g, fmt.Errorf("%w: %s", errJournalCorrupt, filepath.Base(path))
	}
	return g, nil
}

// size is the length of the journal as a whole.
func (f *journalFiles) size() (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	info, err := f.active.Stat()
	if err != nil {
		return 0, err
	}
	return f.base + info.Size(), nil
}

// ReadAt reads from the journal as a whole.
func (f *journalFiles) ReadAt(p []byte, off int64) (n int, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for n < len(p) {
		at := off + int64(n)
		if at >= f.base {
			m, err := f.active.ReadAt(p[n:], at-f.base)
			return n + m, err
		}
		m, err := f.readSealed(p[n:], at)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readSealed reads what one block, or one raw file, has of the bytes at off.
func (f *journalFiles) readSealed(p []byte, off int64) (int, error) {
	i, found := slices.BinarySearchFunc(f.sealed, off, func(g segment, off int64) int {
		switch {
		case g.end <= off:
			return -1
		case g.start > off:
			return 1
		}
		return 0
	})
	if !found {
		return 0, io.ErrUnexpectedEOF
	}
	g := &f.sealed[i]
	if g.raw != nil {
		return g.raw.ReadAt(p[:min(int64(len(p)), g.end-off)], off-g.start)
	}
	data, err := f.block(g, (off-g.start)/sealBlock)
	if err != nil {
		return 0, err
	}
	return copy(p, data[(off-g.start)%sealBlock:]), nil
}

// packedAt reports whether off is in a part that is compressed.
func (f *journalFiles) packedAt(off int64) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.ContainsFunc(f.sealed, func(g segment) bool { return g.raw == nil && g.start <= off && off < g.end })
}

// block returns one block of a sealed part, checked.
func (f *journalFiles) block(g *segment, i int64) ([]byte, error) {
	start := g.start + i*sealBlock
	f.cacheMu.Lock()
	defer f.cacheMu.Unlock()
	for _, b := range f.cached {
		if b.start == start && b.data != nil {
			return b.data, nil
		}
	}
	file, err := os.Open(g.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var hdr [8]byte
	if _, err := file.ReadAt(hdr[:], g.blocks[i]); err != nil {
		return nil, err
	}
	packed := make([]byte, min(binary.BigEndian.Uint32(hdr[:]), 2*sealBlock))
	if _, err := file.ReadAt(packed, g.blocks[i]+8); err != nil {
		return nil, err
	}
	if crc32.Checksum(packed, castagnoli) != binary.BigEndian.Uint32(hdr[4:]) {
		return nil, errJournalCorrupt
	}
	data, err := f.reader.DecodeAll(packed, make([]byte, 0, sealBlock))
	if err != nil || int64(len(data)) != min(sealBlock, g.end-start) {
		return nil, errJournalCorrupt
	}
	f.cached[f.turn] = unpacked{start, data}
	f.turn = (f.turn + 1) % len(f.cached)
	return data, nil
}

func (f *journalFiles) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, g := range f.sealed {
		if g.raw != nil {
			errs = append(errs, g.raw.Close())
		}
	}
	f.reader.Close()
	return errors.Join(append(errs, f.active.Close())...)
}

// rotate puts the active file, which is size bytes and synced, aside and begins another. Only the
// writer of the active file calls it.
func (f *journalFiles) rotate(size int64) error {
	if size <= 0 { // a part of nothing is no part
		return nil
	}
	dir := filepath.Join(f.dir, sealedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("seal journal: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	path := filepath.Join(dir, fmt.Sprintf("%016x.raw", f.base))
	if err := os.Rename(filepath.Join(f.dir, "journal"), path); err != nil {
		return fmt.Errorf("seal journal: %w", err)
	}
	next, err := os.OpenFile(filepath.Join(f.dir, "journal"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("seal journal: %w", err)
	}
	f.sealed = append(f.sealed, segment{start: f.base, end: f.base + size, path: path, raw: f.active})
	f.active, f.base = next, f.base+size
	return errors.Join(syncDir(dir), syncDir(f.dir))
}

// seal compresses the oldest part that is not yet, and reports whether there was one.
func (f *journalFiles) seal() (bool, error) {
	f.mu.RLock()
	i := slices.IndexFunc(f.sealed, func(g segment) bool { return g.raw != nil })
	if i < 0 {
		f.mu.RUnlock()
		return false, nil
	}
	g := f.sealed[i]
	f.mu.RUnlock()
	data := make([]byte, g.end-g.start)
	if _, err := g.raw.ReadAt(data, 0); err != nil {
		return false, fmt.Errorf("seal journal: %w", err)
	}
	if err := leaveOut(data); err != nil {
		return false, fmt.Errorf("seal journal: %w", err)
	}
	packed, err := f.pack(g, data)
	if err != nil {
		return false, err
	}
	path := strings.TrimSuffix(g.path, ".raw") + ".zst"
	if err := writeFileSync(path, packed, 0o600); err != nil {
		return false, err
	}
	sealed, err := openSegment(g.start, path)
	if err != nil || sealed.end != g.end {
		return false, fmt.Errorf("seal journal: %w", errors.Join(err, errJournalCorrupt))
	}
	f.mu.Lock()
	f.sealed[i] = sealed
	f.mu.Unlock()
	return true, errors.Join(g.raw.Close(), os.Remove(g.path))
}
