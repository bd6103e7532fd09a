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

// maxSubmission bounds an order with its rules, in bytes.
const maxSubmission = 4 << 20

// OrderFile hands an order to the monitor that runs on dir, and waits for its answer. If none
// runs, the order stays and the next one obeys it before its first permit; the error is then
// ctx's.
func OrderFile(ctx context.Context, dir string, s Submission) (*OrderAnswer, error) {
	orders := filepath.Join(dir, "state", "orders")
	if err := os.MkdirAll(orders, 0o700); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	enc, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	path := filepath.Join(orders, fmt.Sprintf("%020d-%s.json", time.Now().UnixNano(), rand.Text()))
	if err := writeFileSync(path, enc, 0o600); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		raw, err := os.ReadFile(path + ".answer")
		if err == nil {
			var a OrderAnswer
			if err := json.Unmarshal(raw, &a); err != nil {
				return nil, fmt.Errorf("order: read answer: %w", err)
			}
			return &a, os.Remove(path + ".answer")
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("order: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("order: no running monitor has answered yet: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// obey carries out the orders that wait in state/orders, oldest first. Whoever can write there
// still needs the officers' signatures.
func (m *Monitor) obey() error {
	m.filing.Lock()
	defer m.filing.Unlock()
	dir := filepath.Join(m.dir, "state", "orders")
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read orders: %w", err)
	}
	for _, f := range files {
		if f.IsDir() || !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		if err := m.obeyFile(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (m *Monitor) obeyFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	var s Submission
	a := &OrderAnswer{Refused: "not an order"}
	if info.Size() <= maxSubmission {
		raw, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		if json.Unmarshal(raw, &s) == nil {
			if a, err = m.Submit(s); err != nil {
				return err
			}
		}
	}
	enc, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("answer order: %w", err)
	}
	if err := writeFileSync(path+".answer", enc, 0o600); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove order: %w", err)
	}
	return nil
}
