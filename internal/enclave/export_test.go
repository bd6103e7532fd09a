package enclave

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// SetCases puts a builder's cases in force.
func (a *Authoriser) SetCases(b *dataset.Builder) { a.now.setCases(b) }

// Reload puts other rules in force.
func (a *Authoriser) Reload(r *Rules) { a.now.set(r) }

// GrantsHandler is the API for grants, without a process around it.
func GrantsHandler(rules func() *Rules, s *control.Store, audience string, now func() time.Time, logger *slog.Logger) http.Handler {
	return newGrantsAPI(rules, s, audience, now, logger).handler()
}
