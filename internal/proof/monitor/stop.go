package monitor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Orders that Order takes.
const (
	OrderStop   = "stop"
	OrderResume = "resume"
)

// maxReason bounds a stop's free-text reason, which stays in the monitor's directory.
const maxReason = 500

// order is a file in state/orders: how the monitor's own people speak to the running
// process. Whoever can write there could as well take its keys.
type order struct {
	Order  string `json:"order"`
	Reason string `json:"reason"`
}

// Order asks the monitor that runs on dir to stop or resume permits, and waits until it has
// obeyed. If none runs, the order stays and the next one obeys it before its first permit;
// the error is then ctx's.
func Order(ctx context.Context, dir, what, reason string) error {
	if what != OrderStop && what != OrderResume {
		return fmt.Errorf("order: unknown order")
	}
	if len(reason) > maxReason {
		return fmt.Errorf("order: reason is longer than %d bytes", maxReason)
	}
	orders := filepath.Join(dir, "state", "orders")
	if err := os.MkdirAll(orders, 0o700); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	enc, err := json.Marshal(order{what, reason})
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	path := filepath.Join(orders, fmt.Sprintf("%020d-%s.json", time.Now().UnixNano(), rand.Text()))
	if err := writeFileSync(path, enc, 0o600); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("order: no running monitor has obeyed yet: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// obey carries out the orders that wait, oldest first.
func (m *Monitor) obey() error {
	m.ordering.Lock()
	defer m.ordering.Unlock()
	dir := filepath.Join(m.dir, "state", "orders")
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read orders: %w", err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		path := filepath.Join(dir, f.Name())
		raw, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		o := order{Order: OrderStop, Reason: "an order that cannot be read counts as a stop"}
		var read order
		if json.Unmarshal(raw, &read) == nil && (read.Order == OrderStop || read.Order == OrderResume) {
			o = read
		}
		if err := m.carryOut(o); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove order: %w", err)
		}
	}
	return nil
}

// carryOut makes an order durable and in force. A stop while stopped counts again: every
// permit of before is of an older epoch.
func (m *Monitor) carryOut(o order) error {
	e := &entry{At: m.now().UnixMicro(), Note: o.Reason}
	e.Type = entryStop
	if o.Order == OrderResume {
		e.Type = entryResume
	}
	m.state.mu.Lock()
	seq, err := m.step(e, nil)
	m.state.mu.Unlock()
	if err != nil {
		return err
	}
	return m.journal.wait(seq)
}
