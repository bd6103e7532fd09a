package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of one delivery. A receiver that never answers costs one goroutine and this much time.
const (
	deliverTimeout = 15 * time.Second
	firstPause     = time.Second
	longestPause   = 5 * time.Minute
	maxAttempts    = 300 // with these pauses about a day; then the event is given up, and that is logged
)

// Notice is what a receiver is told of one event. It holds no evidence: whoever needs that asks
// the monitor.
type Notice struct {
	Event    uint64    `json:"event"` // number in the store
	At       time.Time `json:"at"`
	What     string    `json:"what"`
	Incident string    `json:"incident"`
	State    State     `json:"state"`
	Rule     string    `json:"rule"`
	Origin   string    `json:"origin,omitempty"`
	Reason   string    `json:"reason"`
	Findings uint64    `json:"findings"`
	Clock    string    `json:"clock,omitempty"` // of a warning
	Text     string    `json:"text,omitempty"`  // what a person said, or the duty
	Due      time.Time `json:"due,omitzero"`
}

// deliverer brings one notice to its receiver. Its errors may be logged: they hold no address.
type deliverer interface {
	deliver(ctx context.Context, n *Notice) error
}

// Receiver is one who is told.
type Receiver struct {
	Name   string
	Events []string // types of event; empty: DefaultEvents
	to     deliverer
}

// DefaultEvents are what a receiver is told of that says nothing else.
func DefaultEvents() []string {
	return []string{eventOpened, eventWarned, eventOverdue, eventClosed}
}

// Notifier tells receivers of a store's events, each in order, each at its own pace: a slow or
// dead one holds neither the monitor nor another receiver. How far each has come is kept in the
// store's directory, so a restart repeats at most one notice and loses none.
type Notifier struct {
	Store     *Store
	Dir       string // where cursors are kept
	Receivers []Receiver
	Logger    *slog.Logger                                     // nil: discarded
	Sleep     func(ctx context.Context, d time.Duration) error // nil: real time
	Poll      time.Duration                                    // how often new events are looked for; 0: one second
}

// Run tells until ctx ends.
func (n *Notifier) Run(ctx context.Context) {
	if n.Logger == nil {
		n.Logger = slog.New(slog.DiscardHandler)
	}
	if n.Sleep == nil {
		n.Sleep = sleep
	}
	if n.Poll <= 0 {
		n.Poll = time.Second
	}
	var wg sync.WaitGroup
	for _, r := range n.Receivers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			n.serve(ctx, r)
		}()
	}
	wg.Wait()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// serve tells one receiver.
func (n *Notifier) serve(ctx context.Context, r Receiver) {
	at, err := n.cursor(r.Name)
	for err != nil {
		n.Logger.Error("read notifier's cursor", "receiver", r.Name, "error", err)
		if n.Sleep(ctx, longestPause) != nil {
			return
		}
		at, err = n.cursor(r.Name)
	}
	for ctx.Err() == nil {
		var next []Event
		if tip, _, err := n.Store.Tip(); err != nil {
			n.Logger.Error("read incidents", "receiver", r.Name, "error", err)
		} else if tip > at {
			if err := n.Store.Events(at, func(e *Event) error {
				next = append(next, Event{N: e.N, At: e.At, Type: e.Type, ID: e.ID, Clock: e.Clock, Text: e.Text, When: e.When})
				return nil
			}); err != nil {
				n.Logger.Error("read incidents", "receiver", r.Name, "error", err)
			}
		}
		for _, e := range next {
			if n.tell(ctx, r, &e) != nil {
				return
			}
			at = e.N
			if err := n.keep(r.Name, at); err != nil {
				n.Logger.Error("keep notifier's cursor", "receiver", r.Name, "error", err)
			}
		}
		if n.Sleep(ctx, n.Poll) != nil {
			return
		}
	}
}

// tell brings one event to r, again and again up to maxAttempts. It fails only when ctx ends.
func (n *Notifier) tell(ctx context.Context, r Receiver, e *Event) error {
	wanted := r.Events
	if len(wanted) == 0 {
		wanted = DefaultEvents()
	}
	if !slices.Contains(wanted, e.Type) {
		return nil
	}
	notice, err := n.notice(e)
	if err != nil {
		n.Logger.Error("make notice", "receiver", r.Name, "event", e.N, "error", err)
		return nil
	}
	pause := firstPause
	for attempt := 1; ; attempt++ {
		bounded, cancel := context.WithTimeout(ctx, deliverTimeout)
		err := r.to.deliver(bounded, notice)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case attempt == maxAttempts:
			n.Logger.Error("notice given up", "receiver", r.Name, "event", e.N, "incident", e.ID, "attempts", attempt, "error", err)
			return nil
		case attempt == 1:
			n.Logger.Warn("notice not taken", "receiver", r.Name, "event", e.N, "error", err)
		}
		if err := n.Sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, longestPause)
	}
}

func (n *Notifier) notice(e *Event) (*Notice, error) {
	x, err := n.Store.Get(e.ID)
	if err != nil {
		return nil, err
	}
	out := &Notice{Event: e.N, At: e.At, What: e.Type, Incident: x.ID, State: x.State, Rule: x.Rule, Origin: x.Origin, Reason: x.Reason,
		Findings: x.Count, Clock: e.Clock, Text: e.Text}
	if e.Clock != "" {
		out.Due = e.When
	}
	return out, nil
}

func (n *Notifier) path(name string) string { return filepath.Join(n.Dir, "notified-"+name) }

// cursor reads how far a receiver was told. A new one is not told of the past.
func (n *Notifier) cursor(name string) (uint64, error) {
	raw, err := os.ReadFile(n.path(name))
	if errors.Is(err, os.ErrNotExist) {
		at, _, err := n.Store.Tip()
		if err != nil {
			return 0, err
		}
		return at, n.keep(name, at)
	}
	if err != nil {
		return 0, fmt.Errorf("read cursor: %w", err)
	}
	at, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read cursor: not a number")
	}
	return at, nil
}

// keep replaces the cursor whole. It need not survive a power cut: a notice is then told again.
func (n *Notifier) keep(name string, at uint64) error {
	path := n.path(name)
	if err := os.WriteFile(path+".new", []byte(strconv.FormatUint(at, 10)+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep cursor: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("keep cursor: %w", err)
	}
	return nil
}

// toFile appends each notice as a line of JSON.
type toFile struct{ path string }

func (f toFile) deliver(_ context.Context, n *Notice) error {
	line, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	w, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	_, werr := w.Write(append(line, '\n'))
	return errors.Join(werr, w.Sync(), w.Close())
}
