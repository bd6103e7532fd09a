package trefoil

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Trust is what a verifier believes beforehand: public keys, nothing else.
// The zero value trusts nobody and verifies nothing.
type Trust struct {
	Log       note.Verifier   // the log's key; its name is the log's origin
	Witnesses []note.Verifier // cosignature/v1 keys, each a different key
	Quorum    int             // how many distinct witnesses must have cosigned; 0 = all
	Permit    note.Verifier   // the monitor's permit key; nil: permits cannot be checked

	// Regulators may sign a succession in the place of an outgoing key (Succeed).
	Regulators []note.Verifier
	successors []*successor

	// At, if set, is the verifier's clock: cosignatures from after At + 5 minutes do not
	// count, nor those older than MaxAge if that is set too. Receipts are for ever, so the
	// default checks no time.
	At     time.Time
	MaxAge time.Duration
}

// The algorithm bytes of C2SP signed-note verifier keys that Trefoil takes.
const (
	algEd25519     = 0x01
	algCosignature = 0x04
)

// ParseTrust reads verifier keys: the log's, and the monitor's in any order. Among
// monitorKeys, cosignature keys (0x04) are witnesses and one Ed25519 key (0x01) is the permit
// key. The same public key twice is an error: it would count twice.
func ParseTrust(logKey string, monitorKeys []string) (*Trust, error) {
	logV, err := note.NewVerifier(logKey)
	if err != nil {
		return nil, fmt.Errorf("parse log key: %w", err)
	}
	t := &Trust{Log: logV}
	seen := map[string]bool{keyMaterial(logKey): true}
	for i, vkey := range monitorKeys {
		if material := keyMaterial(vkey); seen[material] {
			return nil, fmt.Errorf("parse monitor key %d: the same public key is given twice", i+1)
		} else {
			seen[material] = true
		}
		if err := t.addMonitorKey(vkey); err != nil {
			return nil, fmt.Errorf("parse monitor key %d: %w", i+1, err)
		}
	}
	return t, nil
}

func (t *Trust) addMonitorKey(vkey string) error {
	switch keyAlgorithm(vkey) {
	case algCosignature:
		v, err := NewWitnessVerifier(vkey)
		if err != nil {
			return err
		}
		t.Witnesses = append(t.Witnesses, v)
	case algEd25519:
		if t.Permit != nil {
			return errors.New("there are two permit keys")
		}
		v, err := note.NewVerifier(vkey)
		if err != nil {
			return err
		}
		t.Permit = v
	default:
		return errors.New("neither a cosignature key (0x04) nor an Ed25519 key (0x01)")
	}
	return nil
}

// NewWitnessVerifier reads a witness's verifier key of type 0x04 (C2SP tlog-cosignature).
func NewWitnessVerifier(vkey string) (note.Verifier, error) {
	if keyAlgorithm(vkey) != algCosignature {
		return nil, errors.New("not a cosignature/v1 key (0x04)")
	}
	v, err := fnote.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		return nil, err
	}
	// The library does not compare the key's own hash field.
	if name, rest, _ := strings.Cut(vkey, "+"); rest[:8] != fmt.Sprintf("%08x", v.KeyHash()) || name != v.Name() {
		return nil, errors.New("the key's hash does not match the key")
	}
	return v, nil
}

// keyMaterial returns the bare public key of a vkey: what makes two keys the same signer
// whatever their names (an Ed25519 cosignature does not commit to its name).
func keyMaterial(vkey string) string {
	raw, err := keyBytes(vkey)
	if err != nil || len(raw) == 0 {
		return vkey
	}
	return string(raw[1:])
}

func keyAlgorithm(vkey string) byte {
	raw, err := keyBytes(vkey)
	if err != nil || len(raw) == 0 {
		return 0
	}
	return raw[0]
}

func keyBytes(vkey string) ([]byte, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 || len(parts[1]) != 8 {
		return nil, errors.New("not a verifier key")
	}
	return base64.StdEncoding.DecodeString(parts[2])
}
