package audit

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// Labels of the lines of a key log that are needed.
const (
	handshakeLabel = "SERVER_HANDSHAKE_TRAFFIC_SECRET"
	trafficLabel   = "SERVER_TRAFFIC_SECRET_0"
)

// Secrets are the server's secrets of one TLS 1.3 connection.
type Secrets struct {
	clientRandom       []byte
	handshake, traffic []byte
}

// ParseSecrets reads key log lines (SSLKEYLOGFILE) of one connection.
func ParseSecrets(lines []byte) (*Secrets, error) {
	var s Secrets
	for line := range bytes.Lines(lines) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue
		}
		var into *[]byte
		switch string(f[0]) {
		case handshakeLabel:
			into = &s.handshake
		case trafficLabel:
			into = &s.traffic
		default:
			continue
		}
		random, err1 := hex.DecodeString(string(f[1]))
		secret, err2 := hex.DecodeString(string(f[2]))
		if err := errors.Join(err1, err2); err != nil || *into != nil || s.clientRandom != nil && !bytes.Equal(s.clientRandom, random) {
			return nil, errors.New("read secrets: they are not those of one connection")
		}
		s.clientRandom, *into = random, secret
	}
	if s.handshake == nil || s.traffic == nil {
		return nil, errors.New("read secrets: the server's secrets are missing")
	}
	return &s, nil
}

// suite is a cipher suite of TLS 1.3.
type suite struct {
	name   string
	hash   func() hash.Hash
	key    int
	cipher func(key []byte) (cipher.AEAD, error)
}

func suiteOf(id uint16) *suite {
	switch id {
	case 0x1301:
		return &suite{"TLS_AES_128_GCM_SHA256", sha256.New, 16, newGCM}
	case 0x1302:
		return &suite{"TLS_AES_256_GCM_SHA384", sha512.New384, 32, newGCM}
	case 0x1303:
		return &suite{"TLS_CHACHA20_POLY1305_SHA256", sha256.New, 32, chacha20poly1305.New}
	}
	return nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// expand is HKDF-Expand-Label (RFC 8446, 7.1) with an empty context.
func (s *suite) expand(secret []byte, label string, n int) ([]byte, error) {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "+label...)
	return hkdf.Expand(s.hash, secret, string(append(info, 0)), n)
}

// opener opens the records of one traffic secret, in any order.
type opener struct {
	suite  *suite
	secret []byte
	aead   cipher.AEAD
	iv     []byte
}

func (s *suite) opener(secret []byte) (*opener, error) {
	if len(secret) != s.hash().Size() {
		return nil, fmt.Errorf("a secret of %d bytes is none of %s", len(secret), s.name)
	}
	key, err := s.expand(secret, "key", s.key)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	iv, err := s.expand(secret, "iv", 12)
	if err != nil {
		return nil, fmt.Errorf("derive iv: %w", err)
	}
	aead, err := s.cipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return &opener{s, secret, aead, iv}, nil
}

// next is the opener after a key update (RFC 8446, 7.2).
func (o *opener) next() (*opener, error) {
	secret, err := o.suite.expand(o.secret, "traffic upd", o.suite.hash().Size())
	if err != nil {
		return nil, fmt.Errorf("update key: %w", err)
	}
	return o.suite.opener(secret)
}

// finished is what the server's Finished must hold (RFC 8446, 4.4.4).
func (o *opener) finished(mac func(key []byte) hash.Hash, transcript []byte) ([]byte, error) {
	key, err := o.suite.expand(o.secret, "finished", o.suite.hash().Size())
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	h := mac(key)
	h.Write(transcript)
	return h.Sum(nil), nil
}

// open opens record number seq in place and returns its content and content type.
func (o *opener) open(seq uint64, head, body []byte) (content []byte, typ byte, err error) {
	var nonce [12]byte
	copy(nonce[:], o.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(seq >> (56 - 8*i))
	}
	plain, err := o.aead.Open(body[:0], nonce[:], body, head)
	if err != nil {
		return nil, 0, errors.New("it does not open with the session's secrets")
	}
	end := len(plain)
	for end > 0 && plain[end-1] == 0 {
		end--
	}
	if end == 0 {
		return nil, 0, errors.New("it has no content type")
	}
	return plain[:end-1], plain[end-1], nil
}
