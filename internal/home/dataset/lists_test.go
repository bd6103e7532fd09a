package dataset

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Somebody objects, or asks for restriction: all rows that lead to them leave every dataset that
// follows, within seconds and without a build; they come back when it is lifted.
func TestARestrictedSubjectLeavesADatasetThatFollows(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop, shopCatalog, shopDatasets)
	var now atomic.Pointer[[]string]
	now.Store(&[]string{"99999"})
	f.b.cfg.Restricted = func(_ context.Context, source, purpose string) ([]string, error) {
		if source != "app" || purpose != "research" {
			return nil, errors.New("asked about another source or purpose")
		}
		return *now.Load(), nil
	}
	f.follow()
	f.caughtUp(conn)
	watch := f.connect("")
	built := rows(t, watch, "SELECT built_at FROM trefoil_info.dataset")[0]
	count := func() string {
		return rows(t, watch, `SELECT (SELECT count(*) FROM app.person) || ' ' || (SELECT count(*) FROM "Sales"."Order")`)[0]
	}
	before := count()
	now.Store(&[]string{"99999", "4", "7", "no number"}) // of the two one is in the dataset
	f.until(func() bool { return strings.HasPrefix(count(), "58 ") || strings.HasPrefix(count(), "59 ") })
	f.caughtUp(conn)
	f.verified()
	if after := count(); after == before || strings.Split(after, " ")[1] == strings.Split(before, " ")[1] {
		t.Errorf("rows that lead to them are there still: %s, before %s", after, before)
	}
	sourceDo(t, conn, "UPDATE app.person SET plan = 'pro' WHERE id IN (4, 7)") // written again: still restricted
	f.caughtUp(conn)
	f.verified()
	now.Store(&[]string{})
	f.until(func() bool { return count() == before })
	f.verified()
	if got := rows(t, watch, "SELECT built_at FROM trefoil_info.dataset")[0]; got != built {
		t.Error("it was built again")
	}
}

func TestAListOfSubjectsIsReadAgainWhileFollowing(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop, shopCatalog, strings.Replace(shopDatasets, "rows: {residence: [EEA, GB, CH]}", "rows: {subjects: list.txt}", 1))
	list := filepath.Join(f.dir, "list.txt")
	write := func(text string) {
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1\n2\n3\n")
	stop := f.follow()
	f.caughtUp(conn)
	watch := f.connect("")
	built := rows(t, watch, "SELECT built_at FROM trefoil_info.dataset")[0]
	write("2\n3\n# more\n44\n45\n")
	f.until(func() bool { return rows(t, watch, "SELECT count(*) FROM app.person")[0] == "4" })
	f.verified()
	stop()
	f.follow() // what it rests on was kept: it goes on, and is not built
	f.caughtUp(conn)
	if got := rows(t, watch, "SELECT built_at FROM trefoil_info.dataset")[0]; got != built {
		t.Error("it was built again")
	}
}

// Nobody knows who is restricted: nothing is built, rather than everybody's rows.
func TestWithoutAnAnswerAboutRestrictionsNothingIsBuilt(t *testing.T) {
	t.Parallel()
	f := setup(t, shop, shopCatalog, shopDatasets)
	f.b.cfg.Restricted = func(context.Context, string, string) ([]string, error) { return nil, errors.New("the store is away") }
	if _, err := f.b.BuildReport(testContext(t), f.name); err == nil || !strings.Contains(err.Error(), "restricted") {
		t.Errorf("built: %v", err)
	}
	f.b.cfg.Restricted = func(context.Context, string, string) ([]string, error) { return []string{"1", "4"}, nil }
	f.build()
	f.verified()
}
