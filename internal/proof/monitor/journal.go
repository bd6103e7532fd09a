package monitor

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

// errJournal means that the journal no longer writes: its disk failed. Nothing may be
// permitted after it; restart the monitor on a disk that works.
var errJournal = errors.New("journal cannot be written")

// errJournalCorrupt means that bytes which had been synced changed. Do not repair by hand:
// what was permitted is no longer known. Restore the disk, or start anew under new keys.
var errJournalCorrupt = errors.New("journal is corrupt before its end")

// A frame is magic ‖ length ‖ CRC-32C ‖ payload: one group commit. Only the last frame can be
// torn by a crash, because the one before was synced before it was begun.
const (
	frameMagic  = 0x54524a31 // "TRJ1"
	frameHeader = 12
	entryHeader = 8
	maxFrame    = 64 << 20
)

// defaultSealSize is how large the active file grows.
const defaultSealSize = 16 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal is the monitor's durable memory: an append-only file of entries, group-committed.
// What is appended is in file order; wait returns once it is on disk.
type journal struct {
	files    *journalFiles
	readOnly bool     // replay only: leave a torn end as it is
	types    []string // replay only entries of these types; nil: of all
	sealSize int64    // the active file is put aside when it has this many bytes

	mu      sync.Mutex
	more    *sync.Cond
	buf     []byte // frame being collected, header included
	end     int64  // offset at which buf will be written
	seq     uint64 // last appended, counted from the file's first entry
	durable uint64 // last synced
	synced  chan struct{}
	err     error
	closing bool
	done    chan struct{}
	aside   chan struct{} // a part was put aside, or there may be one
	packed  chan struct{} // closed when nobody compresses any more
	packErr error         // read after packed is closed

	dir    string
	whole  int64 // bytes of the file that are synced
	marked int64 // of those, how many journal.mark tells of
}

// openJournal opens or creates dir/journal and calls apply for each entry, in order. body is
// where the entry's body is in the file.
func openJournal(dir string, apply func(e *entry, body span) error) (*journal, error) {
	f, err := openFiles(dir, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		return nil, errors.Join(err, f.close())
	}
	j := &journal{files: f, dir: dir, sealSize: defaultSealSize, synced: make(chan struct{}), done: make(chan struct{}),
		aside: make(chan struct{}, 1), packed: make(chan struct{})}
	j.aside <- struct{}{}
	j.more = sync.NewCond(&j.mu)
	if err := j.replay(apply); err != nil {
		return nil, errors.Join(fmt.Errorf("replay journal: %w", err), f.close())
	}
	j.buf, j.durable, j.whole = make([]byte, frameHeader), j.seq, j.end
	go j.write()
	go j.pack()
	return j, nil
}

// readJournal calls apply for each entry of dir/journal with its body, and changes nothing.
func readJournal(dir string, apply func(e *entry, body []byte) error) error {
	return readJournalOf(dir, nil, apply)
}

// readJournalOf is readJournal of the entries of some types; nil: of all.
func readJournalOf(dir string, types []string, apply func(e *entry, body []byte) error) error {
	f, err := openFiles(dir, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.close()
	j := &journal{files: f, dir: dir, readOnly: true, types: types}
	return j.replay(func(e *entry, at span) error {
		body, err := j.read(at)
		if err != nil {
			return err
		}
		return apply(e, body)
	})
}

// span is an entry's body in the journal: a run of bytes, which the entry's header precedes.
type span struct {
	off int64
	len int
	hdr int // bytes of the header
}

// append adds e and returns its number and where its body will be. The order of calls is the
// order in the file; the caller holds the lock under which it changes the state.
func (j *journal) append(e *entry, body []byte) (uint64, span, error) {
	hdr, err := json.Marshal(e)
	if err != nil {
		return 0, span{}, fmt.Errorf("encode journal entry: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return 0, span{}, j.err
	}
	if j.closing {
		return 0, span{}, fmt.Errorf("append to journal: %w", os.ErrClosed)
	}
	j.buf = binary.BigEndian.AppendUint32(j.buf, uint32(len(hdr)))
	j.buf = binary.BigEndian.AppendUint32(j.buf, uint32(len(body)))
	j.buf = append(j.buf, hdr...)
	at := span{j.end + int64(len(j.buf)), len(body), len(hdr)}
	j.buf = append(j.buf, body...)
	j.seq++
	j.more.Signal()
	return j.seq, at, nil
}

// wait blocks until entry seq is on disk.
func (j *journal) wait(seq uint64) error {
	for {
		j.mu.Lock()
		durable, err, ch := j.durable, j.err, j.synced
		j.mu.Unlock()
		switch {
		case durable >= seq:
			return nil
		case err != nil:
			return err
		}
		<-ch
	}
}

// last returns the number of the last entry appended.
func (j *journal) last() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}

// write is the only writer of the file: it takes what has been collected, writes and syncs
// it, and lets the waiters go.
func (j *journal) write() {
	defer close(j.done)
	for {
		j.mu.Lock()
		for len(j.buf) == frameHeader && !j.closing {
			j.more.Wait()
		}
		if len(j.buf) == frameHeader {
			j.mu.Unlock()
			return
		}
		frame, at, seq := j.buf, j.end, j.seq
		j.end += int64(len(frame))
		j.buf = make([]byte, frameHeader, 4096)
		j.mu.Unlock()

		err := j.commit(frame, at)
		j.mu.Lock()
		if err != nil {
			j.err = fmt.Errorf("%w: %w", errJournal, err)
		} else {
			j.durable, j.whole = seq, at+int64(len(frame))
		}
		close(j.synced)
		j.synced = make(chan struct{})
		failed := j.err != nil
		j.mu.Unlock()
		if failed {
			return
		}
		j.putAside(at + int64(len(frame)))
	}
}

func (j *journal) commit(frame []byte, at int64) error {
	payload := frame[frameHeader:]
	binary.BigEndian.PutUint32(frame, frameMagic)
	binary.BigEndian.PutUint32(frame[4:], uint32(len(payload)))
	binary.BigEndian.PutUint32(frame[8:], crc32.Checksum(payload, castagnoli))
	if _, err := j.files.active.WriteAt(frame, at-j.files.base); err != nil { // only this goroutine changes them
		return err
	}
	return j.files.active.Sync()
}

// read returns the bytes of a body that is durable.
func (j *journal) read(s span) ([]byte, error) {
	return readSpan(j.files, s)
}

// entry returns the header and the body of an entry that is durable.
func (j *journal) entry(s span) (*entry, []byte, error) {
	raw, err := readSpan(j.files, span{off: s.off - int64(s.hdr), len: s.hdr + s.len})
	if err != nil {
		return nil, nil, err
	}
	var e entry
	if err := json.Unmarshal(raw[:s.hdr], &e); err != nil {
		return nil, nil, fmt.Errorf("read journal: %w", errJournalCorrupt)
	}
	e.putBack(raw[s.hdr:])
	return &e, raw[s.hdr:], nil
}

// readSpan is read for files that no journal has open yet.
func readSpan(f io.ReaderAt, s span) ([]byte, error) {
	b := make([]byte, s.len)
	if _, err := f.ReadAt(b, s.off); err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return b, nil
}

// close writes what is left and closes the file.
func (j *journal) close() error {
	j.mu.Lock()
	j.closing = true
	j.more.Signal()
	j.mu.Unlock()
	<-j.done
	close(j.aside)
	<-j.packed
	return errors.Join(j.mark(), j.packErr, j.files.close())
}

// replay reads every frame, and cuts a torn last one off.
func (j *journal) replay(apply func(*entry, span) error) error {
	if err := j.readMark(); err != nil {
		return err
	}
	size, err := j.files.size()
	if err != nil {
		return err
	}
	if size < j.marked {
		return errJournalCorrupt
	}
	for j.end < size {
		payload, err := j.frame(j.end, size)
		if err != nil {
			return err
		}
		if payload == nil && j.readOnly {
			return nil
		}
		if payload == nil { // torn: nothing in it was ever acknowledged
			if err := j.files.active.Truncate(j.end - j.files.base); err != nil {
				return err
			}
			return j.files.active.Sync()
		}
		if err := j.entries(payload, j.end+frameHeader, apply); err != nil {
			return err
		}
		j.end += frameHeader + int64(len(payload))
	}
	return nil
}

// frame returns the payload of the frame at off, or nil if it is the torn end of the file.
func (j *journal) frame(off, size int64) ([]byte, error) {
	var hdr [frameHeader]byte
	n, err := j.files.ReadAt(hdr[:], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n == frameHeader && binary.BigEndian.Uint32(hdr[:]) == frameMagic {
		length := int64(binary.BigEndian.Uint32(hdr[4:]))
		if off+frameHeader+length <= size {
			payload := make([]byte, length)
			if _, err := j.files.ReadAt(payload, off+frameHeader); err != nil {
				return nil, err
			}
			sum := binary.BigEndian.Uint32(hdr[8:])
			if crc32.Checksum(payload, castagnoli) == sum || sum == 0 && j.files.packedAt(off) {
				return payload, nil
			}
		}
	}
	if off < j.marked || off < j.files.base { // it was synced: a crash does not tear it
		return nil, errJournalCorrupt
	}
	return nil, j.tornOrCorrupt(off, size)
}

// tornOrCorrupt returns nil if no whole frame follows off, else errJournalCorrupt.
func (j *journal) tornOrCorrupt(off, size int64) error {
	if size-off > maxFrame+frameHeader {
		return errJournalCorrupt
	}
	rest := make([]byte, size-off)
	if _, err := j.files.ReadAt(rest, off); err != nil {
		return err
	}
	magic := binary.BigEndian.AppendUint32(nil, frameMagic)
	for at := 1; ; at++ {
		i := bytes.Index(rest[at:], magic)
		if i < 0 {
			return nil
		}
		at += i
		if len(rest)-at < frameHeader {
			return nil
		}
		length := int64(binary.BigEndian.Uint32(rest[at+4:]))
		if int64(at)+frameHeader+length > int64(len(rest)) {
			continue
		}
		payload := rest[at+frameHeader : int64(at)+frameHeader+length]
		if crc32.Checksum(payload, castagnoli) == binary.BigEndian.Uint32(rest[at+8:]) {
			return errJournalCorrupt
		}
	}
}

func (j *journal) entries(payload []byte, off int64, apply func(*entry, span) error) error {
	for at := 0; at < len(payload); {
		if len(payload)-at < entryHeader {
			return errJournalCorrupt
		}
		h := int(binary.BigEndian.Uint32(payload[at:]))
		b := int(binary.BigEndian.Uint32(payload[at+4:]))
		at += entryHeader
		if h+b > len(payload)-at {
			return errJournalCorrupt
		}
		if j.passes(payload[at : at+h]) {
			j.seq++
			at += h + b
			continue
		}
		var e entry
		if err := json.Unmarshal(payload[at:at+h], &e); err != nil {
			return fmt.Errorf("decode entry: %w", err)
		}
		e.putBack(payload[at+h : at+h+b])
		if err := apply(&e, span{off + int64(at+h), b, h}); err != nil {
			return err
		}
		j.seq++
		at += h + b
	}
	return nil
}
