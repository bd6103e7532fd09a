package dataset

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/home/keyring"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// next is f with purposes.yaml at another epoch, as a process that starts anew reads it.
func (f *fixture) next(cat, datasets string, epoch int) {
	f.t.Helper()
	f.b = f.open(cat, datasets, func(c *Config) {
		c.Purposes = &catalog.Purposes{Version: 1, Purposes: []catalog.Purpose{{Name: "research", Basis: "GDPR art. 6(1)(f)", Epoch: epoch}}}
	})
}

// Known before: a new epoch alone left a dataset's definition as it was, so nobody outside saw it.
func TestANewEpochIsAnotherDefinition(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	_, first, err := f.b.Define(f.name)
	if err != nil {
		t.Fatal(err)
	}
	f.next(smallCatalog, smallDatasets, 2)
	def, second, err := f.b.Define(f.name)
	if err != nil || first == second || def.Epoch != 2 {
		t.Errorf("the definition of epoch 2 is that of epoch 1: %v %v", def, err)
	}
}

func TestRotationPseudonymisesAnewBesideWhatStands(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, small, smallCatalog, smallDatasets)
	stop := f.follow()
	f.caughtUp(conn)
	before := f.rows("SELECT id FROM app.visit ORDER BY 1")
	if _, err := f.b.ring.Rotate("research", 2); err != nil {
		t.Fatal(err)
	}
	stop()
	reader := f.connect("")
	tx, err := reader.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(testContext(t), "DECLARE old CURSOR FOR SELECT id FROM app.visit ORDER BY 1"); err != nil {
		t.Fatal(err)
	}
	f.next(smallCatalog, smallDatasets, 2)
	f.follow()
	f.caughtUp(conn)
	var first string
	if err := tx.QueryRow(testContext(t), "FETCH old").Scan(&first); err != nil || first != before[0] {
		t.Errorf("a statement that ran was disturbed: %q, %v", first, err)
	}
	if err := tx.Rollback(testContext(t)); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool {
		info, err := f.b.Info(testContext(t), f.name)
		_, hash, _ := f.b.Define(f.name)
		return err == nil && info.DefinitionHash == hash
	})
	for _, id := range f.rows("SELECT id FROM app.visit ORDER BY 1") {
		if slices.Contains(before, id) {
			t.Fatal("a pseudonym of the former epoch is there still")
		}
	}
	f.caughtUp(conn)
	f.verified()
	users, err := f.b.BuiltWith(testContext(t), "research", 1)
	if err != nil || len(users) > 0 {
		t.Errorf("the former key is in use by %v: %v", users, err)
	}
}

func TestADestroyedKeyEndsWhatWasMadeWithIt(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, small, smallCatalog, smallDatasets)
	f.follow()
	f.caughtUp(conn)
	if users, err := f.b.BuiltWith(testContext(t), "research", 1); err != nil || !slices.Contains(users, f.name) {
		t.Errorf("in use by %v: %v", users, err)
	}
	if _, err := f.b.ring.Destroy("research", 1); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool { // the flow had the key in memory
		s, err := f.b.Flow(testContext(t), f.name)
		return err == nil && s.State == stale && strings.Contains(s.Reason, "key was destroyed")
	})
	_, err := f.b.Verify(testContext(t), f.name)
	if !errors.Is(err, keyring.ErrDestroyed) || !strings.Contains(err.Error(), "trefoil key rotate research") {
		t.Errorf("verify: %v", err)
	}
	if _, err := f.b.BuildReport(testContext(t), f.name); !errors.Is(err, keyring.ErrDestroyed) && !errors.Is(err, ErrBusy) {
		t.Errorf("build: %v", err)
	}
}
