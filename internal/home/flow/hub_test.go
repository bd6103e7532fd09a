package flow

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// shared makes a hub of the slot that opened made, which reads nothing yet.
func shared(t *testing.T, change func(*HubConfig)) (*pgx.Conn, *Hub, Config) {
	t.Helper()
	conn, s, cfg := opened(t, nil)
	s.Close()
	hc := HubConfig{DSN: cfg.DSN, Slot: cfg.Slot, Publication: cfg.Publication, Leave: func(context.Context, string) error { return nil }}
	if change != nil {
		change(&hc)
	}
	return conn, NewHub(hc), cfg
}

func joined(t *testing.T, h *Hub, name string, c Config) *Stream {
	t.Helper()
	s, err := h.Join(within(t), name, c, c.Start, func(context.Context) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func end(t *testing.T, conn *pgx.Conn) LSN {
	t.Helper()
	h, err := Look(within(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	return h.At
}

func come(t *testing.T, s *Stream, to LSN) {
	t.Helper()
	for s.Reached() < to {
		if err := s.Wait(within(t), to); err != nil {
			t.Fatal(err)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// Two streams read one slot by one connection, each at its own pace: what one has confirmed and
// the other has not stays at the source. Whoever joins later gets each transaction once, and
// so does who was there.
func TestStreamsShareASlotAtTheirOwnPace(t *testing.T) {
	conn, h, cfg := shared(t, nil)
	a := joined(t, h, "a", cfg)
	do(t, conn, "INSERT INTO b VALUES (1)", "INSERT INTO b VALUES (2)")
	come(t, a, end(t, conn))
	first, batch := took(t, a)
	if len(first) != 2 {
		t.Fatalf("%v", first)
	}
	a.Confirm(batch.End)
	do(t, conn, "INSERT INTO b VALUES (3)")
	come(t, a, end(t, conn)) // received, and not taken when the other joins

	late := cfg
	late.Start = batch.End
	b := joined(t, h, "b", late)
	do(t, conn, "INSERT INTO b VALUES (4)")
	at := end(t, conn)
	come(t, a, at)
	come(t, b, at)
	for name, s := range map[string]*Stream{"a": a, "b": b} {
		got, taken := took(t, s)
		if len(got) != 2 || got["public.b 3"] != "3 inserted" || got["public.b 4"] != "4 inserted" || len(taken.XIDs) != 2 {
			t.Errorf("%s: %v, %d transactions", name, got, len(taken.XIDs))
		}
	}
	if n := one(t, conn, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'trefoil flow'"); n != "1" {
		t.Errorf("%s connections read it", n)
	}
	a.Confirm(at)
	a.nudge()
	do(t, conn, "INSERT INTO b VALUES (5)")
	come(t, a, end(t, conn))
	if s, err := FindSlot(within(t), conn, cfg.Slot); err != nil || s.Confirmed > batch.End {
		t.Errorf("the source may forget what one of them has not confirmed: %+v, %v", s, err)
	}
	b.Confirm(at)
	eventually(t, "what both confirmed is not told to the source", func() bool {
		s, err := FindSlot(within(t), conn, cfg.Slot)
		return err == nil && s.Confirmed >= at
	})
}

func one(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	var v string
	if err := conn.QueryRow(within(t), "SELECT ("+sql+")::text").Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// A stream whose owner takes nothing is parted, and what it held is bounded; the other goes on.
func TestAStreamThatTakesNothingHoldsNobody(t *testing.T) {
	var parted atomic.Pointer[string]
	conn, h, cfg := shared(t, func(c *HubConfig) {
		c.Patience = 50 * time.Millisecond
		c.Leave = func(_ context.Context, name string) error { parted.Store(&name); return nil }
	})
	small := cfg
	small.MaxRows = 10
	slow, quick := joined(t, h, "slow", small), joined(t, h, "quick", cfg)
	do(t, conn, "DO $$ BEGIN FOR i IN 1 .. 200 LOOP INSERT INTO b VALUES (i); COMMIT; END LOOP; END $$")
	come(t, quick, end(t, conn))
	if got, _ := took(t, quick); len(got) != 200 {
		t.Errorf("%d rows came", len(got))
	}
	eventually(t, "it is not parted", func() bool { n := parted.Load(); return n != nil && *n == "slow" })
	eventually(t, "it does not end", func() bool { _, err := slow.Take(); return errors.Is(err, ErrParted) })
	if n := slow.open.Len(); n > 21 {
		t.Errorf("%d rows are held for it", n)
	}
	quick.Confirm(quick.Reached())
	eventually(t, "the one that was parted holds the source's log", func() bool {
		s, err := FindSlot(within(t), conn, cfg.Slot)
		return err == nil && s.Confirmed >= quick.Reached()
	})
}

// A place is kept while its stream is away, so that it can come back, and not for ever.
func TestThePlaceOfAStreamThatEndedIsKeptForAWhile(t *testing.T) {
	conn, h, cfg := shared(t, func(c *HubConfig) { c.Grace = time.Hour })
	stays, goes := joined(t, h, "stays", cfg), joined(t, h, "goes", cfg)
	do(t, conn, "INSERT INTO b VALUES (1)")
	at := end(t, conn)
	come(t, stays, at)
	goes.Close()
	stays.Confirm(at)
	if _, durable := h.positions(); durable >= at {
		t.Error("the place of the one that is away is lost")
	}
	back := joined(t, h, "goes", cfg)
	come(t, back, at)
	if got, _ := took(t, back); len(got) != 1 {
		t.Errorf("it came back to %v", got)
	}
	if got, _ := took(t, stays); len(got) != 1 {
		t.Errorf("the other has %v", got)
	}
	back.Close()
	h.mu.Lock()
	h.places["goes"].left = time.Now().Add(-2 * time.Hour)
	h.mu.Unlock()
	eventually(t, "its place is kept for ever", func() bool { _, durable := h.positions(); return durable >= at })
	stays.Close()
	if !h.Idle() {
		t.Error("nobody is left, and it reads")
	}
}

// Joining waits for a transaction that is taken in parts, and no part comes twice.
func TestJoiningTearsNoTransactionApart(t *testing.T) {
	conn, h, cfg := shared(t, nil)
	small := cfg
	small.MaxRows = 10
	a := joined(t, h, "a", small)
	do(t, conn, "INSERT INTO b SELECT generate_series(1, 100)")
	eventually(t, "no part comes", func() bool { some, _, err := a.Pending(); return some && err == nil })
	brief, cancel := context.WithTimeout(within(t), 100*time.Millisecond)
	defer cancel()
	if _, err := h.Join(brief, "b", cfg, cfg.Start, func(context.Context) error { return nil }); !errors.Is(err, ErrUnready) {
		t.Fatalf("it joined in the middle: %v", err)
	}
	seen := map[string]int{}
	take := func(until int) {
		eventually(t, "the rest does not come", func() bool {
			got, _ := took(t, a)
			for k := range got {
				seen[k]++
			}
			return len(seen) >= until
		})
	}
	take(40)
	done := make(chan error, 1)
	go func() {
		s, err := h.Join(within(t), "b", cfg, cfg.Start, func(context.Context) error { return nil })
		if err == nil {
			defer s.Close()
			if err = s.Wait(within(t), end(t, conn)); err == nil {
				var b *Batch
				if b, err = s.Take(); err == nil && b.Len() != 100 {
					err = fmt.Errorf("%d rows came to who joined", b.Len())
				}
			}
		}
		done <- err
	}()
	take(100)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for k, n := range seen {
		if n > 1 {
			t.Errorf("%s came %d times", k, n)
		}
	}
}

// What one stream cannot take ends that one.
func TestDriftOfOneStreamIsNotTheOthers(t *testing.T) {
	conn, h, cfg := shared(t, nil)
	strict := cfg
	strict.Tables = map[string]Table{"public.b": {Key: []string{"id"}, Columns: []string{"id"}, Types: []uint32{25}}}
	a, b := joined(t, h, "a", strict), joined(t, h, "b", cfg)
	do(t, conn, "INSERT INTO b VALUES (1)")
	come(t, b, end(t, conn))
	if got, _ := took(t, b); len(got) != 1 {
		t.Errorf("%v", got)
	}
	var drift *DriftError
	if _, err := a.Take(); !errors.As(err, &drift) {
		t.Errorf("%v", err)
	}
}

// Joins, ends, cuts and work at random: each stream has each row once, and none is missing.
func TestStreamsThatComeAndGoMissNothing(t *testing.T) {
	conn, h, cfg := shared(t, func(c *HubConfig) { c.Patience = time.Hour })
	cfg.MaxRows = 50
	anchor := joined(t, h, "anchor", cfg)
	stop := make(chan struct{})
	worked := make(chan int, 1)
	worker, err := pgx.Connect(within(t), cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close(within(t))
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				worked <- n
				return
			default:
			}
			if _, err := worker.Exec(context.Background(), "INSERT INTO b SELECT generate_series($1::int, $2::int)", n+1, n+1+n%7); err != nil {
				worked <- -1
				return
			}
			n += 1 + n%7
		}
	}()
	type owner struct {
		s    *Stream
		at   LSN
		seen map[string]bool
	}
	owners := []*owner{{s: anchor, seen: map[string]bool{}}, {seen: map[string]bool{}}, {seen: map[string]bool{}}}
	turn := func(i int, o *owner, end bool) {
		if o.s == nil {
			c := cfg
			c.Start = o.at
			o.s = joined(t, h, fmt.Sprint("o", i), c)
		}
		b, err := o.s.Take()
		if err != nil { // the connection was cut
			o.s.Close()
			o.s = nil
			return
		}
		for _, rows := range b.Tables {
			for _, r := range rows.List {
				if o.seen[r.Key] {
					t.Errorf("%d: row %s came twice", i, r.Key)
				}
				o.seen[r.Key] = true
			}
		}
		o.at = b.End
		o.s.Confirm(o.at)
		if end {
			o.s.Close()
			o.s = nil
		}
	}
	for round := range 60 {
		for i, o := range owners {
			turn(i, o, i > 0 && round%(3+i) == 0)
		}
		if round == 30 {
			do(t, conn, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
		}
	}
	close(stop)
	n := <-worked
	at := end(t, conn)
	eventually(t, "the rest does not come", func() bool {
		done := true
		for i, o := range owners { // each in turn: one that takes nothing holds the others here
			turn(i, o, false)
			done = done && o.at >= at
		}
		return done
	})
	for i, o := range owners {
		if len(o.seen) != n {
			t.Errorf("%d: %d rows of %d came", i, len(o.seen), n)
		}
		if o.s != nil {
			o.s.Close()
		}
	}
}
