package monitor

import (
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed rules.example.yaml
var exampleRules string

// VerifierKeys are the public halves of a monitor's keys.
type VerifierKeys struct {
	Witness string `json:"witness"` // cosignature/v1
	Permit  string `json:"permit"`
	Log     string `json:"log"` // of the monitor's own log

	Stop      string `json:"stop"`      // of its count of stops
	Statement string `json:"statement"` // of its statements and exports
}

// String returns what a gateway and a verifier trust: witness and permit vkeys.
func (v VerifierKeys) String() string { return v.Witness + "," + v.Permit }

// Init makes dir with new keys, a token for callers, one for the readers of bodies, one for the valve, and
// a commented rules.yaml to be filled in. What exists is never replaced.
func Init(dir, name string) (VerifierKeys, error) {
	var v VerifierKeys
	if _, err := os.Stat(filepath.Join(dir, RulesFile)); !errors.Is(err, os.ErrNotExist) {
		return v, fmt.Errorf("set up monitor: %s is there already", filepath.Join(dir, RulesFile))
	}
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		return v, fmt.Errorf("set up monitor: %w", err)
	}
	var err error
	for _, k := range []struct {
		use string
		key *string
	}{{UseWitness, &v.Witness}, {UsePermit, &v.Permit}, {UseLog, &v.Log}, {UseStatement, &v.Statement}, {UseStop, &v.Stop}} {
		if *k.key, err = NewKey(k.use, name+"/"+k.use, filepath.Join(dir, "keys", k.use)); err != nil {
			return v, fmt.Errorf("set up monitor: %w", err)
		}
	}
	for _, token := range []string{"token", "bodies-token", "valve-token"} {
		if err := writeNew(filepath.Join(dir, "keys", token), rand.Text()+rand.Text()+"\n"); err != nil {
			return v, fmt.Errorf("set up monitor: %w", err)
		}
	}
	text := strings.ReplaceAll(exampleRules, "MONITOR-NAME", name)
	if err := writeNew(filepath.Join(dir, RulesFile), text); err != nil {
		return v, fmt.Errorf("set up monitor: %w", err)
	}
	return v, nil
}

// PublicKeys returns the verifier keys of the monitor in dir.
func PublicKeys(dir string) (VerifierKeys, error) {
	var v VerifierKeys
	var errs [4]error
	v.Witness, errs[0] = ReadVerifierKey(UseWitness, filepath.Join(dir, "keys", UseWitness))
	v.Permit, errs[1] = ReadVerifierKey(UsePermit, filepath.Join(dir, "keys", UsePermit))
	v.Log, errs[2] = ReadVerifierKey(UseLog, filepath.Join(dir, "keys", UseLog))
	v.Statement, errs[3] = ReadVerifierKey(UseStatement, filepath.Join(dir, "keys", UseStatement))
	if path := filepath.Join(dir, "keys", UseStop); errors.Join(errs[:]...) == nil { // made by the first start of an older directory
		if v.Stop, errs[0] = ReadVerifierKey(UseStop, path); errors.Is(errs[0], os.ErrNotExist) {
			errs[0] = nil
		}
	}
	return v, errors.Join(errs[:]...)
}

// writeNew writes a file that must not exist, with mode 0600.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, werr := f.WriteString(text)
	return errors.Join(werr, f.Sync(), f.Close())
}
