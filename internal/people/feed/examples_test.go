package feed_test

import (
	"os"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

func example(t *testing.T, name string) []byte {
	t.Helper()
	src, err := os.ReadFile("../../../docs/examples/feed/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// What docs/feed.md gives researchers must be a pseudonymised dataset of the tables as they are.
func TestTheResearchersExampleIsAPseudonymisedDatasetOfTheRealTables(t *testing.T) {
	c, cp, err := catalog.ParseCatalog("catalog.yaml", example(t, "catalog.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d, dp, err := catalog.ParseDatasets("datasets.yaml", example(t, "datasets.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p, pp, err := catalog.ParsePurposes("purposes.yaml", example(t, "purposes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	f := &catalog.Files{Catalogs: []*catalog.Catalog{c}, Datasets: d, Purposes: p, DatasetsPositions: dp, PurposesPositions: pp}
	f.CatalogPositions = append(f.CatalogPositions, cp)
	for _, finding := range catalog.Validate(f) {
		t.Error(finding)
	}
	def, err := catalog.Definition(&d.Datasets[0], c, p)
	if err != nil {
		t.Fatal(err)
	}
	if class, why := catalog.ClassOf(def); class != law.ClassPseudonymised {
		t.Errorf("the dataset is %q: %v", class, why)
	}
	withTables, pool := onPostgres(t)
	start(t, withTables)
	if err := feed.NewResearch(pool).Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range c.Tables[1:] {
		for _, col := range table.Columns {
			var kind string
			if err := pool.QueryRow(t.Context(), `select format_type(atttypid, atttypmod) from pg_attribute
				where attrelid = $1::regclass and attname = $2`, table.Table, col.Name).Scan(&kind); err != nil || kind != col.Type {
				t.Errorf("%s.%s is %q, the example says %q: %v", table.Table, col.Name, kind, col.Type, err)
			}
		}
	}
}
