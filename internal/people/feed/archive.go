package feed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
)

// errNotArchived means that no archived model has these hashes: the decision cannot be
// given again, which is an incident.
var errNotArchived = errors.New("the model of this decision is not in the archive")

// archive keeps every model and features file that ever ranked, under its hash, so that old
// decisions can be given again. A file is complete once it has its name.
type archive struct {
	dir string

	mu    sync.Mutex
	known []*bound // the most recently used first
}

// maxKnown is how many old models are held in memory.
const maxKnown = 4

func (a *archive) paths(model, words decision.Hash) (string, string) {
	return filepath.Join(a.dir, model.String()+".model"), filepath.Join(a.dir, words.String()+".features.yaml")
}

// keep writes a model's files, durably, before it ranks anything.
func (a *archive) keep(b *bound) error {
	if err := os.MkdirAll(a.dir, 0o750); err != nil {
		return fmt.Errorf("archive model: %w", err)
	}
	modelPath, wordsPath := a.paths(b.modelHash, b.wordsHash)
	for path, content := range map[string][]byte{modelPath: b.modelFile, wordsPath: b.wordsFile} {
		if err := writeOnce(path, content); err != nil {
			return fmt.Errorf("archive model: %w", err)
		}
	}
	b.modelFile, b.wordsFile = nil, nil
	return nil
}

// writeOnce writes a file that does not exist yet: whole or not at all.
func writeOnce(path string, content []byte) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// find returns the model with these hashes, from memory or from its files, whose content must
// still have them.
func (a *archive) find(model, words decision.Hash) (*bound, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, b := range a.known {
		if b.modelHash == model && b.wordsHash == words {
			copy(a.known[1:i+1], a.known[:i])
			a.known[0] = b
			return b, nil
		}
	}
	b, err := loadBound(a.paths(model, words))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotArchived, err)
	}
	if b.modelHash != model || b.wordsHash != words {
		return nil, errNotArchived // somebody changed the file under its name
	}
	b.modelFile, b.wordsFile = nil, nil
	a.known = append([]*bound{b}, a.known[:min(len(a.known), maxKnown-1)]...)
	return b, nil
}
