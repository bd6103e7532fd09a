package release

import (
	"context"
	"errors"
	"sync"

	trefoil "github.com/trefoil-eu/trefoil"
)

// openParcel: the server's reader takes a place in the window (which holds the server back
// when the client or the monitor is slow) and starts to fill it.
func (s *Session) openParcel(ctx context.Context) error {
	select {
	case s.window <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	salt, err := drawSalt()
	if err != nil {
		return err
	}
	s.current = &parcel{
		held: newHeld(s.mem, s.pool, s.SpillDir, salt[:]), salt: salt, covered: true,
		began: s.Now(), ready: make(chan struct{}),
	}
	return nil
}

// cut closes the current parcel and sends it on its way. Covered bytes need no record of
// their own as long as the cycle they belong to has nothing else in it.
func (s *Session) cut(ctx context.Context) error {
	p := s.current
	if p == nil || p.held.n == 0 {
		return nil
	}
	s.current = nil
	p.bytes = p.held.n
	if p.covered && (p.final || s.track.whole()) {
		if c, ok := s.clearCovered(ctx, p); ok {
			p.pass = c
			close(p.ready)
			return s.send(ctx, p, false)
		}
	}
	p.covered = false
	if s.Statement != "" && !trefoil.KeepTo(s.Statement, p.statements()) {
		p.err = &errStopped{otherStatement}
		close(p.ready)
		return s.send(ctx, p, false)
	}
	s.recorded += p.bytes
	p.chunk, p.cumulative = s.chunks, s.recorded
	s.chunks++
	if p.final {
		s.size = s.Limits.FirstBytes
	} else {
		s.size = min(2*s.size, s.Limits.ChunkBytes)
	}
	return s.send(ctx, p, true)
}

func (s *Session) send(ctx context.Context, p *parcel, record bool) error {
	if record {
		select {
		case s.append <- p:
		case <-ctx.Done():
			p.held.drop()
			return context.Cause(ctx)
		}
	}
	select {
	case s.order <- p:
		return nil
	case <-ctx.Done():
		p.held.drop()
		return context.Cause(ctx)
	}
}

// recordParcels appends the records of chunks in their order; proofs and permits of several
// chunks are awaited at the same time.
func (s *Session) recordParcels(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for p := range s.append {
		wait, cancel := context.WithTimeout(ctx, s.Limits.Wait)
		next := make(chan struct{})
		var once sync.Once
		wg.Go(func() {
			defer cancel()
			p.pass, p.err = s.clearRelease(wait, p, func() { once.Do(func() { close(next) }) })
			close(p.ready)
		})
		<-next
	}
	return nil
}

// letOutParcels lets parcels out in order, each once it is cleared.
func (s *Session) letOutParcels(ctx context.Context) error {
	for {
		var p *parcel
		var more bool
		select {
		case p, more = <-s.order:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !more {
			return s.serverEnd()
		}
		s.inHand = p
		select {
		case <-p.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := s.letOutParcel(ctx, p); err != nil {
			return err
		}
		<-s.window
		if s.draining.Load() && p.final && s.track.idle() {
			return &errStopped{Drained}
		}
	}
}

func (s *Session) letOutParcel(ctx context.Context, p *parcel) error {
	if p.err != nil {
		s.recordRefusal(p.err, "release")
		return p.err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := s.letOut(p.pass)
	if errors.Is(err, errVoid) {
		if p.pass, err = s.renew(ctx, p.pass); err != nil {
			s.recordRefusal(err, "release")
			return err
		}
		err = s.letOut(p.pass)
	}
	switch {
	case err == nil:
		p.held.drop()
		s.inHand = nil
		return nil
	case errors.Is(err, errVoid), errors.Is(err, errNotCleared), errors.Is(err, errHeld):
		return unanswered(err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return errDisconnected
}

// serverEnd is how the session ends once everything the server said has been let out.
func (s *Session) serverEnd() error {
	if s.leaving.Load() {
		return errClosed
	}
	return errServerClosed
}
