package gateway

import (
	"errors"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// runRelease hands the session over. From here on only the runner writes to the client.
func (s *session) runRelease() {
	g := s.g
	err := g.c.Releases.Run(s.ctx, ReleaseSession{
		Client: s.client, Server: s.server, Access: s.access(),
		Parameters: s.server.params, Order: s.server.order,
		KeyData: wire.AppendBackendKeyData(nil, s.pid, s.secret), Notice: s.noticeMessage(),
		Until: s.decision.Until, Fixed: s.client.written.Load(), TxStatus: s.server.txStatus,
		Valve:    valveOf(s.client),
		Draining: g.draining, Cancel: s.cancelUpstream,
	})
	var end *End
	if err != nil && !errors.As(err, &end) {
		g.c.Logger.Warn("release session ended", "session", s.id, "error", err)
	}
	linger(s.client)
	s.sever()
}
