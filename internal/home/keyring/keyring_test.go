package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/testing/fakekms"
	"github.com/tink-crypto/tink-go/v2/tink"
)

func open(t *testing.T, path string, o Options) *Ring {
	t.Helper()
	r, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func secret(t *testing.T, r *Ring, purpose string, epoch int) []byte {
	t.Helper()
	k, err := r.Secret(purpose, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysAreApartAndStay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring")
	r := open(t, path, Options{})
	a, b, c := secret(t, r, "a", 1), secret(t, r, "a", 2), secret(t, r, "b", 1)
	if bytes.Equal(a, b) || bytes.Equal(a, c) || bytes.Equal(b, c) || len(a) != Size {
		t.Error("two keys are one")
	}
	if again := secret(t, open(t, path, Options{}), "a", 1); !bytes.Equal(a, again) {
		t.Error("another process has another key")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the ring has mode %v: %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil {
		t.Error("a ring that others can read is taken")
	}
}

// Nobody gets a key that was destroyed: not who has the ring open, not who opens it, not who
// asks as if it had never been made, and not from the file or its leavings.
func TestADestroyedKeyIsGoneForEver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ring")
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	r, other := open(t, path, Options{Now: func() time.Time { return now }}), open(t, path, Options{})
	key := secret(t, r, "a", 1)
	keep := secret(t, other, "a", 2)
	for range 2 { // twice is once
		e, err := r.Destroy("a", 1)
		if err != nil || e.Destroyed == nil || e.Destroyed.Day() != 1 || e.Destroyed.Hour() != 12 {
			t.Fatalf("destroyed at %v: %v", e.Destroyed, err)
		}
		now = now.Add(time.Hour)
	}
	for name, ring := range map[string]*Ring{"who destroyed it": r, "who had it open": other, "who opens it": open(t, path, Options{})} {
		if _, err := ring.Secret("a", 1); !errors.Is(err, ErrDestroyed) || !strings.Contains(err.Error(), "2026-05-01") {
			t.Errorf("%s: %v", name, err)
		}
		if err := ring.Stands("a", 1); !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s: it stands: %v", name, err)
		}
		if !bytes.Equal(secret(t, ring, "a", 2), keep) {
			t.Errorf("%s: another key went with it", name)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || bytes.Contains(text, key) {
			t.Errorf("%s holds the key: %v", f, err)
		}
	}
	if epoch, err := r.Rotate("a", 1); err != nil || epoch != 3 {
		t.Errorf("rotated to %d: %v", epoch, err)
	}
	if _, err := r.Destroy("a", 9); !errors.Is(err, ErrUnknown) {
		t.Errorf("destroyed what was never there: %v", err)
	}
}

// The former file's blocks are overwritten: who held it open reads nothing.
func TestTheFormerFileIsOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring")
	r := open(t, path, Options{})
	secret(t, r, "a", 1)
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if _, err := r.Destroy("a", 1); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, _ := old.Read(buf)
	if n == 0 || !bytes.Equal(buf[:n], make([]byte, n)) {
		t.Errorf("%d bytes of the former ring can be read", n)
	}
}

func TestProcessesAgreeOnOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring")
	var all sync.WaitGroup
	keys := make([][]byte, 16)
	for i := range keys {
		all.Go(func() {
			r, err := Open(path, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if keys[i], err = r.Secret("a", 1+i%2); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range keys {
		if !bytes.Equal(keys[i], keys[i%2]) {
			t.Fatal("two processes have two keys for one purpose and epoch")
		}
	}
}

func TestOneRootStillServesAndNoneOfItCanBeDestroyed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root")
	root := bytes.Repeat([]byte{9}, Size)
	if err := os.WriteFile(path, root, 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, path, Options{})
	if !bytes.Equal(secret(t, r, "a", 1), root) || !r.Root() {
		t.Error("a root key does not serve")
	}
	if _, err := r.Destroy("a", 1); !errors.Is(err, ErrOneRoot) {
		t.Errorf("a key of a root was destroyed: %v", err)
	}
	if epoch, err := r.Rotate("a", 2); err != nil || epoch != 2 {
		t.Errorf("rotated to %d: %v", epoch, err)
	}
}

func TestDamagedRingsAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "cut": `{"version":1,"keys":[{"purpose":"a"`, "another version": `{"version":2,"keys":[]}`,
		"a key without a secret": `{"version":1,"keys":[{"purpose":"a","epoch":1,"made":"2026-01-01T00:00:00Z"}]}`,
		"wrapped by a KMS":       `{"version":1,"kms":"openbao://x/transit/keys/y","keys":[]}`,
	} {
		path := filepath.Join(t.TempDir(), "ring")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Options{}); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// counted is a KMS that may be away.
type counted struct {
	tink.AEAD
	calls int
	away  bool
}

func (c *counted) Supported(string) bool { return true }

func (c *counted) GetAEAD(uri string) (tink.AEAD, error) {
	client, err := fakekms.NewClient(uri)
	if err != nil {
		return nil, err
	}
	c.AEAD, err = client.GetAEAD(uri)
	return c, err
}

func (c *counted) Decrypt(in, ad []byte) ([]byte, error) {
	if c.calls++; c.away {
		return nil, errors.New("the KMS is away")
	}
	return c.AEAD.Decrypt(in, ad)
}

func TestAKMSWrapsTheKeys(t *testing.T) {
	uri, err := fakekms.NewKeyURI()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ring")
	key := secret(t, open(t, path, Options{KMS: &counted{}, URI: uri}), "a", 1)
	text, err := os.ReadFile(path)
	if err != nil || bytes.Contains(text, key) {
		t.Fatalf("the key stands in the file: %v", err)
	}
	if _, err := Open(path, Options{}); err == nil {
		t.Error("a wrapped ring is read as if it were not")
	}
	k := &counted{}
	r := open(t, path, Options{KMS: k, URI: uri})
	for range 3 {
		if !bytes.Equal(secret(t, r, "a", 1), key) {
			t.Error("another key came out")
		}
	}
	if k.calls != 1 {
		t.Errorf("the KMS was asked %d times", k.calls)
	}
	away := open(t, path, Options{KMS: &counted{away: true}, URI: uri})
	if _, err := away.Secret("a", 1); err == nil {
		t.Error("a key came out while the KMS was away")
	}
	if err := away.Stands("a", 1); err != nil {
		t.Errorf("whether a key stands needs no KMS: %v", err)
	}
}

// Somebody who may write the file puts one purpose's wrapped key in another's place, so that
// two datasets can be joined.
func TestAWrappedKeyOpensInItsOwnPlaceOnly(t *testing.T) {
	uri, err := fakekms.NewKeyURI()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ring")
	secret(t, open(t, path, Options{KMS: &counted{}, URI: uri}), "a", 1)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(`"purpose": "a"`), []byte(`"purpose": "b"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, path, Options{KMS: &counted{}, URI: uri}).Secret("b", 1); err == nil {
		t.Error("another purpose's key came out")
	}
}
