package trefoil_test

import (
	"reflect"
	"testing"

	"github.com/trefoil-eu/trefoil"
)

// TestFormsHideNoColumn counts every column that shows something, classified or not.
func TestFormsHideNoColumn(t *testing.T) {
	d := &trefoil.Definition{Columns: []trefoil.DefinedColumn{
		{Category: "contact", Form: "pseudonymised"},
		{Category: "contact", Form: "clear"},
		{Category: "contact", Form: "clear"},
		{Category: "content", Form: "withheld"},
		{Category: "", Trait: "neutral", Form: "clear"},
		{Category: "", Form: "generalised"},
	}}
	want := map[string][]string{
		"contact":      {"clear", "pseudonymised"},
		"neutral":      {"clear"},
		"unclassified": {"generalised"},
	}
	if got := d.Forms(); !reflect.DeepEqual(got, want) {
		t.Errorf("Forms() = %v, want %v", got, want)
	}
}
