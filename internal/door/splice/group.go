package splice

import "sync"

// Group is the loops of one gateway. Loops are few on purpose: see docs/design/gateway.md.
type Group struct {
	mu       sync.Mutex
	only     bool // portable
	loop     Loop
	portable Loop
	closed   bool
}

// NewGroup returns a group that is not started. With portable its loops are goroutines.
func NewGroup(portable bool) *Group { return &Group{only: portable} }

// Start starts the first loop. On an error the group works, by goroutines.
func (g *Group) Start() (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.only {
		g.loop, err = NewLoop()
	}
	return err
}

// Loop returns the loop for the next session, and Portable one that takes any connection.
func (g *Group) Loop() Loop {
	g.mu.Lock()
	l := g.loop
	g.mu.Unlock()
	if l == nil {
		return g.Portable()
	}
	return l
}

// Portable returns a loop of goroutines.
func (g *Group) Portable() Loop {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.portable == nil {
		g.portable = NewPortable()
		if g.closed {
			g.portable.Close()
		}
	}
	return g.portable
}

// Close ends all loops and what they hold.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	list := []Loop{g.loop, g.portable}
	g.mu.Unlock()
	for _, l := range list {
		if l != nil {
			l.Close()
		}
	}
}
