package transform

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// KeySize is the length in bytes of a root key file.
const KeySize = 32

// Keys derives the keys of pseudonyms, each from the secret of its purpose and epoch.
type Keys struct {
	secret func(purpose string, epoch int) ([]byte, error)
}

// NewKeys takes one root key of KeySize bytes for all purposes and epochs.
func NewKeys(root []byte) (*Keys, error) {
	if len(root) != KeySize {
		return nil, fmt.Errorf("root key has %d bytes, not %d", len(root), KeySize)
	}
	root = append([]byte(nil), root...)
	return KeysOf(func(string, int) ([]byte, error) { return root, nil }), nil
}

// KeysOf takes the secrets, of KeySize bytes each, from secret, which may refuse.
func KeysOf(secret func(purpose string, epoch int) ([]byte, error)) *Keys {
	return &Keys{secret: secret}
}

// ReadKeyFile reads the key file of KeySize bytes at path. When no file is there it makes one
// of random bytes, readable by its owner alone, on stable storage before it is used. A file that
// others can read is refused.
func ReadKeyFile(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("read key file: no path is configured")
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKeyFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read key file %s: others can read it (mode %04o): chmod 600 it, and change the key if they did", path, info.Mode().Perm())
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if len(key) != KeySize {
		return nil, fmt.Errorf("read key file %s: %d bytes, not %d", path, len(key), KeySize)
	}
	return key, nil
}

// makeKeyFile writes a fresh key beside path and links it there, so that two processes
// that start at once agree on one key and no reader sees half a key.
func makeKeyFile(path string) ([]byte, error) {
	key := make([]byte, KeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("draw key: %w", err)
	}
	tmp := fmt.Sprintf("%s.%d.new", path, os.Getpid())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	defer os.Remove(tmp)
	_, err = f.Write(key)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Link(tmp, path)
	}
	if errors.Is(err, fs.ErrExist) {
		return ReadKeyFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	return key, nil
}

// domainKeys are the two keys of one purpose, domain and epoch.
type domainKeys struct{ block, mac []byte }

// derive is HKDF-SHA256 with an info string in which no two triples are equal: each part
// carries its length.
func (k *Keys) derive(purpose, domain string, epoch int) (domainKeys, error) {
	info := []byte("trefoil/pseudonym/v1")
	for _, part := range []string{purpose, domain} {
		info = binary.BigEndian.AppendUint32(info, uint32(len(part)))
		info = append(info, part...)
	}
	info = binary.BigEndian.AppendUint64(info, uint64(epoch))
	secret, err := k.secret(purpose, epoch)
	if err != nil {
		return domainKeys{}, fmt.Errorf("key of pseudonyms: %w", err)
	}
	out, err := hkdf.Key(sha256.New, secret, nil, string(info), 64)
	if err != nil {
		return domainKeys{}, fmt.Errorf("derive key: %w", err)
	}
	return domainKeys{block: out[:32], mac: out[32:]}, nil
}

// Order derives the key that orders rows whose own key is not a pseudonym.
func (k *Keys) Order(purpose, table string, epoch int) ([]byte, error) {
	d, err := k.derive(purpose, "\x00order\x00"+table, epoch)
	return d.mac, err
}

func (d domainKeys) cipher() (cipher.Block, error) { return aes.NewCipher(d.block) }
