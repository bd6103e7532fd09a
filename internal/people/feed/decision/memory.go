package decision

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Memory is a store that forgets everything when the program ends, and the oldest decision
// when it is full. It is for demonstrations and tests. Its methods may be called concurrently.
type Memory struct {
	most int

	mu         sync.Mutex
	order      []ID
	rows       map[ID]memoryRow
	restricted map[string]bool
}

type memoryRow struct {
	surface, subject string
	payload          []byte
}

// NewMemory makes a store of at most n decisions.
func NewMemory(n int) *Memory {
	return &Memory{most: n, rows: map[ID]memoryRow{}, restricted: map[string]bool{}}
}

// Save implements Store.
func (m *Memory) Save(_ context.Context, d *Decision) error {
	payload, err := d.Encode()
	if err != nil {
		return fmt.Errorf("save decision: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.order) >= m.most {
		delete(m.rows, m.order[0])
		m.order = m.order[1:]
	}
	m.order = append(m.order, d.ID)
	m.rows[d.ID] = memoryRow{d.Surface, d.Subject, payload}
	return nil
}

func (r memoryRow) decode(id ID) (*Decision, error) {
	d := &Decision{ID: id, Surface: r.surface, Subject: r.subject}
	return d, d.Decode(r.payload)
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, id ID) (*Decision, error) {
	m.mu.Lock()
	row, ok := m.rows[id]
	m.mu.Unlock()
	if !ok {
		return nil, ErrNotFound
	}
	return row.decode(id)
}

// where decodes the rows that hold, oldest first.
func (m *Memory) where(holds func(ID, memoryRow) bool) ([]*Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*Decision
	for _, id := range m.order {
		if !holds(id, m.rows[id]) {
			continue
		}
		d, err := m.rows[id].decode(id)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// Sample implements Store.
func (m *Memory) Sample(_ context.Context, surface string, day time.Time, n int) ([]*Decision, error) {
	found, err := m.where(func(id ID, r memoryRow) bool {
		return r.surface == surface && Day(id.At()).Equal(Day(day)) && !m.restricted[r.subject]
	})
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found[:min(n, len(found))], nil
}

// remove deletes the rows that hold.
func (m *Memory) remove(holds func(ID, memoryRow) bool) []ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var gone []ID
	m.order = slices.DeleteFunc(m.order, func(id ID) bool {
		if !holds(id, m.rows[id]) {
			return false
		}
		gone = append(gone, id)
		delete(m.rows, id)
		return true
	})
	return gone
}

// Expire implements Store.
func (m *Memory) Expire(_ context.Context, before time.Time) (int, error) {
	days := map[time.Time]bool{}
	for _, id := range m.remove(func(id ID, _ memoryRow) bool { return id.At().Before(Day(before)) }) {
		days[Day(id.At())] = true
	}
	return len(days), nil
}

// Access implements Subjects.
func (m *Memory) Access(_ context.Context, subject string) ([]*Decision, error) {
	return m.where(func(_ ID, r memoryRow) bool { return r.subject == subject })
}

// Erase implements Subjects. A mark of restriction goes too: it names the subject.
func (m *Memory) Erase(ctx context.Context, subject string) (int, error) {
	if err := m.Restrict(ctx, subject, false); err != nil {
		return 0, err
	}
	return len(m.remove(func(_ ID, r memoryRow) bool { return r.subject == subject })), nil
}

// Restrict implements Subjects.
func (m *Memory) Restrict(_ context.Context, subject string, on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if on {
		m.restricted[subject] = true
	} else {
		delete(m.restricted, subject)
	}
	return nil
}

// Restricted implements Subjects.
func (m *Memory) Restricted(_ context.Context, subject string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.restricted[subject], nil
}
