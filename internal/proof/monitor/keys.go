package monitor

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Uses of a key. A witness key makes cosignature/v1 signatures and its vkey says so; the
// others are plain Ed25519 note keys.
const (
	UseLog      = "log"
	UseWitness  = "witness"
	UsePermit   = "permit"
	UseApprover = "approver"

	UseOfficer = "officer" // of a person who orders
	UseStop    = "stop"    // of the count of stops that gateways ask for

	UseStatement = "statement" // of what the monitor publishes: statements, exports of incidents
)

// NewKey writes a new note signing key for use under name to path, with mode 0600, and
// returns its vkey. An existing file is never replaced.
func NewKey(use, name, path string) (string, error) {
	if name == "" || strings.ContainsAny(name, "+ \t\r\n") {
		return "", fmt.Errorf("make key: a name has neither white space nor a plus sign")
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", fmt.Errorf("make key: %w", err)
	}
	switch use {
	case UseWitness:
		if vkey, err = fnote.VKeyToCosignatureV1(vkey); err != nil {
			return "", fmt.Errorf("make key: %w", err)
		}
	case UseLog, UsePermit, UseApprover, UseOfficer, UseStop, UseStatement:
	default:
		return "", fmt.Errorf("make key: use is none of log, witness, permit, approver, officer, stop, statement")
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("make key: %w", err)
	}
	_, werr := f.WriteString(skey + "\n")
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("make key: %w", err), os.Remove(path))
	}
	return vkey, nil
}

// readSecret reads a file that holds one line of secret text.
func readSecret(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	s := strings.TrimSpace(string(raw))
	if s == "" {
		return "", fmt.Errorf("read secret: %s is empty", path)
	}
	return s, nil
}

// keys are the monitor's three: none of them stands for another.
type keys struct {
	witness         note.Signer
	witnessVerifier note.Verifier
	permit          note.Signer
	permitVerifier  note.Verifier
	log             note.Signer
	logVerifier     note.Verifier

	statement         note.Signer
	stop              note.Signer
	statementVerifier note.Verifier

	elderWitnesses []elder // outgoing keys, oldest first
	elderPermits   []elder
	witnessNotes   []string // successions, oldest first
	permitNotes    []string
}

// loadKeys reads dir/keys. A directory of before there were statements and counted stops gets its keys for them.
func loadKeys(dir, name string) (*keys, error) {
	k := &keys{}
	for _, use := range []string{UseStatement, UseStop} {
		path := filepath.Join(dir, "keys", use)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			if _, err := NewKey(use, name+"/"+use, path); err != nil {
				return nil, err
			}
		}
	}
	for use, set := range map[string]func(string) error{
		UseWitness: k.setWitness, UsePermit: k.setPermit, UseLog: k.setLog, UseStatement: k.setStatement, UseStop: k.setStop,
	} {
		skey, err := readSecret(filepath.Join(dir, "keys", use))
		if err != nil {
			return nil, fmt.Errorf("load %s key: %w", use, err)
		}
		if err := set(skey); err != nil {
			return nil, fmt.Errorf("load %s key: %w", use, err)
		}
	}
	return k, k.readElders(dir)
}

func (k *keys) setWitness(skey string) error {
	s, err := fnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		return err
	}
	k.witness, k.witnessVerifier = s, s.Verifier()
	return nil
}

func (k *keys) setStatement(skey string) (err error) {
	k.statement, k.statementVerifier, err = plainKey(skey)
	return err
}

func (k *keys) setStop(skey string) (err error) {
	k.stop, _, err = plainKey(skey)
	return err
}

func (k *keys) setPermit(skey string) (err error) {
	k.permit, k.permitVerifier, err = plainKey(skey)
	return err
}

func (k *keys) setLog(skey string) (err error) {
	k.log, k.logVerifier, err = plainKey(skey)
	return err
}

func plainKey(skey string) (note.Signer, note.Verifier, error) {
	s, err := note.NewSigner(skey)
	if err != nil {
		return nil, nil, err
	}
	vkey, err := VerifierKey(UsePermit, skey)
	if err != nil {
		return nil, nil, err
	}
	v, err := note.NewVerifier(vkey)
	return s, v, err
}

// VerifierKey returns the vkey of a note signing key for use: what NewKey returned.
func VerifierKey(use, skey string) (string, error) {
	parts := strings.SplitN(skey, "+", 5)
	if len(parts) != 5 {
		return "", errors.New("derive vkey: not a note signing key")
	}
	seed, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return "", errors.New("derive vkey: not an Ed25519 note signing key")
	}
	public, ok := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("derive vkey: not an Ed25519 key")
	}
	vkey, err := note.NewEd25519VerifierKey(parts[2], public)
	if err != nil || use != UseWitness {
		return vkey, err
	}
	return fnote.VKeyToCosignatureV1(vkey)
}

// ReadVerifierKey returns the vkey of the signing key in the file at path.
func ReadVerifierKey(use, path string) (string, error) {
	skey, err := readSecret(path)
	if err != nil {
		return "", err
	}
	return VerifierKey(use, skey)
}

// ReadSigner returns the plain Ed25519 note signer in the file at path: an officer's, an approver's.
func ReadSigner(path string) (note.Signer, error) {
	skey, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %s is none", path)
	}
	return s, nil
}
