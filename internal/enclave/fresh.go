package enclave

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// notice is the line that a client sees at connect: what it opens, and how old that is.
func notice(def *trefoil.Definition, class law.Class, b Built, now time.Time) string {
	tables := map[string]bool{}
	for _, c := range def.Columns {
		tables[c.Table] = true
	}
	return fmt.Sprintf("Trefoil: dataset %s (%s, for %s): %d tables, as of %s (%s). Columns and forms: SHOW trefoil.dataset. More: trefoil request --dataset NAME --for 4h --reason '…'",
		def.Name, class, def.Purpose, len(tables), b.FreshAsOf.UTC().Format("2006-01-02 15:04:05Z"), age(b, now))
}

// age words how old a dataset is. Why it is behind is the operator's to know: a reason names
// tables that the dataset may not have.
func age(b Built, now time.Time) string {
	f := b.Fresh
	text := max(f.Lag, now.Sub(b.FreshAsOf)).Round(time.Second).String() + " ago"
	if f.State == "following" && f.Bytes >= 0 {
		text += fmt.Sprintf(", %d bytes of the source's log behind", f.Bytes)
	}
	switch f.State {
	case "":
		text += ", does not follow its source"
	case "stale":
		text += ", no longer follows its source"
	}
	if f.Old() {
		text += fmt.Sprintf("; WARNING: older than its bound of %s", f.Warn)
	}
	return text
}

// tooOld refuses a dataset that is older than its bound.
func tooOld(name string, f dataset.Freshness) gateway.Refusal {
	return gateway.Refusal{SQLState: "57P03", Rule: "dataset-too-old", Law: "GDPR art. 5(1)(d)", Reason: "dataset-away",
		Message: fmt.Sprintf("dataset %s is %s behind its source, more than its bound of %s", name, f.Lag.Round(time.Second), f.Refuse),
		Detail:  "What was corrected or erased at the source since then would still be shown.",
		Hint:    "trefoil dataset status " + name + " says why; trefoil dataset follow brings it up to date"}
}

// sessions are the gateway's, as far as ending them goes.
type sessions interface {
	Sessions() []gateway.SessionInfo
	CloseSessions(match func(gateway.SessionInfo) bool, reason string) int
}

// stale ends the sessions of datasets that have become older than their bound.
func (d *duties) stale(ctx context.Context, g sessions) error {
	return endStale(ctx, g, d.standing.bounded, d.standing.Built, d.logger)
}

// endStale asks once for each dataset that is open and has a bound, whatever the number of its
// sessions. A dataset that cannot be read says so and is asked again.
func endStale(ctx context.Context, g sessions, bounded func(string) bool, built func(context.Context, string) (Built, error), logger *slog.Logger) error {
	open := map[string]bool{}
	for _, s := range g.Sessions() {
		if s.Path == gateway.Release && bounded(s.Database) {
			open[s.Database] = true
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(open)) {
		b, err := built(ctx, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("dataset %s: %w", name, err))
			continue
		}
		if !b.Fresh.TooOld() {
			continue
		}
		n := g.CloseSessions(func(s gateway.SessionInfo) bool { return s.Path == gateway.Release && s.Database == name },
			tooOld(name, b.Fresh).Message+": connect again when it has caught up")
		logger.Warn("sessions ended: the dataset is older than its bound", "dataset", name, "sessions", n)
	}
	return errors.Join(errs...)
}
