package monitor

import (
	"fmt"
	"path/filepath"

	"github.com/trefoil-eu/trefoil"
)

// MirroredRecord is one record as the monitor keeps it.
type MirroredRecord struct {
	Origin    string
	Index     uint64
	Body      *trefoil.Body
	Permitted bool
}

// Records reads every record of the mirror in dir, in the order of its journal: which the
// monitor permitted, and what it was shown. It changes nothing, and may run beside the monitor.
func Records(dir string) ([]*MirroredRecord, error) {
	type place struct {
		origin string
		index  uint64
	}
	known := map[place]*MirroredRecord{}
	var all []*MirroredRecord
	err := readJournal(filepath.Join(dir, "state"), func(e *entry, raw []byte) error {
		if e.Type != entryRecord {
			return nil
		}
		at := place{e.Origin, e.Index}
		if known[at] == nil {
			body, err := trefoil.DecodeBody(raw)
			if err != nil {
				return fmt.Errorf("record %d of %s: %w", e.Index, e.Origin, err)
			}
			known[at] = &MirroredRecord{Origin: e.Origin, Index: e.Index, Body: body}
			all = append(all, known[at])
		}
		known[at].Permitted = known[at].Permitted || e.Permitted
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read mirrored records: %w", err)
	}
	return all, nil
}
