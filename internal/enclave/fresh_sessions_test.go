package enclave

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// opened are sessions that remember why they were ended.
type opened struct {
	of    []gateway.SessionInfo
	ended map[string]string
}

func (o *opened) Sessions() []gateway.SessionInfo { return o.of }

func (o *opened) CloseSessions(match func(gateway.SessionInfo) bool, reason string) int {
	n := 0
	for _, s := range o.of {
		if match(s) {
			o.ended[s.ID] = reason
			n++
		}
	}
	return n
}

func TestSessionsEndWhenTheirDatasetGetsTooOld(t *testing.T) {
	o := &opened{ended: map[string]string{}, of: []gateway.SessionInfo{
		{ID: "old", Database: "late", Path: gateway.Release}, {ID: "old too", Database: "late", Path: gateway.Release},
		{ID: "service", Database: "late", Path: gateway.Service}, {ID: "fresh", Database: "fresh", Path: gateway.Release},
		{ID: "unbounded", Database: "unbounded", Path: gateway.Release}, {ID: "away", Database: "away", Path: gateway.Release}}}
	asked := map[string]int{}
	built := func(_ context.Context, name string) (Built, error) {
		asked[name]++
		f := dataset.Freshness{Lag: time.Second, Refuse: time.Minute}
		switch name {
		case "late":
			f.Lag = time.Hour
		case "away":
			return Built{}, errors.New("away")
		}
		return Built{Fresh: f}, nil
	}
	err := endStale(t.Context(), o, func(name string) bool { return name != "unbounded" }, built, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "dataset away") {
		t.Errorf("a dataset that cannot be read: %v", err)
	}
	if len(o.ended) != 2 || !strings.Contains(o.ended["old"], "1h0m0s behind its source, more than its bound of 1m0s") || o.ended["old too"] == "" {
		t.Errorf("ended: %v", o.ended)
	}
	if asked["late"] != 1 || asked["unbounded"] != 0 {
		t.Errorf("asked: %v", asked)
	}
}
