package gateway

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// summarise queues a summary of every service session at each interval, until ctx ends.
func (g *Gateway) summarise(ctx context.Context) {
	if g.c.Limits.Summary < 0 {
		return
	}
	tick := time.NewTicker(g.c.Limits.Summary)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := g.c.Now()
		for _, s := range g.sessions.list(func(s *session) bool { return s.tally != nil }) {
			// No room: the figures stay in the tally and go with the next summary.
			g.clerk.offerJob(job{make: func() *trefoil.Body { return s.summary(now, false) }})
		}
	}
}

// summary takes the tally's figures. An interval in which nothing happened has none, except
// the last one. It runs on the clerk, after the texts that were queued before it.
func (s *session) summary(now time.Time, final bool) *trefoil.Body {
	c, from := s.tally.take(now)
	if !final && c.in == 0 && c.out == 0 {
		return nil
	}
	b := s.record(trefoil.KindSummary)
	b.Summary = &trefoil.SummaryBody{Access: s.access(), BytesIn: c.in, BytesOut: c.out, Final: final,
		From: from.UTC(), Rows: c.rows, To: now.UTC(), Unparsed: c.unparsed}
	if c.types != nil {
		b.Summary.TypesIn, b.Summary.TypesOut = figures(frontendTypes, c.types.in[:]), figures(backendTypes, c.types.out[:])
	}
	type key struct{ fingerprint, kind string }
	sums := map[key]*call{}
	for text, n := range c.calls {
		m := s.g.clerk.texts.of(text)
		if !m.parsed {
			b.Summary.Unparsed += n.calls
			continue
		}
		k := key{m.fingerprint, m.kind}
		if sums[k] == nil {
			sums[k] = &call{}
		}
		sums[k].calls += n.calls
		sums[k].rows += n.rows
	}
	b.Summary.Statements = []trefoil.StatementSummary{}
	for k, n := range sums {
		b.Summary.Statements = append(b.Summary.Statements, trefoil.StatementSummary{
			Calls: n.calls, Fingerprint: k.fingerprint, Kind: k.kind, Rows: n.rows})
	}
	s.flagUnparsed(b.Summary)
	slices.SortFunc(b.Summary.Statements, func(x, y trefoil.StatementSummary) int {
		return cmp.Or(cmp.Compare(x.Fingerprint, y.Fingerprint), cmp.Compare(x.Kind, y.Kind))
	})
	return b
}

// Bounds of what may stay unattributed: more than one statement in a hundred is an incident,
// once there are enough of them to speak of a share.
const (
	unparsedShare = 100
	unparsedLeast = 100

	incidentUnparsed = "unparsed-statements"
)

// flagUnparsed opens an incident, once a session, when too much of what it does cannot be
// attributed to statements. Its principal, rows and bytes are in the summary all the same. It
// runs on the clerk.
func (s *session) flagUnparsed(b *trefoil.SummaryBody) {
	all := b.Unparsed
	for _, st := range b.Statements {
		all += st.Calls
	}
	if s.flagged || all < unparsedLeast || b.Unparsed*unparsedShare <= all {
		return
	}
	i := s.record(trefoil.KindIncident)
	i.Incident = &trefoil.IncidentBody{Event: "opened", ID: "unparsed-" + s.id, Reason: incidentUnparsed}
	s.flagged = s.g.clerk.offer(i) // no room: with the next summary
}
