package demo

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// readFiles decodes the shipped catalog, datasets and purposes.
func readFiles(t *testing.T) *catalog.Files {
	t.Helper()
	read := func(name string) []byte {
		text, err := templates.ReadFile("files/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var f catalog.Files
	c, pos, err := catalog.ParseCatalog("catalog.yaml", read("catalog.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	f.Catalogs = append(f.Catalogs, c)
	f.CatalogPositions = append(f.CatalogPositions, pos)
	if f.Datasets, f.DatasetsPositions, err = catalog.ParseDatasets("datasets.yaml", read("datasets.yaml")); err != nil {
		t.Fatal(err)
	}
	if f.Purposes, f.PurposesPositions, err = catalog.ParsePurposes("purposes.yaml", read("purposes.yaml")); err != nil {
		t.Fatal(err)
	}
	return &f
}

func TestShippedFilesAreValid(t *testing.T) {
	for _, e := range catalog.Validate(readFiles(t)) {
		t.Error(e)
	}
}

// TestDatasetsAreWhatTheStorySays: one dataset may go anywhere, and Japan's has nobody of
// Switzerland, for which Japan is not adequate.
func TestDatasetsAreWhatTheStorySays(t *testing.T) {
	f := readFiles(t)
	for name, want := range map[string]struct {
		class   law.Class
		cluster string
		regimes int
	}{
		"support":   {law.ClassClear, "inside", 3},
		"analytics": {law.ClassPseudonymised, "outside", 3},
		"abuse":     {law.ClassClear, "inside", 2},
	} {
		ds := f.Datasets.Dataset(name)
		if ds == nil {
			t.Errorf("no dataset %s", name)
			continue
		}
		regimes := law.RegimesOf("IE", ds.Rows.Residence)
		def, err := catalog.Definition(ds, f.Catalog("platform"), f.Purposes, regimes...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		class, why := catalog.ClassOf(def)
		if class != want.class || def.Cluster != want.cluster || len(regimes) != want.regimes {
			t.Errorf("%s: class %s %v, cluster %s, regimes %v", name, class, why, def.Cluster, regimes)
		}
		email := false
		for _, c := range def.Columns {
			email = email || c.Table == "app.people" && c.Column == "email"
		}
		if !email {
			t.Errorf("%s does not hold app.people.email in any form", name)
		}
	}
}

func TestADirectoryOfSomebodyElseIsNotTaken(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := &World{o: Options{Dir: dir}}
	if err := w.claim(); err == nil {
		t.Error("a directory with somebody's file was claimed")
	}
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "thesis.txt")); err != nil {
		t.Error("somebody's file is gone")
	}
}
