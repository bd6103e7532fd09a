package enclave_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// A new epoch of a purpose's keys comes into force by itself. Nothing else of the files does.
func TestANewEpochIsNoticedAndNothingElseIs(t *testing.T) {
	s := load(t)
	r := s.rules
	path := r.Config.Purposes
	write := func(text []byte, err error) {
		t.Helper()
		if err = errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if next, err := r.Rotated(); next != nil || err != nil {
		t.Fatalf("nothing changed: %v, %v", next, err)
	}
	write(append([]byte("# a remark\n"), text...), nil)
	if next, err := r.Rotated(); next != nil || err != nil {
		t.Errorf("a remark changed: %v, %v", next, err)
	}
	changed := ""
	for name, def := range r.Definitions {
		if def.Epoch != 0 {
			changed = name
		}
	}
	if changed == "" {
		t.Fatal("no dataset of the test holds pseudonyms")
	}
	purpose := r.Definitions[changed].Purpose
	write(catalog.SetEpoch(text, purpose, 7))
	next, err := r.Rotated()
	if err != nil || next == nil {
		t.Fatalf("after a rotation: %v, %v", next, err)
	}
	if next.Definitions[changed].Epoch != 7 || next.CatalogHash == r.CatalogHash || trefoil.DefinitionHash(next.Definitions[changed]) == trefoil.DefinitionHash(r.Definitions[changed]) {
		t.Errorf("the definition that comes into force is %+v", next.Definitions[changed])
	}
	for name, def := range r.Definitions {
		if def.Purpose != purpose && trefoil.DefinitionHash(next.Definitions[name]) != trefoil.DefinitionHash(def) {
			t.Errorf("dataset %s of another purpose is another one", name)
		}
	}
	if r.Definitions[changed].Epoch == 7 {
		t.Error("the rules that were in force changed")
	}
	rotated, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write([]byte(strings.Replace(string(rotated), "GDPR art.", "GDPR Art.", 1)), nil)
	if next, err := r.Rotated(); next != nil || !errors.Is(err, enclave.ErrMoreThanEpochs) {
		t.Errorf("the basis of a purpose changed with it: %v, %v", next, err)
	}
	write(rotated, nil)
	datasets := filepath.Join(filepath.Dir(path), filepath.Base(r.Config.Datasets))
	held, err := os.ReadFile(datasets)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(datasets, []byte(strings.Replace(string(held), "EEA", "IE", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if next, err := r.Rotated(); next != nil || !errors.Is(err, enclave.ErrMoreThanEpochs) {
		t.Errorf("who is in a dataset changed with it: %v, %v", next, err)
	}
	write([]byte("version: 1\npurposes: ["), nil)
	if next, err := r.Rotated(); next != nil || err == nil {
		t.Errorf("a file that is half written: %v", next)
	}
}
