package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// putAside begins another active file once this one is large enough: end is where it ends. Should
// that fail, what was appended stays as it was, and nothing more is permitted.
func (j *journal) putAside(end int64) {
	size := end - j.files.base
	if j.sealSize <= 0 || size < j.sealSize {
		return
	}
	err := j.mark()
	if err == nil {
		err = j.files.rotate(size)
	}
	if err != nil {
		j.mu.Lock()
		j.err = fmt.Errorf("%w: %w", errJournal, err)
		j.mu.Unlock()
		return
	}
	select {
	case j.aside <- struct{}{}:
	default:
	}
}

// pack compresses what was put aside, until the journal is closed. What it cannot compress stays
// as it is, and is tried again at the next start.
func (j *journal) pack() {
	defer close(j.packed)
	for range j.aside {
		for more := true; more; {
			var err error
			if more, err = j.files.seal(); err != nil {
				j.packErr = err
				return
			}
		}
	}
}

// passes reports whether an entry is of a type that is not asked for. The type comes first.
func (j *journal) passes(hdr []byte) bool {
	return j.types != nil && !slices.ContainsFunc(j.types, func(t string) bool {
		return bytes.HasPrefix(hdr, []byte(`{"t":"`+t+`"`))
	})
}

// mark keeps how much of the file is synced, so that damage there is not taken for a torn
// end. It is called now and then: between two calls only the frame order tells.
func (j *journal) mark() error {
	j.mu.Lock()
	whole, marked := j.whole, j.marked
	j.mu.Unlock()
	if whole == marked {
		return nil
	}
	if err := writeFileSync(filepath.Join(j.dir, "journal.mark"), fmt.Appendf(nil, "%d\n", whole), 0o600); err != nil {
		return fmt.Errorf("mark journal: %w", err)
	}
	j.mu.Lock()
	j.marked = whole
	j.mu.Unlock()
	return nil
}

func (j *journal) readMark() error {
	raw, err := os.ReadFile(filepath.Join(j.dir, "journal.mark"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		j.marked, err = strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	}
	if err != nil {
		return fmt.Errorf("read journal mark: %w", err)
	}
	return nil
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeFileSync replaces path with data: after it returns, or after any crash, path holds
// the old or the new bytes, whole.
func writeFileSync(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, werr := f.Write(data)
	err = errors.Join(werr, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", filepath.Base(path), err), os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}
