package accesslog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/trefoil-eu/trefoil"
)

// Reader reads a log's directory while another process, or none, has it open. It changes
// nothing and takes no lock. It is for `trefoil log`; it verifies no signature.
type Reader struct {
	store  *store
	public trefoil.Directory
}

// OpenReader opens the log in directory for reading.
func OpenReader(directory string) (*Reader, error) {
	s, err := loadStore(filepath.Join(directory, PrivateDir), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("read access log: %w", err)
	}
	return &Reader{store: s, public: trefoil.Directory(filepath.Join(directory, PublicDir))}, nil
}

// Checkpoint returns the published checkpoint.
func (r *Reader) Checkpoint(ctx context.Context) (*trefoil.Checkpoint, []byte, error) {
	raw, err := r.public.Checkpoint(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read access log: %w", err)
	}
	c, err := trefoil.ParseCheckpoint(raw)
	return c, raw, err
}

// Body returns one record and its permit, "" if none is stored. ErrNoBody: deleted, expired or
// never here.
func (r *Reader) Body(index uint64) (trefoil.Record, string, error) {
	if err := r.refresh(index); err != nil {
		return trefoil.Record{}, "", err
	}
	return r.store.body(index)
}

// Opening returns the salts of a record's commitments, for an audit at the site. ErrNoBody: gone.
func (r *Reader) Opening(index uint64) ([]byte, error) {
	if err := r.refresh(index); err != nil {
		return nil, err
	}
	e, _, err := r.store.read(r.store.bodies, index)
	if err != nil {
		return nil, err
	}
	_, opening, err := e.record()
	return opening, err
}

// Receipt returns everything that checks record index offline, under the published checkpoint.
func (r *Reader) Receipt(ctx context.Context, index uint64) (*trefoil.Receipt, error) {
	if err := r.refresh(index); err != nil {
		return nil, err
	}
	c, raw, err := r.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return r.store.receipt(ctx, &publication{raw: raw, checkpoint: c, tiles: &cachedTiles{Fetcher: r.public}}, index)
}

// refresh lists the segments again when the writer has begun one since.
func (r *Reader) refresh(index uint64) error {
	for _, x := range []*indexFile{r.store.bodies, r.store.permits} {
		at, err := x.get(index)
		if errors.Is(err, ErrNoBody) {
			continue
		}
		if err != nil {
			return err
		}
		r.store.mu.Lock()
		_, known := r.store.names[at.segment]
		if !known {
			err = r.store.list()
		}
		r.store.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Close releases the reader's files.
func (r *Reader) Close() error { return r.store.close() }
