package catalog

import (
	"reflect"
	"strings"
	"testing"
)

func TestWrittenFilesReadBack(t *testing.T) {
	f := parseSamples(t)
	f.Catalogs[0].Tables[0].Columns[1].Why = "named like: \"e-mail\"\n# and {odd} [text], 'quoted' — NO"
	f.Catalogs[0].Tables[0].Columns[1].Reviewed = false
	src, err := MarshalCatalog(f.Catalogs[0])
	if err != nil {
		t.Fatal(err)
	}
	back, _, err := ParseCatalog("catalog.yaml", src)
	if err != nil || !reflect.DeepEqual(normalise(back), normalise(f.Catalogs[0])) {
		t.Errorf("%v\n%s", err, src)
	}
	if !strings.Contains(string(src), "# review: named like: \"e-mail\" # and {odd}") || !strings.Contains(string(src), "- {name: id, type: bigint") {
		t.Errorf("not written for review:\n%s", src)
	}
	if src, err = MarshalDatasets(f.Datasets, map[string]string{"support": "first dataset", "support/app.people.email": "asked for"}); err != nil {
		t.Fatal(err)
	}
	if ds, _, err := ParseDatasets("datasets.yaml", src); err != nil || !reflect.DeepEqual(ds, f.Datasets) ||
		!strings.Contains(string(src), "# first dataset\n") || !strings.Contains(string(src), "# asked for\n") {
		t.Errorf("%v\n%s", err, src)
	}
	if src, err = MarshalPurposes(f.Purposes); err != nil {
		t.Fatal(err)
	}
	if ps, _, err := ParsePurposes("purposes.yaml", src); err != nil || !reflect.DeepEqual(ps, f.Purposes) {
		t.Errorf("%v\n%s", err, src)
	}
}

// normalise makes nil and empty lists alike.
func normalise(c *Catalog) *Catalog {
	out := *c
	out.Tables = append([]Table(nil), c.Tables...)
	for i := range out.Tables {
		if len(out.Tables[i].References) == 0 {
			out.Tables[i].References = nil
		}
		if len(out.Tables[i].Columns) == 0 {
			out.Tables[i].Columns = nil
		}
	}
	return &out
}

func TestNameThatIsNoTextIsRefused(t *testing.T) {
	if _, err := MarshalCatalog(&Catalog{Database: "a\xffb"}); err == nil {
		t.Error("no error")
	}
}

func FuzzCatalog(f *testing.F) {
	f.Add([]byte(sampleCatalog))
	f.Add([]byte("version: 1\ntables: [{table: a.b, columns: [{name: \"\\u0085\", type: x}]}]"))
	f.Fuzz(func(t *testing.T, src []byte) {
		c, pos, err := ParseCatalog("f", src)
		if err != nil {
			return
		}
		Validate(&Files{Catalogs: []*Catalog{c}, CatalogPositions: nil})
		Validate(&Files{Catalogs: []*Catalog{c, c}, DatasetsPositions: pos})
		out, err := MarshalCatalog(c)
		if err != nil {
			return
		}
		back, _, err := ParseCatalog("g", out)
		if err != nil {
			t.Fatalf("what was written does not read: %v\n%s", err, out)
		}
		if !reflect.DeepEqual(normalise(back), normalise(c)) {
			t.Fatalf("what was written reads differently\n%s", out)
		}
	})
}

func FuzzDatasets(f *testing.F) {
	f.Add([]byte(sampleDatasets), []byte(samplePurposes))
	f.Fuzz(func(t *testing.T, datasets, purposes []byte) {
		cat, pos, err := ParseCatalog("c", []byte(sampleCatalog))
		if err != nil {
			t.Fatal(err)
		}
		files := &Files{Catalogs: []*Catalog{cat}}
		files.Datasets, files.DatasetsPositions, _ = ParseDatasets("d", datasets)
		files.Purposes, files.PurposesPositions, _ = ParsePurposes("p", purposes)
		_ = pos
		wrong := Validate(files)
		for i := range files.Datasets.Datasets {
			ds := &files.Datasets.Datasets[i]
			def, err := Definition(ds, cat, files.Purposes)
			if err != nil {
				continue
			}
			if class, _ := ClassOf(def); len(wrong) == 0 && ds.Cluster == "outside" && class != "pseudonymised" {
				t.Fatalf("valid, outside, and of class %q", class)
			}
		}
	})
}
