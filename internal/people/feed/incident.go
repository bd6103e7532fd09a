package feed

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// Recorder takes a record on its way to the access log. home/control's outbox is one; after
// nil the record will get there.
type Recorder interface {
	Enqueue(ctx context.Context, b *trefoil.Body) error
}

// Reason is why an incident was opened: a closed set, in records and in metrics.
type Reason string

// The reasons of incidents.
const (
	ReasonNotLoaded       Reason = "feed: a model file does not load"
	ReasonNotReproducible Reason = "feed: a decision does not come out the same"
	ReasonModelMissing    Reason = "feed: the model of a decision is not in the archive"
	ReasonProfiled        Reason = "feed: a score without profiling moved with personal features"
	ReasonKeptPersonal    Reason = "feed: a decision without profiling keeps personal features"
	ReasonSheetMissing    Reason = "feed: a model ranks without a parameter sheet"
	ReasonSheetStale      Reason = "feed: the parameter sheet is stale"
	ReasonWeights         Reason = "feed: a weight left its stated range"
)

// incidents opens each finding once and closes it once, across restarts.
type incidents struct {
	state    State
	recorder Recorder
	now      func() time.Time

	mu sync.Mutex // one change at a time
}

// openIncident is what the state keeps of a finding.
type openIncident struct {
	ID   string    `json:"id"`
	Open bool      `json:"open"`
	At   time.Time `json:"at"`
}

// set opens or closes the incident of a surface and reason. It does nothing if that is how it is.
func (x *incidents) set(ctx context.Context, surface string, reason Reason, open bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := "incident/" + surface + "/" + string(reason)
	var was openIncident
	if _, err := x.state.Get(ctx, key, &was); err != nil {
		return err
	}
	if was.Open == open {
		return nil
	}
	event, is := "closed", openIncident{ID: was.ID, At: x.now().UTC()}
	if open {
		event, is.Open = "opened", true
		is.ID = fmt.Sprintf("feed/%s/%d", surface, is.At.UnixMicro())
	}
	// The record comes first: should the state fail, the next check says it twice, never not at all.
	err := x.recorder.Enqueue(ctx, &trefoil.Body{At: is.At, Kind: trefoil.KindIncident,
		Incident: &trefoil.IncidentBody{Event: event, ID: is.ID, Reason: string(reason)}})
	if err != nil {
		return fmt.Errorf("record incident: %w", err)
	}
	return x.state.Put(ctx, key, is)
}

// list returns the open incidents of a surface.
func (x *incidents) list(ctx context.Context, surface string) ([]Incident, error) {
	var out []Incident
	for _, reason := range []Reason{ReasonNotLoaded, ReasonNotReproducible, ReasonModelMissing, ReasonProfiled, ReasonKeptPersonal,
		ReasonSheetMissing, ReasonSheetStale, ReasonWeights} {
		var is openIncident
		if _, err := x.state.Get(ctx, "incident/"+surface+"/"+string(reason), &is); err != nil {
			return nil, err
		}
		if is.Open {
			out = append(out, Incident{ID: is.ID, Reason: reason, Opened: is.At})
		}
	}
	return out, nil
}

// Incident is an open finding.
type Incident struct {
	ID     string    `json:"id"`
	Reason Reason    `json:"reason"`
	Opened time.Time `json:"opened"`
}
