package monitor

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/trefoil-eu/trefoil"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"
)

// elder is an outgoing key. It signs beside its successor until the overlap ends.
type elder struct {
	signer      note.Signer
	verifier    note.Verifier
	from, until time.Time // zero from: since the beginning
}

// Rotate replaces the witness or the permit key of the monitor in dir, which must not run. The
// outgoing key signs the succession, which is kept, and signs on beside the new one for overlap.
// It returns the new vkey and the succession.
func Rotate(dir, use string, overlap time.Duration, now time.Time) (vkey, succession string, err error) {
	if use != UseWitness && use != UsePermit {
		return "", "", errors.New("rotate key: use is neither witness nor permit")
	}
	lock, err := os.OpenFile(filepath.Join(dir, "state", "lock"), os.O_RDWR, 0)
	if err == nil {
		defer lock.Close()
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			return "", "", fmt.Errorf("rotate key: %w", errLocked)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", "", fmt.Errorf("rotate key: %w", err)
	}
	path := filepath.Join(dir, "keys", use)
	oldVkey, err := ReadVerifierKey(use, path)
	if err != nil {
		return "", "", err
	}
	old, err := ReadSigner(path)
	if err != nil {
		return "", "", err
	}
	made := filepath.Join(dir, "keys", "successions")
	if err := os.MkdirAll(made, 0o700); err != nil {
		return "", "", fmt.Errorf("rotate key: %w", err)
	}
	stamp := now.UTC().Format("20060102T150405Z")
	kept := filepath.Join(made, fmt.Sprintf("%s-%s", use, stamp))
	if vkey, err = NewKey(use, old.Name(), path+".new"); err != nil {
		return "", "", err
	}
	from := now.UTC().Truncate(time.Second)
	succession, err = trefoil.SignSuccession(trefoil.Succession{Use: use, Old: oldVkey, New: vkey, From: from, Until: from.Add(overlap.Truncate(time.Second))}, old)
	if err != nil {
		return "", "", errors.Join(fmt.Errorf("rotate key: %w", err), os.Remove(path+".new"))
	}
	// The old key is linked first: whatever stops this halfway, no key is lost.
	err = errors.Join(writeFileSync(kept+".note", []byte(succession), 0o600), os.Link(path, kept+".key"))
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return "", "", fmt.Errorf("rotate key: %w", err)
	}
	return vkey, succession, nil
}

// readSuccessions reads the notes of one use in dir/keys/successions and the keys that they
// succeed, oldest first.
func readSuccessions(dir, use string) (notes []string, elders []elder, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "keys", "successions", use+"-*.note"))
	if err != nil {
		return nil, nil, fmt.Errorf("read successions: %w", err)
	}
	slices.Sort(files)
	var begins time.Time
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, fmt.Errorf("read successions: %w", err)
		}
		s, err := trefoil.ReadSuccession(string(text))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		notes = append(notes, string(text))
		skey, err := readSecret(strings.TrimSuffix(file, ".note") + ".key")
		if err != nil {
			return nil, nil, err
		}
		e, err := elderOf(use, skey)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		if e.until = s.Until; len(elders) > 0 {
			e.from = begins
		}
		begins = s.From
		elders = append(elders, e)
	}
	return notes, elders, nil
}

func elderOf(use, skey string) (e elder, err error) {
	if use != UseWitness {
		e.signer, e.verifier, err = plainKey(skey)
		return e, err
	}
	s, err := fnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		return e, err
	}
	return elder{signer: s, verifier: s.Verifier()}, nil
}

// readElders fills in what was succeeded. The last succession must lead to the key in use.
func (k *keys) readElders(dir string) (err error) {
	if k.witnessNotes, k.elderWitnesses, err = readSuccessions(dir, UseWitness); err != nil {
		return err
	}
	if k.permitNotes, k.elderPermits, err = readSuccessions(dir, UsePermit); err != nil {
		return err
	}
	for use, notes := range map[string][]string{UseWitness: k.witnessNotes, UsePermit: k.permitNotes} {
		if len(notes) == 0 {
			continue
		}
		s, err := trefoil.ReadSuccession(notes[len(notes)-1])
		if err != nil {
			return err
		}
		if now, err := ReadVerifierKey(use, filepath.Join(dir, "keys", use)); err != nil || now != s.New {
			return errors.Join(err, fmt.Errorf("the %s key is not the one that the last succession names", use))
		}
	}
	return nil
}

// permitAt returns what signs a permit at a time: the key that counts then, first, and others that
// do in an overlap.
func (k *keys) permitAt(at time.Time) (note.Signer, []note.Signer) {
	var signers []note.Signer
	if n := len(k.permitNotes); n == 0 {
		return k.permit, nil
	} else if s, err := trefoil.ReadSuccession(k.permitNotes[n-1]); err == nil && !at.Before(s.From) {
		signers = append(signers, k.permit)
	}
	for _, e := range slices.Backward(k.elderPermits) {
		if !at.Before(e.from) && !at.After(e.until) {
			signers = append(signers, e.signer)
		}
	}
	if len(signers) == 0 {
		return k.permit, nil
	}
	return signers[0], signers[1:]
}

// fullTrust is ownTrust with the permit key, and those before it.
func (k *keys) fullTrust(log note.Verifier) (*trefoil.Trust, error) {
	t, err := k.ownTrust(log)
	if err != nil {
		return nil, err
	}
	if t.Permit = k.permitVerifier; len(k.elderPermits) > 0 {
		t.Permit = k.elderPermits[0].verifier
	}
	for _, n := range k.permitNotes {
		if err := t.Succeed(n); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// ownTrust is what a checkpoint must carry that this monitor cosigned, with a key it has or had.
func (k *keys) ownTrust(log note.Verifier) (*trefoil.Trust, error) {
	if len(k.witnessNotes) == 0 {
		return trustOf(log, k.witnessVerifier), nil
	}
	first, err := trefoil.ReadSuccession(k.witnessNotes[0])
	if err != nil {
		return nil, err
	}
	root, err := trefoil.NewWitnessVerifier(first.Old)
	if err != nil {
		return nil, err
	}
	t := trustOf(log, root)
	for _, n := range k.witnessNotes {
		if err := t.Succeed(n); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// announceKeys enters successions that the journal does not have: they come into the own log.
func (m *Monitor) announceKeys() error {
	for _, text := range append(slices.Clone(m.keys.witnessNotes), m.keys.permitNotes...) {
		m.state.mu.Lock()
		var seq uint64
		var err error
		if hash := hashOf([]byte(text)); !m.state.orders.used[hash] {
			seq, err = m.step(&entry{Type: entryKey, At: m.now().UnixMicro(), Hash: hash}, []byte(text))
		}
		m.state.mu.Unlock()
		if err == nil && seq > 0 {
			err = m.journal.wait(seq)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// getKeys publishes the monitor's keys, and how they came after each other.
func (m *Monitor) getKeys(w http.ResponseWriter, r *http.Request) {
	v, err := PublicKeys(m.dir)
	if err != nil {
		m.failed(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		VerifierKeys
		Successions []string `json:"successions"`
	}{v, append(slices.Clone(m.keys.witnessNotes), m.keys.permitNotes...)})
}
