package pack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// rangeFile is range.json: which records of a log records.jsonl holds, and the proof that they
// are all of them.
type rangeFile struct {
	Checkpoint string   `json:"checkpoint"`
	Begin      uint64   `json:"begin"`
	End        uint64   `json:"end"`
	Left       []hash64 `json:"left"`
	Right      []hash64 `json:"right"`
	Before     string   `json:"before,omitempty"`      // a head of size Begin, cosigned before the period
	Path       []hash64 `json:"consistency,omitempty"` // from Before to Checkpoint
}

// recordLine is one line of records.jsonl: a record with its permit, or the leaf of one whose
// body is not there.
type recordLine struct {
	Leaf   []byte `json:"leaf,omitempty"`
	Body   []byte `json:"body,omitempty"`
	Salt   []byte `json:"salt,omitempty"`
	Permit string `json:"permit,omitempty"`
}

// Run is a run of records of one log that is being packed.
type Run struct {
	out *json.Encoder
}

// AddRun writes the proof of the records from begin up to end under a checkpoint, and begins
// their file: Record or Leaf is then called for each, in order. before, if not nil, is a
// checkpoint of size begin.
func (w *Writer) AddRun(ctx context.Context, dir string, tiles trefoil.Fetcher, raw []byte, begin, end uint64, before []byte) (*Run, error) {
	c, err := trefoil.ParseCheckpoint(raw)
	if err != nil {
		return nil, err
	}
	p, err := trefoil.ProveRange(ctx, tiles, c, begin, end)
	if err != nil {
		return nil, err
	}
	f := rangeFile{Checkpoint: string(raw), Begin: begin, End: end, Left: to64(p.Left), Right: to64(p.Right)}
	if before != nil {
		path, err := trefoil.ProveConsistency(ctx, tiles, c, begin)
		if err != nil {
			return nil, err
		}
		f.Before, f.Path = string(before), to64(path)
	}
	if err := w.AddJSON(dir+"/range.json", f); err != nil {
		return nil, err
	}
	out, err := w.Create(dir + "/records.jsonl")
	if err != nil {
		return nil, err
	}
	return &Run{json.NewEncoder(out)}, nil
}

// Record writes the next record.
func (r *Run) Record(rec trefoil.Record, permit string) error {
	return r.out.Encode(recordLine{Body: rec.Body, Salt: rec.Salt, Permit: permit})
}

// Leaf writes the leaf of the next record, whose body is not there.
func (r *Run) Leaf(leaf []byte) error { return r.out.Encode(recordLine{Leaf: leaf}) }

// provedRun is what a run proves.
type provedRun struct {
	rangeFile
	checkpoint *trefoil.Checkpoint
	before     *trefoil.Checkpoint // nil: none
}

// packedRecord is one record of a run, checked against its leaf. Body nil: only the leaf is here.
type packedRecord struct {
	index  uint64
	hash   [32]byte
	body   *trefoil.Body
	permit bool // there is a permit, and it is this record's
}

// run checks range.json and records.jsonl in dir and calls f for each record, before the proof
// as a whole is checked: what f collects counts only if run returns no error.
func (v *verifier) run(dir string, t *trefoil.Trust, f func(*packedRecord) error) (*provedRun, error) {
	var p provedRun
	if err := v.json(dir+"/range.json", &p.rangeFile); err != nil {
		return nil, err
	}
	var err error
	if p.checkpoint, err = t.VerifyCheckpoint([]byte(p.Checkpoint)); err != nil {
		return nil, err
	}
	if p.End < p.Begin || p.End > p.checkpoint.Size {
		return nil, failed("%s/range.json is of more records than the checkpoint has", dir)
	}
	if err := p.checkBefore(dir, t); err != nil {
		return nil, err
	}
	hashes, err := v.records(dir, t, &p, f)
	if err != nil {
		return nil, err
	}
	proof := &trefoil.RangeProof{Begin: p.Begin, Left: from64(p.Left), Right: from64(p.Right)}
	if err := trefoil.VerifyRange(p.checkpoint, proof, hashes); err != nil {
		return nil, err
	}
	return &p, nil
}

func (p *provedRun) checkBefore(dir string, t *trefoil.Trust) (err error) {
	if p.Before == "" {
		return nil
	}
	if p.before, err = t.VerifyCheckpoint([]byte(p.Before)); err != nil {
		return err
	}
	if p.before.Size != p.Begin {
		return failed("the head before in %s/range.json is not of the size at which the records begin", dir)
	}
	return trefoil.VerifyConsistency(p.before, p.checkpoint, from64(p.Path))
}

func (v *verifier) records(dir string, t *trefoil.Trust, p *provedRun, f func(*packedRecord) error) ([][32]byte, error) {
	name := dir + "/records.jsonl"
	file, err := v.src.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(file, 1<<16)
	var hashes [][32]byte
	for index := p.Begin; ; index++ {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || index >= p.End {
			return nil, failed("%s has lines that cannot be read, or too many", name)
		}
		var l recordLine
		if strictJSON(line, &l) != nil {
			return nil, failed("a line of %s cannot be read", name)
		}
		r, err := l.check(index, p.checkpoint.Origin, t)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, r.hash)
		if err := f(r); err != nil {
			return nil, err
		}
	}
	if uint64(len(hashes)) != p.End-p.Begin {
		return nil, failed("%s has %d records where %d belong", name, len(hashes), p.End-p.Begin)
	}
	return hashes, nil
}

// readLine reads one line of at most maxLine bytes, without its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, errors.New("a line is too long")
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, errors.New("the last line has no end")
		default:
			return nil, err
		}
	}
}

// check reads one line's record.
func (l *recordLine) check(index uint64, origin string, t *trefoil.Trust) (*packedRecord, error) {
	r := &packedRecord{index: index}
	if l.Leaf != nil {
		if len(l.Leaf) != trefoil.LeafSize || l.Body != nil || l.Salt != nil || l.Permit != "" {
			return nil, failed("record %d of %s is no leaf", index, origin)
		}
		r.hash = trefoil.LeafHash(l.Leaf)
		return r, nil
	}
	var err error
	if r.body, err = trefoil.DecodeBody(l.Body); err != nil || len(l.Salt) != trefoil.SaltSize || r.body.Origin != origin {
		return nil, failed("record %d of %s is not a record of that log in its one form", index, origin)
	}
	r.hash = trefoil.LeafHash(trefoil.Record{Body: l.Body, Salt: l.Salt}.Leaf())
	if l.Permit == "" {
		return r, nil
	}
	if t.Permit == nil {
		return nil, failed("record %d of %s has a permit, and no permit key is named", index, origin)
	}
	p, err := trefoil.OpenPermit(l.Permit, t.Permit)
	if err != nil || p.Origin != origin || p.Index != index || p.Leaf != r.hash || p.Expires.Before(r.body.At.Truncate(time.Second)) {
		return nil, failed("the permit of record %d of %s is not the monitor's for this record", index, origin)
	}
	r.permit = true
	return r, nil
}

// headsFile is heads.json: heads of one log, each with the proof that it goes on from the one before.
type headsFile []headLine

type headLine struct {
	Checkpoint string   `json:"checkpoint"`
	Path       []hash64 `json:"consistency"`
}

// AddHeads writes heads of one log, oldest first.
func (w *Writer) AddHeads(ctx context.Context, dir string, tiles trefoil.Fetcher, raws [][]byte) error {
	var f headsFile
	var last *trefoil.Checkpoint
	for _, raw := range raws {
		c, err := trefoil.ParseCheckpoint(raw)
		if err != nil {
			return err
		}
		line := headLine{Checkpoint: string(raw), Path: []hash64{}}
		if last != nil {
			path, err := trefoil.ProveConsistency(ctx, tiles, c, last.Size)
			if err != nil {
				return err
			}
			line.Path = to64(path)
		}
		f, last = append(f, line), c
	}
	if f == nil {
		f = headsFile{}
	}
	return w.AddJSON(dir+"/heads.json", f)
}

// heads checks heads.json and returns the last.
func (v *verifier) heads(dir string, t *trefoil.Trust) (last *trefoil.Checkpoint, n int, err error) {
	var f headsFile
	if err := v.json(dir+"/heads.json", &f); err != nil {
		return nil, 0, err
	}
	for _, line := range f {
		c, err := t.VerifyCheckpoint([]byte(line.Checkpoint))
		if err != nil {
			return nil, 0, err
		}
		if last != nil {
			if err := trefoil.VerifyConsistency(last, c, from64(line.Path)); err != nil {
				return nil, 0, err
			}
		} else if len(line.Path) > 0 {
			return nil, 0, failed("the first head in %s has a proof that nothing needs", dir)
		}
		last = c
	}
	return last, len(f), nil
}

// origins says in a report which records a run holds.
func (p *provedRun) text() string {
	return fmt.Sprintf("records %d to %d of %s, none left out", p.Begin, p.End, p.checkpoint.Origin)
}
