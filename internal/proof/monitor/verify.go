package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/trefoil-eu/trefoil"
	"golang.org/x/mod/sumdb/note"
)

// VerifyReport is what Verify found of one log.
type VerifyReport struct {
	Origin    string `json:"origin"`
	Leaves    uint64 `json:"leaves"`
	Bodies    uint64 `json:"bodies"`
	Permitted uint64 `json:"permitted"`
	Released  int64  `json:"permitted_release_bytes"`
	Fault     string `json:"fault,omitempty"` // the first thing that does not hold
}

// ErrFault is wrapped by Verify's error when the mirror does not hold what it should. Compare
// with the log itself to learn which of the two changed.
var ErrFault = errors.New("mirror does not verify")

// Verify re-reads the whole mirror in dir: every tree from its entries and tiles to its
// checkpoint, and every body against its leaf. It changes nothing, and may run beside the
// monitor. Progress, if set, is called with leaves done and in all.
func Verify(ctx context.Context, dir string, progress func(origin string, done, total uint64)) ([]VerifyReport, error) {
	rules, err := LoadRules(dir)
	if err != nil {
		return nil, err
	}
	bodies, err := bodiesOf(filepath.Join(dir, "state"))
	if err != nil {
		return nil, fmt.Errorf("verify mirror: %w", err)
	}
	var reports []VerifyReport
	var faults []error
	for _, l := range rules.Logs {
		r := VerifyReport{Origin: l.Origin}
		if err := verifyOne(ctx, dir, l, bodies[l.Origin], &r, progress); err != nil {
			r.Fault = err.Error()
			faults = append(faults, fmt.Errorf("%w: log %s: %w", ErrFault, l.Origin, err))
		}
		reports = append(reports, r)
	}
	return reports, errors.Join(faults...)
}

// kept is what the journal says of one record.
type kept struct {
	leaf      []byte
	permitted bool
	bytes     int64
	fault     string
}

// bodiesOf reads the journal and recomputes the leaf of every body in it.
func bodiesOf(state string) (map[string]map[uint64]*kept, error) {
	out := map[string]map[uint64]*kept{}
	err := readJournal(state, func(e *entry, body []byte) error {
		if e.Type != entryRecord {
			return nil
		}
		if out[e.Origin] == nil {
			out[e.Origin] = map[uint64]*kept{}
		}
		k := out[e.Origin][e.Index]
		if k == nil {
			k = &kept{leaf: trefoil.Record{Body: body, Salt: e.Salt}.Leaf()}
			if b, err := trefoil.DecodeBody(body); err != nil || b.Kind != e.Kind {
				k.fault = "its body is not the record that the journal says"
			} else if b.Release != nil {
				k.bytes = b.Release.Bytes
			}
			out[e.Origin][e.Index] = k
		}
		k.permitted = k.permitted || e.Permitted
		return nil
	})
	return out, err
}

func verifyOne(ctx context.Context, dir string, l WatchedLog, bodies map[uint64]*kept, r *VerifyReport, progress func(string, uint64, uint64)) error {
	v, err := note.NewVerifier(l.Key)
	if err != nil {
		return fmt.Errorf("read log key: %w", err)
	}
	for _, k := range bodies {
		r.Bodies++
		if k.permitted {
			r.Permitted++
			r.Released += k.bytes
		}
	}
	mirror := trefoil.Directory(filepath.Join(dir, "state", "mirror", originHash(l.Origin)))
	options := trefoil.LogOptions{Tiles: true, Leaf: func(index uint64, leaf []byte) error {
		k := bodies[index]
		switch {
		case k == nil: // not fetched yet, or gone at the log
			return nil
		case k.fault != "":
			return fmt.Errorf("record %d: %s", index, k.fault)
		case !bytes.Equal(k.leaf, leaf):
			return fmt.Errorf("record %d: its body is not what its leaf commits to", index)
		}
		return nil
	}}
	if progress != nil {
		options.Progress = func(done, total uint64) { progress(l.Origin, done, total) }
	}
	report, err := trefoil.VerifyLog(ctx, mirror, &trefoil.Trust{Log: v, Quorum: -1}, options)
	if errors.Is(err, trefoil.ErrNotFound) && len(bodies) == 0 {
		return nil // nothing mirrored yet
	}
	if err != nil {
		return err
	}
	r.Leaves = report.Leaves
	return nil
}
