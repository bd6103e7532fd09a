package dataset

import (
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// A dataset that left the file, one that is defined and does not follow, and a slot of which
// nobody here knows: the first two go at the start of following, the last stays.
func TestSlotsThatNobodyFollowsAreRemovedAndNoOthers(t *testing.T) {
	t.Parallel()
	f, conn := flowingTo(t, ownCluster(t), shop, shopCatalog, shopDatasets)
	ctx := testContext(t)
	slots := func() string {
		found, err := flow.Slots(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range found {
			names = append(names, s.Name)
		}
		return strings.Join(names, " ")
	}
	stranger, casual := "trefoil_of_somebody_01234567", flow.SlotName("case_one")
	t.Cleanup(func() {
		for _, s := range []string{stranger, casual} {
			if err := flow.DropSlot(testContext(t), conn, s); err != nil {
				t.Error(err)
			}
		}
	})
	for _, s := range []string{stranger, casual} {
		if err := flow.CreateSlot(ctx, conn, s); err != nil {
			t.Fatal(err)
		}
	}
	others := slots()
	stop := f.follow()
	f.caughtUp(conn)
	if done, err := f.b.Tidy(ctx); err != nil || len(done) != 0 {
		t.Errorf("while it follows: %+v, %v", done, err)
	}
	stop()
	f.until(func() bool {
		s, err := flow.FindSlot(ctx, conn, flow.SlotName(f.name))
		return err == nil && s != nil && !s.Active
	})
	if done, err := f.b.Tidy(ctx); err != nil || len(done) != 0 {
		t.Errorf("a dataset that only rests: %+v, %v", done, err)
	}
	// Another file, in which it is called otherwise.
	other := f.open(shopCatalog, strings.ReplaceAll(shopDatasets, "NAME", "another_name"), nil)
	done, err := other.Tidy(ctx)
	if err != nil || len(done) != 1 || done[0].Dataset != f.name || done[0].Source != "app" {
		t.Fatalf("a dataset that left the file: %+v, %v", done, err)
	}
	if got := slots(); got != others {
		t.Errorf("slots %s, not %s", got, others)
	}
	if s, err := f.b.Flow(ctx, f.name); err != nil || s.State != stale || s.Reason != "it is not defined any more" {
		t.Errorf("it says %+v, %v", s, err)
	}
	// It is back in the file, and follows again; then it is built without following, while its
	// source cannot be reached to take the slot away.
	f.follow()
	f.caughtUp(conn)
	f.verified()
}

func TestTheSlotOfADatasetThatDoesNotFollowIsRemoved(t *testing.T) {
	t.Parallel()
	f, conn := flowingTo(t, ownCluster(t), shop, shopCatalog, shopDatasets)
	ctx := testContext(t)
	if err := flow.CreateSlot(ctx, conn, flow.SlotName(f.name)); err != nil {
		t.Fatal(err)
	}
	if done, err := f.b.Tidy(ctx); err != nil || len(done) != 1 || done[0].Slot != flow.SlotName(f.name) {
		t.Errorf("not built: %+v, %v", done, err)
	}
	f.build()
	if err := flow.CreateSlot(ctx, conn, flow.SlotName(f.name)); err != nil {
		t.Fatal(err)
	}
	if done, err := f.b.Tidy(ctx); err != nil || len(done) != 1 {
		t.Errorf("built without following: %+v, %v", done, err)
	}
}
