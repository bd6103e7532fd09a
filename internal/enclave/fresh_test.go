package enclave_test

import (
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

func TestADatasetOlderThanItsBoundOpensToNobody(t *testing.T) {
	s := load(t)
	w, a := s.ready()
	hash := trefoil.DefinitionHash(s.rules.Definitions["care"])
	standing := func(lag time.Duration, state string) gateway.Decision {
		w.built["care"] = enclave.Built{Hash: hash, FreshAsOf: noon.Add(-lag), Fresh: dataset.Freshness{AsOf: noon.Add(-lag), Lag: lag,
			Bytes: 4096, State: state, Warn: 10 * time.Second, Refuse: 5 * time.Minute}}
		return a.Authorise(t.Context(), s.ask(t, "ie", "care"))
	}
	for _, c := range []struct {
		lag   time.Duration
		state string
		want  string
	}{
		{time.Second, "following", "(1s ago, 4096 bytes of the source's log behind)"},
		{11 * time.Second, "following", "(11s ago, 4096 bytes of the source's log behind; WARNING: older than its bound of 10s)"},
		{11 * time.Second, "stale", "(11s ago, no longer follows its source; WARNING"},
		{time.Second, "", "(1s ago, does not follow its source)"},
	} {
		if d := standing(c.lag, c.state); d.Path != gateway.Release || !strings.Contains(d.Notice, c.want) {
			t.Errorf("%s behind, %s: path %d, %s", c.lag, c.state, d.Path, d.Notice)
		}
	}
	for _, state := range []string{"following", "stale", ""} {
		d := standing(5*time.Minute+time.Second, state)
		if d.Path != gateway.Deny || d.Refusal.SQLState != "57P03" || d.Refusal.Rule != "dataset-too-old" || !strings.Contains(d.Refusal.Message, "5m1s behind") ||
			!strings.Contains(d.Refusal.Hint, "trefoil dataset follow") {
			t.Errorf("beyond the bound, %q: path %d, %+v", state, d.Path, d.Refusal)
		}
	}
}
