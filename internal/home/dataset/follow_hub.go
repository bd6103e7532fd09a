package dataset

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// This file lets several datasets of one source share one slot and one decoding of it. A
// dataset begins on a slot of its own and moves over once it has caught up, when another one
// of its source is followed by the same process; the shared slot is made as a copy of a slot of
// one of them. Whoever would hold the others goes back to a slot of its own, a copy of the
// shared one. So at each moment there is a slot that has all that a dataset lacks; which one it
// is stands in the dataset, and a dataset whose slot does not have it is mended, as ever.

// Pace of sharing.
const (
	shareEvery = 2 * time.Second  // a dataset on a slot of its own looks whether it may share one
	shareNear  = 16 << 20         // bytes of the log that it may be behind then
	shareFar   = 64 << 20         // or behind the first of them, to come back to it
	shareWait  = 10 * time.Second // for the others, to come back
	shareBrief = time.Second      // or to join them, when nothing waits for that
)

// hubs are a builder's, one a source.
type hubs struct {
	mu sync.Mutex
	of map[string]*hub
}

// hub is what the datasets share that this process follows from one source.
type hub struct {
	b           *Builder
	source, dsn string
	slot        string
	flow        *flow.Hub

	mu    sync.Mutex
	names map[string]bool // of datasets that this process follows
}

// sharedSlot is the name of the slot that datasets of a source share. It is this enclave's own:
// another one may follow the same source.
func (b *Builder) sharedSlot(source string) string {
	mac := hmac.New(sha256.New, b.digest)
	fmt.Fprintf(mac, "trefoil/shared-slot/v1\x00%s", source)
	return flow.SharedPrefix + hex.EncodeToString(mac.Sum(nil)[:8])
}

// hubOf is the hub of a source.
func (b *Builder) hubOf(source, dsn string) *hub {
	b.hubs.mu.Lock()
	defer b.hubs.mu.Unlock()
	if h := b.hubs.of[source]; h != nil {
		return h
	}
	h := &hub{b: b, source: source, dsn: dsn, slot: b.sharedSlot(source), names: map[string]bool{}}
	h.flow = flow.NewHub(flow.HubConfig{DSN: dsn, Slot: h.slot, Publication: publication, Leave: h.part, Logger: b.cfg.Logger})
	b.hubs.of[source] = h
	return h
}

// enter and leave keep count of who is followed.
func (h *hub) enter(name string) (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names[name] = true
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.names, name)
	}
}

func (h *hub) several() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.names) > 1
}

// stream opens the change stream from a position: the shared slot's where the dataset was on
// it, else its own.
func (f *follower) stream(ctx context.Context, position flow.LSN) (err error) {
	f.position, f.asked = position, time.Now()
	if f.state.Slot != f.hub.slot {
		f.s, err = flow.Open(ctx, f.streamConfig(position))
		return err
	}
	f.s, err = f.join(ctx, position, shareWait)
	if err == nil || !errors.Is(err, flow.ErrUnready) && !strings.Contains(err.Error(), flow.InUse) {
		return err
	}
	// Those who share it cannot take it in now, or another process reads the slot.
	if err := f.hub.copy(ctx, f.name); err != nil {
		return err
	}
	f.hub.flow.Forget(f.name)
	return errors.New("the slot that datasets share could not be joined: the dataset goes on by one of its own")
}

func (f *follower) streamConfig(position flow.LSN) flow.Config {
	return flow.Config{DSN: f.sourceDSN, Slot: f.state.Slot, Publication: publication, Start: position,
		Tables: f.p.wanted(), MaxBytes: f.b.cfg.MemoryBytes / 32}
}

// join begins to read the shared slot at a position. It waits for the others as long as it may.
func (f *follower) join(ctx context.Context, position flow.LSN, patience time.Duration) (*flow.Stream, error) {
	if f.hub.flow.Idle() {
		if err := f.hub.hold(ctx, f.name); err != nil {
			return nil, err
		}
	}
	if f.hub.flow.Furthest() > position+shareFar { // the others would wait for it
		return nil, flow.ErrUnready
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	floor := position
	if f.kept.word != "" {
		floor = min(floor, f.kept.before)
	}
	return f.hub.flow.Join(wait, f.name, f.streamConfig(position), floor, func(context.Context) error { return f.ready(ctx, position) })
}

// ready makes sure that the shared slot, which nobody reads now, has all that the dataset
// lacks, and the history that it followed.
func (f *follower) ready(ctx context.Context, position flow.LSN) error {
	ctx, cancel := context.WithTimeout(ctx, shareWait)
	defer cancel()
	conn, err := connect(ctx, f.sourceDSN, "")
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(conn)
	slot, err := flow.FindSlot(ctx, conn, f.hub.slot)
	if err != nil {
		return err
	}
	if why := unfit(slot, position); why != "" {
		return &staleError{why}
	}
	for {
		there, err := f.kept.known(ctx, conn, f.hub.slot, slot.Confirmed)
		switch {
		case err == nil && !there:
			return &staleError{anotherHistory}
		case err == nil:
			return nil
		case !strings.Contains(err.Error(), flow.InUse): // its last reader may not have ended yet
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(unseenWait):
		}
	}
}

// unfit says why a slot does not have what a dataset lacks; "" when it has.
func unfit(slot *flow.Slot, position flow.LSN) string {
	switch {
	case slot == nil:
		return "its slot is gone"
	case slot.WALStatus == "lost" || slot.WALStatus == "unreserved":
		return "the source no longer keeps the log that it needs"
	case slot.Confirmed > position:
		return "its slot is beyond what it holds"
	}
	return ""
}

// share moves a dataset that has caught up over to the shared slot, when others of its source are followed too.
func (f *follower) share(ctx context.Context) error {
	if f.state.Slot == f.hub.slot || time.Since(f.asked) < shareEvery || !f.hub.several() {
		return nil
	}
	f.asked = time.Now()
	own := f.state.Slot
	if _, full, err := f.s.Pending(); err != nil || full {
		return err
	}
	conn, err := connect(ctx, f.sourceDSN, "")
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(conn)
	slot, err := flow.FindSlot(ctx, conn, f.hub.slot)
	if err != nil {
		return err
	}
	if now, err := flow.Look(ctx, conn); err != nil || now.At > f.position+shareNear {
		return err
	}
	if slot == nil {
		if err := flow.CopySlot(ctx, conn, f.sourceDSN, own, f.hub.slot); err != nil && !strings.Contains(err.Error(), duplicateObject) {
			f.b.cfg.Logger.Info("datasets of one source cannot share a slot", "dataset", f.name, "error", err)
			f.asked = f.asked.Add(time.Minute)
			return nil
		}
	} else if unfit(slot, f.position) != "" {
		return nil
	}
	if err := sabotage.Point("flow-shared"); err != nil {
		return err
	}
	s, err := f.join(ctx, f.position, shareBrief)
	if err != nil {
		f.b.cfg.Logger.Info("the dataset does not share a slot yet", "dataset", f.name, "error", err)
		return nil
	}
	f.s.Close()
	f.s, f.state.Slot = s, f.hub.slot
	if err := f.t.setSlot(ctx, f.hub.slot); err != nil {
		return err
	}
	f.b.cfg.Logger.Info("dataset shares the slot of its source's datasets", "dataset", f.name)
	return errors.Join(sabotage.Point("flow-moved"), flow.DropSlot(ctx, conn, own))
}

const duplicateObject = "42710"

// setSlot says in the dataset by which slot it goes on.
func (t *target) setSlot(ctx context.Context, slot string) error {
	conn, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	_, err = conn.PgConn().Exec(ctx, "SET synchronous_commit = on; UPDATE trefoil_info.flow SET slot = "+literal(slot)).ReadAll()
	if err != nil {
		return fmt.Errorf("keep the name of the slot: %w", safe(err))
	}
	return nil
}

// slot finds the slot by which the dataset can go on: its own where there is one that has what
// it lacks, else the one that is shared.
func (f *follower) slot(ctx context.Context, conn *pgx.Conn, position flow.LSN) (*flow.Slot, error) {
	own, err := flow.FindSlot(ctx, conn, flow.SlotName(f.name))
	if err != nil || f.state.Slot != f.hub.slot {
		return own, err
	}
	if unfit(own, position) == "" { // it was parted from the others, or moved over and was killed
		f.state.Slot = flow.SlotName(f.name)
		return own, f.t.setSlot(ctx, f.state.Slot)
	}
	return flow.FindSlot(ctx, conn, f.hub.slot)
}

// hold keeps the places of the datasets that were on the shared slot and have not joined yet.
func (h *hub) hold(ctx context.Context, joining string) error {
	conn, err := connect(ctx, h.dsn, "")
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(conn)
	slot, err := flow.FindSlot(ctx, conn, h.slot)
	if err != nil || slot == nil {
		return err
	}
	for _, ds := range h.b.all() {
		if ds.Source != h.source || ds.Name == joining {
			continue
		}
		s, err := h.on(ctx, ds.Name)
		if s == nil && err == nil {
			continue
		}
		at := slot.Confirmed // nobody knows where the cluster is away
		if s != nil {
			if at, err = flow.ParseLSN(s.Position); err != nil {
				return err
			}
		}
		h.flow.Hold(ds.Name, slot.Confirmed, at)
	}
	return nil
}

// on is the state of a dataset that follows by the shared slot; nil of any other.
func (h *hub) on(ctx context.Context, name string) (*FlowState, error) {
	if h.b.dataset(name) == nil {
		return nil, nil
	}
	_, dsn, err := h.b.find(name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, shareWait)
	defer cancel()
	s, err := flowAt(ctx, dsn, name)
	if sqlState(err) == "3D000" { // it has no database
		return nil, nil
	}
	if err != nil || s == nil || s.State != following || s.Slot != h.slot {
		return nil, err
	}
	return s, nil
}

// part gives a dataset a slot of its own, from where the shared one is.
func (h *hub) part(ctx context.Context, name string) error {
	if s, err := h.on(ctx, name); err == nil && s == nil {
		return nil
	}
	return h.copy(ctx, name)
}

func (h *hub) copy(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, shareWait)
	defer cancel()
	conn, err := connect(ctx, h.dsn, "")
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(conn)
	own := flow.SlotName(name)
	switch slot, err := flow.FindSlot(ctx, conn, own); {
	case err != nil:
		return err
	case slot != nil && slot.WALStatus != "lost": // it is what was left of going over, or is being built on
		return nil
	case slot != nil:
		if err := flow.DropSlot(ctx, conn, own); err != nil {
			return err
		}
	}
	return flow.CopySlot(ctx, conn, h.dsn, h.slot, own)
}

// disuse removes the shared slot of a source once no dataset needs it.
func (b *Builder) disuse(ctx context.Context, source string) error {
	dsn := b.cfg.Sources[source]
	if dsn == "" {
		return nil
	}
	conn, err := connect(ctx, dsn, "")
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(conn)
	h := b.hubOf(source, dsn)
	slot, err := flow.FindSlot(ctx, conn, h.slot)
	if err != nil || slot == nil || !h.flow.Idle() {
		return err
	}
	for _, ds := range b.all() {
		if ds.Source != source {
			continue
		}
		if s, err := h.on(ctx, ds.Name); s != nil || err != nil {
			return err
		}
	}
	if err := flow.DropSlot(ctx, conn, h.slot); err != nil && !strings.Contains(err.Error(), flow.InUse) { // another process reads it
		return err
	}
	return nil
}
