package monitor

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// diary brings the monitor's decisions into its own public log. The journal is its durable
// queue: a cursor says how far it has come, so a crash repeats some entries and loses none.
type diary struct {
	path string // of the cursor
	log  *accesslog.Log

	mu     sync.Mutex
	cursor uint64 // journal entries that are in the own log, or have no place there
	count  uint64 // journal entries seen while replaying
	queue  []remark
	wake   chan struct{}
}

// remark is one decision on its way to the own log.
type remark struct {
	seq   uint64 // journal entry, counted from the file's beginning
	e     entry
	epoch uint64
	at    span // an acknowledged definition
}

func newDiary(dir string) *diary {
	return &diary{path: filepath.Join(dir, "own-log.cursor"), wake: make(chan struct{}, 1)}
}

// telling reports whether e has a place in the own log.
func telling(e *entry) bool {
	switch e.Type {
	case entryRecord:
		return e.Permitted || e.Rule != ""
	case entryAck, entryOrder, entryRules, entryHalt, entryKey:
		return true
	}
	return false
}

// add queues one entry. seq counts from the journal's first entry.
func (d *diary) add(seq uint64, e *entry, epoch uint64, at span) {
	if !telling(e) {
		return
	}
	short := *e
	short.Salt, short.Access, short.Valve = nil, nil, ""
	d.mu.Lock()
	d.queue = append(d.queue, remark{seq, short, epoch, at})
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// replayed is add for an entry that was in the journal already.
func (d *diary) replayed(e *entry, epoch uint64, at span) error {
	if d.count == 0 {
		raw, err := os.ReadFile(d.path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read cursor of the own log: %w", err)
		}
		if err == nil {
			if d.cursor, err = strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64); err != nil {
				return fmt.Errorf("read cursor of the own log: %w", err)
			}
		}
	}
	d.count++
	if d.count > d.cursor {
		d.add(d.count, e, epoch, at)
	}
	return nil
}

// openDiary opens the monitor's own log.
func (m *Monitor) openDiary(ctx context.Context, _ Config) (err error) {
	quorum := -1 // without outside witnesses nothing waits for one
	var witnesses []accesslog.Witness
	for _, w := range m.rules.Witnesses {
		witnesses, quorum = append(witnesses, accesslog.Witness{URL: w.URL, Key: w.Key}), m.rules.Quorum
	}
	m.diary.log, err = accesslog.Open(ctx, accesslog.Config{
		Origin: m.keys.log.Name(), Directory: filepath.Join(m.dir, "state", "log"),
		Signer: m.keys.log, Witnesses: witnesses, Quorum: quorum, Logger: m.logger, Now: m.now})
	if err != nil {
		return fmt.Errorf("own log: %w", err)
	}
	return nil
}

// run writes what is queued until ctx ends.
func (d *diary) run(ctx context.Context, m *Monitor) {
	for {
		if err := d.drain(ctx, m); err != nil && ctx.Err() == nil {
			m.logger.Error("write own log", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
	}
}

// drain writes the queue into the own log and moves the cursor behind it.
func (d *diary) drain(ctx context.Context, m *Monitor) error {
	for {
		d.mu.Lock()
		batch := d.queue[:batchOf(d.queue)]
		d.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		done, err := d.write(ctx, m, batch)
		d.mu.Lock()
		if done > 0 {
			d.cursor = batch[done-1].seq
			d.queue = d.queue[done:]
		}
		cursor := d.cursor
		d.mu.Unlock()
		if done > 0 {
			err = errors.Join(err, writeFileSync(d.path, []byte(strconv.FormatUint(cursor, 10)+"\n"), 0o600))
		}
		if err != nil {
			return err
		}
	}
}

// batchOf is how many remarks are written at once: decisions on records go together, in no
// order but that of their times; a stop or an acknowledgement keeps its place among them.
func batchOf(queue []remark) int {
	for i, r := range queue {
		switch {
		case r.e.Type != entryRecord && i == 0:
			return 1
		case r.e.Type != entryRecord || i == 256:
			return i
		}
	}
	return len(queue)
}

// write appends a batch at once and returns how many from its beginning are durable.
func (d *diary) write(ctx context.Context, m *Monitor, batch []remark) (int, error) {
	if err := m.journal.wait(batch[len(batch)-1].seq); err != nil {
		return 0, err
	}
	errs := make([]error, len(batch))
	var wg sync.WaitGroup
	for i := range batch {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = d.one(ctx, m, &batch[i])
		}()
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return i, err
		}
	}
	return len(batch), nil
}

func (d *diary) one(ctx context.Context, m *Monitor, r *remark) error {
	b, err := d.body(m, r)
	if err != nil {
		return err
	}
	rec, err := trefoil.NewRecord(b)
	if err != nil {
		return fmt.Errorf("write own log: %w", err)
	}
	_, err = d.log.Append(ctx, rec, nil)
	return err
}

// body is what the own log says of a decision: nothing of the record's content.
func (d *diary) body(m *Monitor, r *remark) (*trefoil.Body, error) {
	b := &trefoil.Body{At: time.UnixMicro(r.e.At).UTC(), Kind: trefoil.KindPermit, Origin: m.keys.log.Name()}
	p := &trefoil.PermitBody{Epoch: int64(r.epoch), Index: -1, Law: r.e.Law, Log: r.e.Origin, Rule: r.e.Rule}
	b.Permit = p
	switch {
	case r.e.Type == entryAck:
		raw, err := m.journal.read(r.at)
		if err != nil {
			return nil, err
		}
		var def trefoil.Definition
		if err := json.Unmarshal(raw, &def); err != nil {
			return nil, fmt.Errorf("write own log: definition: %w", err)
		}
		b.Kind, b.Permit = trefoil.KindCatalog, nil
		b.Catalog = &trefoil.CatalogBody{Definition: &def, Event: "acknowledged", Hash: r.e.Hash}
	case r.e.Type == entryKey:
		raw, err := m.journal.read(r.at)
		if err != nil {
			return nil, err
		}
		s, err := trefoil.ReadSuccession(string(raw))
		if err != nil {
			return nil, fmt.Errorf("write own log: %w", err)
		}
		b.Kind, b.Permit, b.Key = trefoil.KindKey, nil, &trefoil.KeyBody{Event: "announced", Key: s.New, Use: s.Use}
		return b, nil
	case r.e.Type == entryOrder, r.e.Type == entryRules, r.e.Type == entryHalt:
		order, err := d.order(m, r)
		b.Kind, b.Permit, b.Order = trefoil.KindOrder, nil, order
		return b, err
	case r.e.Permitted:
		p.Event, p.Expires = "issued", time.Unix(r.e.Expires, 0).UTC()
	default:
		p.Event = "refused"
	}
	if r.e.Type == entryRecord {
		p.Index, p.Leaf = int64(r.e.Index), hex.EncodeToString(r.e.Leaf)
	}
	return b, nil
}

// order is what the own log says of an order, or of what the monitor did by itself.
func (d *diary) order(m *Monitor, r *remark) (*trefoil.OrderBody, error) {
	b := &trefoil.OrderBody{Epoch: int64(r.epoch), From: time.UnixMicro(r.e.At).UTC(), Officers: r.e.Signers, Order: r.e.Name,
		Reason: r.e.Note, Rules: r.e.Hash, Looser: r.e.Looser}
	switch r.e.Type {
	case entryRules:
		b.Action = "in-force"
		return b, nil
	case entryHalt:
		b.Action = string(officers.Stop)
		return b, nil
	}
	raw, err := m.journal.read(r.at)
	if err != nil {
		return nil, err
	}
	var sub Submission
	if err := json.Unmarshal(raw, &sub); err != nil {
		return nil, fmt.Errorf("write own log: order: %w", err)
	}
	o, err := officers.Read(sub.Order)
	if err != nil {
		return nil, fmt.Errorf("write own log: %w", err)
	}
	b.Action, b.Reason, b.Dataset, b.Definition, b.Rules, b.Stops = string(o.Action), o.Reason, o.Dataset, o.Definition, o.Rules, o.Stops
	b.Signed = hashOf([]byte(sub.Order))
	if o.Action == officers.Rules {
		b.From = time.Unix(r.e.Expires, 0).UTC()
	}
	if o.Scope != nil {
		b.Countries, b.Purposes = o.Scope.Countries, o.Scope.Purposes
		for _, id := range o.Scope.Principals {
			b.Principals = append(b.Principals, trefoil.StaffPseudonym(m.book().staffKey, time.UnixMicro(r.e.At), id))
		}
	}
	return b, nil
}

// backlog is how many decisions are not in the own log yet.
func (d *diary) backlog() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue)
}

// handler serves the own log: checkpoint and tiles to anyone, bodies to the bearer of token.
func (d *diary) handler(token string) http.Handler { return d.log.Handler(token) }

// close writes what is left, as far as ctx allows, and closes the own log.
func (d *diary) close(ctx context.Context, m *Monitor) error {
	if d.log == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return errors.Join(d.drain(ctx, m), d.log.Close(ctx))
}
