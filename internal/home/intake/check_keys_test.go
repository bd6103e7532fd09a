package intake

import (
	"context"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

func TestADatasetThatMergesKeysIsSaidNotToFollow(t *testing.T) {
	schema := &postgres.Schema{Tables: []*postgres.Table{
		{Name: postgres.Name{Schema: "app", Name: "visit"}, PrimaryKey: &postgres.Key{Name: "visit_pkey", Columns: []string{"id", "at"}}}}}
	for _, c := range []struct {
		key, id, at string
		said        bool
	}{
		{"", "form: pseudonymised", "form: clear", false},
		{"", "form: pseudonymised", "form: generalised, by: day", true},
		{"[id]", "form: pseudonymised", "form: generalised, by: day", false},
		{"[id]", "form: withheld, 'null': true", "form: generalised, by: day", true},
		{"[at]", "form: pseudonymised", "form: generalised, by: day", true},
		{"[person]", "form: pseudonymised", "form: generalised, by: day", true}, // no part of the primary key
	} {
		text := followedCatalog
		if c.key != "" {
			text = strings.Replace(text, "    subject: {column: person}\n", "    subject: {column: person}\n    key: "+c.key+"\n", 1)
		}
		cat, _, err := catalog.ParseCatalog("catalog.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		ds, _, err := catalog.ParseDatasets("datasets.yaml", []byte(strings.NewReplacer("{name: id, form: clear}, {name: person", "{name: id, "+c.id+"}, {name: person",
			"{name: at, form: clear}", "{name: at, "+c.at+"}").Replace(followedDatasets)))
		if err != nil {
			t.Fatal(err)
		}
		k := &sourceCheck{Source: Source{Catalog: cat, Datasets: []*catalog.Dataset{&ds.Datasets[0]}}, schema: schema}
		if err := k.keys(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := said(k.found, "dataset shop cannot follow") != nil; got != c.said {
			t.Errorf("%+v: %v", c, k.found)
		}
	}
}
