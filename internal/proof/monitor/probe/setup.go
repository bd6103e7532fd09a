package probe

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

//go:embed probe.example.yaml
var exampleSettings string

// PasswordFile is where Init puts the probe's password, inside the monitor's directory.
const PasswordFile = "keys/probe"

// Init makes a password for the probe's login and a commented probe.yaml in a monitor's directory.
// It returns the password's SCRAM verifier, which is what the operator gets: with it a server can
// check the password, and nobody can log in. What exists is never replaced.
func Init(dir string) (verifier string, err error) {
	password := rand.Text() + rand.Text()
	for _, f := range []struct{ path, text string }{{PasswordFile, password + "\n"}, {SettingsFile, exampleSettings}} {
		if err := writeNew(filepath.Join(dir, f.path), f.text); err != nil {
			return "", fmt.Errorf("set up probe: %w", err)
		}
	}
	return Verifier(password)
}

// Verifier makes the form in which PostgreSQL stores a SCRAM-SHA-256 password (RFC 5803).
func Verifier(password string) (string, error) {
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return "", fmt.Errorf("draw salt: %w", err)
	}
	const iterations = 4096
	salted, err := pbkdf2.Key(sha256.New, password, salt[:], iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("make verifier: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt[:]), b64(stored[:]), b64(mac("Server Key"))), nil
}

func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, werr := f.WriteString(text)
	return errors.Join(werr, f.Sync(), f.Close())
}

// Install puts a signed enrolment in force: it must verify, and come after the one that is there.
func Install(dir string, text []byte, officers []string) (*Enrolment, error) {
	e, err := OpenEnrolment(text, officers)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, EnrolmentFile)); err == nil {
		old, err := LoadEnrolment(dir, officers)
		if err != nil {
			return nil, fmt.Errorf("the enrolment in force: %w", err)
		}
		if e.Number != old.Number+1 {
			return nil, fmt.Errorf("install enrolment: its number is %d, the next is %d", e.Number, old.Number+1)
		}
	}
	path := filepath.Join(dir, EnrolmentFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return nil, fmt.Errorf("install enrolment: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("install enrolment: %w", err)
	}
	return e, nil
}

// Changes lists what one enrolment has and the other has not, for a person to read.
func Changes(old, e *Enrolment) (more, fewer []string) {
	list := func(e *Enrolment) map[string]bool {
		out := map[string]bool{}
		if e == nil {
			return out
		}
		for _, t := range e.Targets {
			for _, x := range t.Entries {
				out[fmt.Sprintf("%s %s %s %s: %s", t.Name, x.Topic, x.Database, x.Name, x.Value)] = true
			}
		}
		return out
	}
	a, b := list(old), list(e)
	return missing(b, a), missing(a, b)
}

func missing(a, b map[string]bool) []string {
	var out []string
	for x := range a {
		if !b[x] {
			out = append(out, x)
		}
	}
	slices.Sort(out)
	return out
}
