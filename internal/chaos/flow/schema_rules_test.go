package flow

import (
	"testing"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// The files of the test are files that an operator could have: the rules find nothing.
func TestTheFilesOfTheTestAreValid(t *testing.T) {
	cat, catAt, err1 := catalog.ParseCatalog("catalog.yaml", []byte(catalogText()))
	ds, dsAt, err2 := catalog.ParseDatasets("datasets.yaml", []byte(datasetsText("")))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	purposes := &catalog.Purposes{Version: 1, Purposes: []catalog.Purpose{{Name: "research", Basis: "GDPR art. 6(1)(f)", Epoch: 1,
		Text: map[string]string{"en": "To test.", "fr": "Pour essayer."}}}}
	for _, e := range catalog.Validate(&catalog.Files{Catalogs: []*catalog.Catalog{cat}, CatalogPositions: []*strict.Positions{catAt}, Datasets: ds, DatasetsPositions: dsAt, Purposes: purposes}) {
		t.Error(e)
	}
}
