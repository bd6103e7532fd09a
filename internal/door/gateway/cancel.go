package gateway

import "context"

// cancel serves a CancelRequest. Like PostgreSQL it never answers: whoever guesses learns
// nothing, not even whether the key exists.
func (g *Gateway) cancel(ctx context.Context, h *hello) {
	now := g.c.Now()
	if g.cancels.exhausted(h.addr, now) {
		return
	}
	s := g.sessions.find(h.startup.PID, h.startup.Secret)
	if s == nil {
		g.cancels.fail(h.addr, now)
		return
	}
	if err := s.cancelUpstream(ctx); err != nil {
		g.c.Logger.Debug("cancel request not passed on", "session", s.id, "error", err)
	}
}
