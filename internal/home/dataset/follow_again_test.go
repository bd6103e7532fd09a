package dataset

import (
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// A follower that ends before its first batch, again and again, tells the source nothing that
// would make the next one take it for another.
func TestStartingAgainAndAgainBuildsNothing(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, small, smallCatalog, smallDatasets)
	stop := f.follow()
	f.caughtUp(conn)
	built := f.one("SELECT built_at FROM trefoil_info.dataset")
	time.Sleep(1200 * time.Millisecond) // a marker of the flow's own is in the log by now, and positions after it
	for range 6 {
		sourceDo(t, conn, "UPDATE app.visit SET note = note || '.' WHERE id % 9 = 0")
	}
	f.caughtUp(conn)
	stop()
	state, err := f.b.Flow(testContext(t), f.name)
	if err != nil {
		t.Fatal(err)
	}
	start, err := flow.ParseLSN(state.Position)
	if err != nil {
		t.Fatal(err)
	}
	before, err := flow.FindSlot(testContext(t), conn, state.Slot)
	if err != nil || before == nil {
		t.Fatal(err)
	}
	// What a follower does until its first batch: it opens the stream, which speaks at once.
	for range 2 {
		s, err := flow.Open(testContext(t), flow.Config{DSN: f.dsn, Slot: state.Slot, Publication: publication, Start: start})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		s.Close()
	}
	after, err := flow.FindSlot(testContext(t), conn, state.Slot)
	if err != nil || after == nil || after.Confirmed != before.Confirmed {
		t.Errorf("the slot went from %v to %v though nothing was confirmed: %v", before, after, err)
	}
	f.follow()
	f.caughtUp(conn)
	if now := f.one("SELECT built_at FROM trefoil_info.dataset"); now != built {
		t.Error("it was built again")
	}
}
