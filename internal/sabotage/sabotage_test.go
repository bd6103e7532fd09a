package sabotage_test

import (
	"os"
	"path/filepath"
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
	t.Setenv("TREFOIL_HOSTILE", "skip")
	if sabotage.Hostile("skip") != tagged || sabotage.Hostile("widen") {
		t.Errorf("Hostile is %v in a build whose sabotage tag is %v", !tagged, tagged)
	}
	order := filepath.Join(t.TempDir(), "order")
	if err := os.WriteFile(order, []byte("fail append"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TREFOIL_FAULT", order)
	if sabotage.Point("appended") != nil {
		t.Error("a failpoint obeys another's order")
	}
	if err := sabotage.Point("append"); (err != nil) != tagged {
		t.Errorf("Point is %v in a build whose sabotage tag is %v", err, tagged)
	}
	if err := sabotage.Point("append"); err != nil {
		t.Error("an order was carried out twice")
	}
	if sabotage.Active("another") {
		t.Error("a sabotage that was not asked for is active")
	}
}
