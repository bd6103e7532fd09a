package trefoil_test

import (
	"slices"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

func TestADefinitionOfACaseSaysWhatBoundsIt(t *testing.T) {
	key, end := make([]byte, 32), time.Date(2026, 5, 4, 16, 0, 0, 0, time.UTC)
	parent := &trefoil.Definition{Name: "analytics", Cluster: "outside", K: 10, Epoch: 7, Purpose: "research", Rows: map[string]string{"residence": "EEA"},
		Columns: []trefoil.DefinedColumn{{Table: "app.person", Column: "id", Form: "pseudonymised"}}}
	ann, ben := trefoil.CasePseudonym(key, "case_x", "ann"), trefoil.CasePseudonym(key, "case_x", "ben")
	want := trefoil.Case{Name: "case_x", Of: "analytics", Subjects: "ab", Grant: "12", Until: end, Who: []string{ben, ann}}
	d := trefoil.CaseDefinition(parent, want)
	if d.Cluster != "inside" || d.K != 0 || d.Epoch != 1 || d.Name != "case_x" || d.Rows["residence"] != "EEA" || len(parent.Rows) != 1 || parent.Name != "analytics" {
		t.Errorf("a case of %+v is %+v", parent, d)
	}
	c, is := d.Case()
	slices.Sort(want.Who)
	if !is || c.Name != want.Name || c.Of != want.Of || c.Subjects != want.Subjects || c.Grant != want.Grant || !c.Until.Equal(end) || !slices.Equal(c.Who, want.Who) {
		t.Errorf("it reads back as %+v", c)
	}
	if _, is := parent.Case(); is {
		t.Error("a standing dataset is a case")
	}
	parent.Epoch = 8
	if trefoil.DefinitionHash(trefoil.CaseDefinition(parent, want)) != trefoil.DefinitionHash(d) {
		t.Error("a new epoch of the parent's keys makes another case of it: its keys are its own")
	}
	before := end.Add(-time.Second)
	for _, x := range []struct {
		name string
		c    trefoil.Case
		key  []byte
		id   string
		at   time.Time
		want bool
	}{
		{"who is named", c, key, "ann", before, true},
		{"somebody else", c, key, "eve", before, false},
		{"the name of nobody", c, key, "", before, false},
		{"at its end", c, key, "ann", end, false},
		{"with another key", c, []byte("other"), "ann", before, false},
		{"the zero case", trefoil.Case{}, key, "", time.Time{}, false},
	} {
		if got := x.c.Opens(x.key, x.id, x.at); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
	other := c
	other.Name = "case_y"
	if other.Opens(key, "ann", before) {
		t.Error("a pseudonym of one case opens another")
	}
	d.Rows["until"] = "later"
	if c, _ := d.Case(); c.Opens(key, "ann", before) {
		t.Error("a case without a readable end is open")
	}
}
