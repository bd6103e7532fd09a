package trefoil

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"time"
)

// StaffPeriod is the layout of a staff pseudonym's period: the month, in UTC.
const StaffPeriod = "2006-01"

// StaffPseudonym returns the name under which a principal appears in the records of at's
// month: the first 20 characters of base32(HMAC-SHA256(key, period ‖ 0x00 ‖ id)), lower case kept
// out. Whoever holds the key can map it back by trying every principal; nobody else can.
func StaffPseudonym(key []byte, at time.Time, id string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(at.UTC().Format(StaffPeriod)))
	mac.Write([]byte{0})
	mac.Write([]byte(id))
	return base32.StdEncoding.EncodeToString(mac.Sum(nil))[:20]
}

// DefinitionHash is the hex SHA-256 of a definition's deterministic JSON, "" for nil or for
// a definition that has none (strings that are not UTF-8).
func DefinitionHash(d *Definition) string {
	if d == nil {
		return ""
	}
	enc, err := encodeJSON(d)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(enc)
	return hex.EncodeToString(sum[:])
}

// LeafHash is the RFC 6962 hash of a leaf: SHA-256(0x00 ‖ leaf).
func LeafHash(leaf []byte) [32]byte {
	var short [1 + LeafSize]byte
	if len(leaf) < len(short) {
		n := copy(short[1:], leaf)
		return sha256.Sum256(short[:1+n])
	}
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(leaf)
	return [32]byte(h.Sum(nil))
}
