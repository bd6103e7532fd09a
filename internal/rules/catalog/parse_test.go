package catalog

import (
	"testing"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

func FuzzCatalog(f *testing.F) {
	f.Add([]byte(sampleCatalog))
	f.Add([]byte("version: 1\ntables: [{table: a.b, subject: {via: x}, references: [{columns: [x], to: a.b, of: [x]}]}]"))
	f.Fuzz(func(t *testing.T, src []byte) {
		cat, pos, err := ParseCatalog("f", src)
		if err != nil {
			return
		}
		files := &Files{Catalogs: []*Catalog{cat}}
		files.CatalogPositions = append(files.CatalogPositions, pos)
		for _, e := range Validate(files) {
			if e.Line < 1 {
				t.Fatalf("no line: %v", e)
			}
		}
		for _, table := range cat.Tables {
			_, _ = cat.Path(table.Table)
		}
	})
}

func FuzzDatasets(f *testing.F) {
	f.Add([]byte(sampleDatasets), []byte(samplePurposes))
	f.Fuzz(func(t *testing.T, datasets, purposes []byte) {
		cat, _, err := ParseCatalog("c", []byte(sampleCatalog))
		if err != nil {
			t.Fatal(err)
		}
		files := &Files{Catalogs: []*Catalog{cat}}
		files.Datasets, files.DatasetsPositions, _ = ParseDatasets("d", datasets)
		files.Purposes, files.PurposesPositions, _ = ParsePurposes("p", purposes)
		wrong := Validate(files)
		for i := range files.Datasets.Datasets {
			ds := &files.Datasets.Datasets[i]
			def, err := Definition(ds, cat, files.Purposes)
			if err != nil {
				continue
			}
			if class, _ := ClassOf(def); len(wrong) == 0 && ds.Cluster == "outside" && class != law.ClassPseudonymised {
				t.Fatalf("valid, outside, and of class %q", class)
			}
		}
	})
}
