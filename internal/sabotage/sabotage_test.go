package sabotage_test

import (
	"runtime/debug"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

func TestNothingIsSabotagedWithoutTheTag(t *testing.T) {
	t.Setenv("TREFOIL_SABOTAGE", "floor")
	tagged := false
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			tagged = tagged || s.Key == "-tags" && strings.Contains(s.Value, "sabotage")
		}
	}
	if sabotage.Active("floor") != tagged {
		t.Errorf("Active is %v in a build whose sabotage tag is %v", !tagged, tagged)
	}
	if sabotage.Active("another") {
		t.Error("a sabotage that was not asked for is active")
	}
}
