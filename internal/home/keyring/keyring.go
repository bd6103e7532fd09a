// Package keyring holds the keys of pseudonyms: one of 32 random bytes for each purpose and
// epoch, from which the key of each domain is derived (docs/design/pseudonyms.md).
//
// The invariant it keeps: no two purposes or epochs share a key, so that one can be destroyed
// and leave nothing from which it could be derived again. A key that was destroyed is never
// made anew: whoever asks for it gets ErrDestroyed for ever.
//
// The ring is one file, readable by its owner alone, replaced as a whole and synced. Its keys
// stand in it as they are, or wrapped by a key management system as a Tink envelope (AES-256-GCM
// data key, wrapped by the KMS; the purpose and epoch are authenticated). What it does not do:
// make the disk forget. An overwritten file may live on in blocks, snapshots and backups; with
// a KMS those are worth nothing once the wrapping key is gone.
package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Size is the length of a key in bytes.
const Size = 32

// ErrDestroyed says that a key was destroyed: nothing made with it can be made again. Rotate
// the purpose's key and build its datasets anew, or drop them.
var ErrDestroyed = errors.New("the key was destroyed")

// ErrOneRoot says that a ring is a root key of 32 bytes from which all keys are derived: none
// of them can be destroyed alone. Move the file away; a new ring is begun, and every dataset is
// built anew with other pseudonyms.
var ErrOneRoot = errors.New("the key file holds one root key for all purposes")

// ErrUnknown says that the ring has no such key.
var ErrUnknown = errors.New("the ring has no such key")

// Options of a ring.
type Options struct {
	KMS registry.KMSClient // wraps the keys; nil leaves them as they are in the file
	URI string             // names the KMS's key
	Now func() time.Time
}

// Entry is one key without its secret.
type Entry struct {
	Purpose   string     `json:"purpose"`
	Epoch     int        `json:"epoch"`
	Made      time.Time  `json:"made"`
	Destroyed *time.Time `json:"destroyed,omitempty"`
}

// stored is an entry as it stands in the file.
type stored struct {
	Entry
	Secret []byte `json:"secret,omitempty"`
}

// content is the file.
type content struct {
	Version int      `json:"version"`
	KMS     string   `json:"kms,omitempty"` // URI of the key that wraps the others
	Keys    []stored `json:"keys"`
}

// Ring is an open key ring. Its methods may be called concurrently, and several processes may
// have one file open.
type Ring struct {
	path string
	o    Options
	aead tink.AEAD // nil without a KMS

	mu    sync.Mutex
	seen  os.FileInfo // of what is in memory
	in    content
	root  []byte // ErrOneRoot
	plain map[id][]byte
}

type id struct {
	purpose string
	epoch   int
}

// Open opens the ring at path, which is made when its first key is. It reads it, but unwraps no key.
func Open(path string, o Options) (*Ring, error) {
	if path == "" {
		return nil, errors.New("open key ring: no path is configured")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Ring{path: path, o: o}
	if o.KMS != nil {
		remote, err := o.KMS.GetAEAD(o.URI)
		if err != nil {
			return nil, fmt.Errorf("open key ring: %w", err)
		}
		r.aead = envelope(remote)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r, r.refresh()
}

// Secret gives the key of a purpose and epoch; it makes one of random bytes where there was
// none. The slice is the caller's: keys in memory are overwritten when the file changes.
func (r *Ring) Secret(purpose string, epoch int) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(); err != nil {
		return nil, err
	}
	if r.root != nil {
		return slices.Clone(r.root), nil
	}
	if r.find(purpose, epoch) == nil {
		if err := r.change(func() error { return r.add(purpose, epoch) }); err != nil {
			return nil, err
		}
	}
	key, err := r.open(r.find(purpose, epoch))
	return slices.Clone(key), err
}

// Stands says whether a key can be used: nil, ErrDestroyed, ErrUnknown, or why the ring cannot be read. It is cheap.
func (r *Ring) Stands(purpose string, epoch int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(); err != nil {
		return err
	}
	e := r.find(purpose, epoch)
	switch {
	case r.root != nil:
		return nil
	case e == nil:
		return fmt.Errorf("purpose %s, epoch %d: %w", purpose, epoch, ErrUnknown)
	case e.Destroyed != nil:
		return destroyed(e)
	}
	return nil
}

// Rotate makes the key of the epoch after the highest of purpose, and of least, and tells
// that epoch.
func (r *Ring) Rotate(purpose string, least int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := least
	if err := r.refresh(); err != nil {
		return 0, err
	}
	if r.root != nil { // its keys differ by epoch all the same
		return next, nil
	}
	err := r.change(func() error {
		for _, e := range r.in.Keys {
			if e.Purpose == purpose {
				next = max(next, e.Epoch+1)
			}
		}
		return r.add(purpose, next)
	})
	return next, err
}

// Destroy takes a key away for ever; the entry stays, with the time. Destroying it again
// changes nothing.
func (r *Ring) Destroy(purpose string, epoch int) (Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(); err != nil {
		return Entry{}, err
	}
	if r.root != nil {
		return Entry{}, fmt.Errorf("destroy a key: %w", ErrOneRoot)
	}
	err := r.change(func() error {
		e := r.find(purpose, epoch)
		if e == nil {
			return fmt.Errorf("destroy key of purpose %s, epoch %d: %w", purpose, epoch, ErrUnknown)
		}
		if e.Destroyed == nil {
			now := r.o.Now().UTC().Truncate(time.Second)
			e.Destroyed, e.Secret = &now, nil
		}
		return nil
	})
	if err != nil {
		return Entry{}, err
	}
	return r.find(purpose, epoch).Entry, nil
}

// List gives the keys in the order of purpose and epoch; one root has none to list.
func (r *Ring) List() ([]Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(); err != nil {
		return nil, err
	}
	out := []Entry{}
	for _, e := range r.in.Keys {
		out = append(out, e.Entry)
	}
	return out, nil
}

// Root says that the file holds one root key for all purposes (ErrOneRoot).
func (r *Ring) Root() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.root != nil
}

func destroyed(e *stored) error {
	return fmt.Errorf("purpose %s, epoch %d: %w on %s; trefoil key rotate %s makes a new one, with which its datasets are built anew, or drop them",
		e.Purpose, e.Epoch, ErrDestroyed, e.Destroyed.Format(time.DateOnly), e.Purpose)
}

func (r *Ring) find(purpose string, epoch int) *stored {
	for i := range r.in.Keys {
		if e := &r.in.Keys[i]; e.Purpose == purpose && e.Epoch == epoch {
			return e
		}
	}
	return nil
}

// refresh reads the file again when another process, or nobody yet, did.
func (r *Ring) refresh() error {
	info, err := os.Stat(r.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.forget()
		r.seen, r.root, r.in = nil, nil, content{Version: 1, KMS: r.o.URI}
		return nil
	case err != nil:
		return fmt.Errorf("read key ring: %w", err)
	case r.seen != nil && os.SameFile(info, r.seen) && info.ModTime().Equal(r.seen.ModTime()) && info.Size() == r.seen.Size():
		return nil
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("read key ring %s: others can read it (mode %04o): chmod 600 it, and rotate the keys if they did", r.path, info.Mode().Perm())
	}
	r.forget()
	r.root, r.in, r.seen = nil, content{}, nil
	for range 3 { // who replaces the file overwrites the old one, which we may be reading
		var text []byte
		if text, err = os.ReadFile(r.path); err != nil {
			break
		}
		if len(text) == Size {
			r.root, r.seen = text, info
			return nil
		}
		if err = r.decode(text); err == nil {
			r.seen = info
			return nil
		}
	}
	return fmt.Errorf("read key ring %s: %w", r.path, err)
}

func (r *Ring) decode(text []byte) error {
	r.in = content{}
	if err := json.Unmarshal(text, &r.in); err != nil {
		return errors.New("it is neither a key ring nor a root key of 32 bytes")
	}
	if r.in.Version != 1 {
		return fmt.Errorf("version %d is not known", r.in.Version)
	}
	if r.in.KMS != r.o.URI {
		return errors.New("its keys are wrapped by another key management system than is configured, or by none (keys.kms)")
	}
	for _, e := range r.in.Keys {
		if (len(e.Secret) == 0) != (e.Destroyed != nil) {
			return fmt.Errorf("the key of purpose %s, epoch %d is neither whole nor destroyed", e.Purpose, e.Epoch)
		}
	}
	return nil
}

// forget overwrites the keys in memory.
func (r *Ring) forget() {
	for _, k := range r.plain {
		clear(k)
	}
	r.plain = map[id][]byte{}
}

func (r *Ring) sort() {
	slices.SortFunc(r.in.Keys, func(a, b stored) int {
		if a.Purpose != b.Purpose {
			if a.Purpose < b.Purpose {
				return -1
			}
			return 1
		}
		return a.Epoch - b.Epoch
	})
}
