package dataset

import (
	"slices"
	"strings"
	"testing"
)

// TestASubjectsCountryChangedReadAndRestored moves a person away with a recorded change, as an
// operator would who wants to read them as somebody without protection, and moves them back: the
// region's dataset goes on holding them, and one of persons elsewhere is under the same regime, so
// the same floor.
func TestASubjectsCountryChangedReadAndRestored(t *testing.T) {
	home := setup(t, shop, shopCatalog, strings.Replace(shopDatasets, "doc, form: clear,", "doc,", 1))
	away := *home
	away.name = home.name + "_us"
	away.b = home.open(shopCatalog, strings.NewReplacer("doc, form: clear,", "doc,", "[EEA, GB, CH]", "[US]", "NAME", away.name).Replace(shopDatasets), nil)
	t.Cleanup(func() {
		home.target.Exec(t, home.target.SuperuserDSN("postgres"), `DROP DATABASE IF EXISTS "`+away.name+`" WITH (FORCE)`, `DROP ROLE IF EXISTS "`+group(away.name)+`"`)
	})
	def, _, err := away.b.Define(away.name)
	if err != nil || !slices.Contains(def.Regimes, "EU") {
		t.Fatalf("a dataset of persons elsewhere is under the regimes %v: %v", def.Regimes, err)
	}
	home.build()
	inside := home.one("SELECT count(*) FROM app.person")
	for _, step := range []struct{ what, sql string }{
		{"moved away", "UPDATE app.person SET country = 'US', moved = current_date, moved_from = 'NO' WHERE id = 4"},
		{"moved back", "UPDATE app.person SET country = 'NO', moved = current_date, moved_from = 'US' WHERE id = 4"},
	} {
		home.source.Exec(t, home.dsn, step.sql)
		home.build()
		away.build()
		if in := home.one("SELECT count(*) FROM app.person"); in != inside {
			t.Errorf("%s: %s persons in the region's dataset, not %s", step.what, in, inside)
		}
	}
}
