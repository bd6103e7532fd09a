package keyring

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// envelope wraps keys with data keys of their own, which the KMS wraps.
func envelope(remote tink.AEAD) tink.AEAD {
	return aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote)
}

// bound is what a wrapped key is bound to: it opens as no other purpose's or epoch's.
func bound(purpose string, epoch int) []byte {
	return []byte("trefoil/keyring/v1\x00" + purpose + "\x00" + strconv.Itoa(epoch))
}

// add draws a key.
func (r *Ring) add(purpose string, epoch int) error {
	if r.find(purpose, epoch) != nil {
		return nil // another process was faster
	}
	key := make([]byte, Size)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("draw key: %w", err)
	}
	secret := key
	if r.aead != nil {
		var err error
		if secret, err = r.aead.Encrypt(key, bound(purpose, epoch)); err != nil {
			return fmt.Errorf("wrap a key: %w", err)
		}
	}
	r.in.Keys = append(r.in.Keys, stored{Entry{Purpose: purpose, Epoch: epoch, Made: r.o.Now().UTC().Truncate(time.Second)}, secret})
	r.sort()
	return nil
}

// open gives a key, unwrapped once.
func (r *Ring) open(e *stored) ([]byte, error) {
	if e == nil {
		return nil, ErrUnknown
	}
	if e.Destroyed != nil {
		return nil, destroyed(e)
	}
	at := id{e.Purpose, e.Epoch}
	if k := r.plain[at]; k != nil {
		return k, nil
	}
	key := append([]byte(nil), e.Secret...)
	if r.aead != nil {
		var err error
		if key, err = r.aead.Decrypt(e.Secret, bound(e.Purpose, e.Epoch)); err != nil {
			return nil, fmt.Errorf("unwrap the key of purpose %s, epoch %d: %w", e.Purpose, e.Epoch, err)
		}
	}
	if len(key) != Size {
		return nil, fmt.Errorf("the key of purpose %s, epoch %d has %d bytes, not %d", e.Purpose, e.Epoch, len(key), Size)
	}
	r.plain[at] = key
	return key, nil
}

// change does something to what is in the file, under a lock that other processes see, and
// writes it. The caller holds r.mu.
func (r *Ring) change(do func() error) error {
	lock, err := os.OpenFile(r.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock key ring: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock key ring: %w", err)
	}
	if err := r.refresh(); err != nil {
		return err
	}
	if r.root != nil {
		return ErrOneRoot
	}
	if err := do(); err != nil {
		r.seen = nil // what is in memory may not be what is in the file
		return errors.Join(err, r.refresh())
	}
	if err := r.write(); err != nil {
		r.seen = nil
		return err
	}
	r.seen = nil
	return r.refresh()
}

// write replaces the file, and returns once the new one is on stable storage. The old one is
// overwritten first, as far as a file system does what it is told.
func (r *Ring) write() error {
	text, err := json.MarshalIndent(r.in, "", "  ")
	if err != nil {
		return fmt.Errorf("write key ring: %w", err)
	}
	tmp := fmt.Sprintf("%s.%d.new", r.path, os.Getpid())
	_ = os.Remove(tmp) // of a process that died and had our number
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write key ring: %w", err)
	}
	defer os.Remove(tmp)
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write key ring: %w", err)
	}
	old, _ := os.OpenFile(r.path, os.O_WRONLY, 0) // nil when there is none
	if err := os.Rename(tmp, r.path); err != nil {
		return fmt.Errorf("write key ring: %w", errors.Join(err, closed(old)))
	}
	return errors.Join(syncDirectory(filepath.Dir(r.path)), overwrite(old))
}

func closed(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// overwrite writes zeros over a file that has no name any more.
func overwrite(f *os.File) error {
	if f == nil {
		return nil
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("overwrite the former key ring: %w", err)
	}
	return nil
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync key ring: %w", err)
	}
	if err = errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync key ring: %w", err)
	}
	return nil
}
