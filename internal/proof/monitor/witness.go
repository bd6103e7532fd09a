package monitor

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
	"golang.org/x/mod/sumdb/note"
)

// Outcomes of add-checkpoint that are not a cosignature (C2SP tlog-witness). Each is final
// for the request; on errConflict the log asks again from the size it is told.
var (
	errMalformed     = errors.New("malformed request")
	errUnknownOrigin = errors.New("origin is not one of the watched logs")
	errLogSignature  = errors.New("checkpoint is not signed by the log's key")
	errConflict      = errors.New("old size or root is not that of the last cosigned checkpoint")
	errInconsistent  = errors.New("consistency proof does not verify")
	errWitnessState  = errors.New("witness state cannot be trusted")
)

// maxProofLines is how many hashes a consistency proof may have (C2SP tlog-witness).
const maxProofLines = 63

// witness cosigns one log's checkpoints. It never signs a smaller tree than the largest it
// signed, nor another root of the same size, as far as its disk knows.
type witness struct {
	log   note.Verifier
	trust *trefoil.Trust // the log, and this witness by the keys it has and had
	keys  *keys
	now   func() time.Time
	path  string
	sync  func(path string, data []byte, mode os.FileMode) error

	mu   sync.Mutex
	last *trefoil.Checkpoint // nil: never cosigned
	raw  []byte              // last, with the log's signature and the own cosignature
}

// originHash names an origin in paths: the first 16 bytes of SHA-256, in hex.
func originHash(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:16])
}

// openWitness reads the state of one log. A state that is not signed by both is an error.
func openWitness(dir string, trust *trefoil.Trust, k *keys, now func() time.Time) (*witness, error) {
	log := trust.Log
	w := &witness{log: log, trust: trust, keys: k, now: now, path: filepath.Join(dir, originHash(log.Name())), sync: writeFileSync}
	raw, err := os.ReadFile(w.path)
	if errors.Is(err, os.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read witness state: %w", err)
	}
	c, err := w.cosigned(raw)
	if err != nil {
		return nil, fmt.Errorf("read witness state of %s: %w: %w", log.Name(), errWitnessState, err)
	}
	w.last, w.raw = c, raw
	return w, nil
}

// cosigned verifies that a checkpoint carries the log's signature and this witness's.
func (w *witness) cosigned(raw []byte) (*trefoil.Checkpoint, error) {
	return w.trust.VerifyCheckpoint(raw)
}

// size returns the size of the last cosigned checkpoint.
func (w *witness) size() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		return 0
	}
	return w.last.Size
}

// checkpoint returns the last cosigned checkpoint, nil if there is none.
func (w *witness) checkpoint() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.raw
}

// learn takes over a larger checkpoint that this witness itself once signed: its disk was
// set back. It reports whether it did.
func (w *witness) learn(raw []byte) (bool, error) {
	c, err := w.cosigned(raw)
	if err != nil {
		return false, nil // not its signature: nothing to learn
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last != nil && c.Size <= w.last.Size {
		return false, nil
	}
	if err := w.sync(w.path, raw, 0o600); err != nil {
		return false, fmt.Errorf("keep checkpoint: %w", err)
	}
	w.last, w.raw = c, raw
	return true, nil
}

// addRequest is the parsed body of POST /add-checkpoint.
type addRequest struct {
	old   uint64
	proof [][]byte
	cp    *trefoil.Checkpoint
	raw   []byte
}

// parseAddRequest reads the body. It verifies no signature.
func parseAddRequest(body []byte) (*addRequest, error) {
	head, raw, ok := strings.Cut(string(body), "\n\n")
	if !ok {
		return nil, fmt.Errorf("%w: no empty line", errMalformed)
	}
	lines := strings.Split(head, "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	if !ok || len(lines)-1 > maxProofLines {
		return nil, fmt.Errorf("%w: old size line or too many hashes", errMalformed)
	}
	r := &addRequest{raw: []byte(raw)}
	var err error
	if r.old, err = strconv.ParseUint(size, 10, 63); err != nil || strconv.FormatUint(r.old, 10) != size {
		return nil, fmt.Errorf("%w: old size", errMalformed)
	}
	for _, l := range lines[1:] {
		h, err := base64.StdEncoding.Strict().DecodeString(l)
		if err != nil || len(h) != sha256.Size {
			return nil, fmt.Errorf("%w: a hash", errMalformed)
		}
		r.proof = append(r.proof, h)
	}
	if r.cp, err = trefoil.ParseCheckpoint(r.raw); err != nil {
		return nil, fmt.Errorf("%w: checkpoint", errMalformed)
	}
	return r, nil
}

// add checks the request against the last cosigned checkpoint, persists the new one, and
// returns the cosignature line. With errConflict, size is what the log should start from.
func (w *witness) add(r *addRequest) (line []byte, size uint64, err error) {
	signed, err := note.Open(r.raw, note.VerifierList(w.log))
	if err != nil || r.cp.Origin != w.log.Name() {
		return nil, 0, errLogSignature
	}
	if r.old > r.cp.Size {
		return nil, 0, fmt.Errorf("%w: old size is larger than the checkpoint", errMalformed)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.consistent(r); err != nil {
		if w.last != nil {
			size = w.last.Size
		}
		return nil, size, err
	}
	// Only the log's signature and the own one are kept: others could be of any size.
	signers, verifiers := []note.Signer{w.keys.witness}, []note.Verifier{w.keys.witnessVerifier}
	for _, e := range w.keys.elderWitnesses {
		if w.now().After(e.until) {
			continue
		}
		signers, verifiers = append(signers, e.signer), append(verifiers, e.verifier)
	}
	cosigned, err := note.Sign(&note.Note{Text: signed.Text, Sigs: signed.Sigs}, signers...)
	if err != nil {
		return nil, 0, fmt.Errorf("cosign checkpoint: %w", err)
	}
	if err := w.sync(w.path, cosigned, 0o600); err != nil {
		return nil, 0, fmt.Errorf("keep checkpoint: %w", err)
	}
	if err := sabotage.Point("checkpoint-kept"); err != nil {
		return nil, 0, fmt.Errorf("cosign checkpoint: %w", err)
	}
	w.last, w.raw = r.cp, cosigned
	return signatureLines(cosigned, verifiers)
}

// consistent compares the request with the last cosigned checkpoint. The lock is held.
func (w *witness) consistent(r *addRequest) error {
	last := trefoil.Checkpoint{Root: sha256.Sum256(nil)}
	if w.last != nil {
		last = *w.last
	}
	if r.old != last.Size {
		return errConflict
	}
	if r.old == r.cp.Size {
		if r.cp.Root != last.Root {
			return fmt.Errorf("%w: another root", errConflict)
		}
		if len(r.proof) != 0 {
			return errInconsistent
		}
		return nil
	}
	if r.old == 0 {
		if len(r.proof) != 0 {
			return errInconsistent
		}
		return nil
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, r.old, r.cp.Size, r.proof, last.Root[:], r.cp.Root[:]); err != nil {
		return errInconsistent
	}
	return nil
}

// signatureLines returns the lines of a note by verifiers, with their ends.
func signatureLines(raw []byte, verifiers []note.Verifier) ([]byte, uint64, error) {
	n, err := note.Open(raw, note.VerifierList(verifiers...))
	if err != nil || len(n.Sigs) != len(verifiers) {
		return nil, 0, fmt.Errorf("read own cosignature: %w", errors.Join(err, errWitnessState))
	}
	var lines []byte
	for _, s := range n.Sigs {
		lines = append(lines, "\u2014 "+s.Name+" "+s.Base64+"\n"...)
	}
	return lines, 0, nil
}
