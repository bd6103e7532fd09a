package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// bodyFetchers is how many bodies of one log are fetched at a time.
const bodyFetchers = 8

// follower mirrors one log. Only its own goroutine, or a test, calls sync.
type follower struct {
	log     int
	origin  string
	url     string
	token   string
	witness *witness
	trust   *trefoil.Trust // log and own cosignature: for proofs
	plain   *trefoil.Trust // log alone: for what is served
	http    *http.Client
	single  bool // the log gives bodies one by one alone; only sync's

	mu      sync.Mutex // guards what /status and /mirror read
	tree    *tree
	next    uint64    // bodies below it are known or gone
	initial uint64    // size at the first catch-up: what is older may have expired
	gone    uint64    // bodies that the log no longer has
	asked   time.Time // last successful round
	headAt  time.Time // of the head that was kept last; the follower's alone
	trouble string    // last error, "" after a good round
	stuck   time.Time // since when the body at next cannot be had
	failing time.Time // since when no round was good
	stale   time.Time // since when the log serves less than it had cosigned
}

// sync asks the log once: checkpoint, new leaves, and the bodies not seen yet.
func (f *follower) sync(ctx context.Context, m *Monitor) error {
	err := f.round(ctx, m)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.trouble = err.Error()
		f.lasting(m, &f.failing, Finding{Rule: "log-withheld", Text: "the log has not been to be had for a long time: what was mirrored of it stays"})
		return err
	}
	f.trouble, f.asked, f.failing = "", m.now(), time.Time{}
	return nil
}

func (f *follower) round(ctx context.Context, m *Monitor) error {
	client := trefoil.NewClient(f.url, f.http)
	raw, err := client.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	c, err := f.plain.VerifyCheckpoint(raw)
	if err != nil {
		m.finding(Finding{Rule: "checkpoint", Origin: f.origin, Text: "the log serves a checkpoint that does not verify"})
		return fmt.Errorf("follow log: %w", err)
	}
	if learned, err := f.witness.learn(raw); err != nil {
		return err
	} else if learned {
		m.setBackHalt()
		m.finding(Finding{Rule: "state-set-back", Origin: f.origin, Evidence: string(raw),
			Text: "a checkpoint that this monitor signed is larger than the one it kept: its disk was restored from an older copy"})
	}
	if err := f.extend(ctx, m, client, c, raw); err != nil {
		return err
	}
	f.mu.Lock()
	if c.Size >= f.witness.size() {
		f.stale = time.Time{}
	} else {
		f.lasting(m, &f.stale, Finding{Rule: "stale-checkpoint", Evidence: string(raw), Text: "the log goes on serving an older checkpoint than it had cosigned"})
	}
	f.mu.Unlock()
	if err := f.keepHead(m.dir, m.now()); err != nil {
		return err
	}
	return f.bodies(ctx, m)
}

// extend mirrors the leaves, and makes a finding of what must not be.
func (f *follower) extend(ctx context.Context, m *Monitor, client *trefoil.Client, c *trefoil.Checkpoint, raw []byte) error {
	var cosigned *trefoil.Checkpoint
	if own := f.witness.checkpoint(); own != nil {
		var err error
		if cosigned, err = trefoil.ParseCheckpoint(own); err != nil {
			return fmt.Errorf("follow log: own checkpoint: %w", err)
		}
	}
	f.mu.Lock()
	t := *f.tree
	f.mu.Unlock()
	first := t.size() == 0
	err := t.extend(ctx, client, c, raw, cosigned)
	evidence := string(raw)
	switch {
	case errors.Is(err, errRewound):
		m.finding(Finding{Rule: "rewound", Origin: f.origin, Text: "the log serves a smaller tree than before", Evidence: evidence})
	case errors.Is(err, errSplit):
		m.finding(Finding{Rule: "split-view", Origin: f.origin, Evidence: evidence,
			Text: "the log serves a past that is not the one it had cosigned or mirrored"})
	case errors.Is(err, errRoot):
		m.finding(Finding{Rule: "root", Origin: f.origin, Text: "the log's entries do not give the root that it signed", Evidence: evidence})
	}
	if err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tree = &t
	if first {
		f.initial = c.Size
	}
	return nil
}

// syncEvery is how many bundles are received before the disk has them.
const syncEvery = 32

// bodies fetches the bodies of mirrored leaves that are not known yet, and returns when they are
// on disk.
func (f *follower) bodies(ctx context.Context, m *Monitor) error {
	f.mu.Lock()
	t, next := f.tree, f.next
	f.mu.Unlock()
	for bundles := 1; next < t.size(); bundles++ {
		if m.knows(f.log, next) {
			next++
			continue
		}
		if bundles%syncEvery == 0 { // so that what is not on disk yet stays bounded
			if err := m.journal.wait(m.journal.last()); err != nil {
				return err
			}
		}
		bundle := next / trefoil.TileWidth
		leaves, err := t.leaves(ctx, bundle)
		if err != nil {
			return err
		}
		done, err := f.bundle(ctx, m, bundle, leaves, next)
		f.mu.Lock()
		f.next, next = done, done
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return m.journal.wait(m.journal.last())
}

// bundle fetches the bodies of one bundle from index from on. It returns the first index that is
// still open.
func (f *follower) bundle(ctx context.Context, m *Monitor, bundle uint64, leaves [][]byte, from uint64) (uint64, error) {
	end := bundle*trefoil.TileWidth + uint64(len(leaves))
	got := make([]fetched, end-from)
	var wg sync.WaitGroup
	slots := make(chan struct{}, bodyFetchers)
	unknown := 0
	for i := range got {
		if got[i].known = m.knows(f.log, from+uint64(i)); !got[i].known {
			unknown++
		}
	}
	if unknown >= bulkFrom {
		f.bulk(ctx, from, got)
	}
	for i := range got {
		index := from + uint64(i)
		if got[i].known || got[i].raw.Body != nil {
			continue
		}
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			got[i] = f.fetch(ctx, index)
		}()
	}
	wg.Wait()
	for i, g := range got {
		index := from + uint64(i)
		if err := f.take(m, index, leaves[index-bundle*trefoil.TileWidth], g); err != nil {
			return index, errors.Join(f.waiting(m, index, err), m.journal.wait(m.journal.last()))
		}
	}
	f.mu.Lock()
	f.stuck = time.Time{}
	f.mu.Unlock()
	return end, nil
}

// fetched is what the log gave for one index.
type fetched struct {
	known bool
	gone  bool
	raw   accesslog.StoredBody
	err   error
}

// errNoBodies means that the log gives no body now. Ask again later.
var errNoBodies = errors.New("log does not give a body")

func (f *follower) fetch(ctx context.Context, index uint64) fetched {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/body/%d", strings.TrimRight(f.url, "/"), index), nil)
	if err != nil {
		return fetched{err: fmt.Errorf("fetch body: %w", err)}
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	resp, err := f.http.Do(req)
	if err != nil {
		return fetched{err: fmt.Errorf("fetch body: %w", err)}
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusGone, http.StatusNotFound:
		return fetched{gone: true}
	default:
		return fetched{err: fmt.Errorf("%w: it answered %d", errNoBodies, resp.StatusCode)}
	}
	var g fetched
	if err := json.NewDecoder(io.LimitReader(resp.Body, 2*trefoil.MaxBodySize)).Decode(&g.raw); err != nil {
		return fetched{err: fmt.Errorf("%w: its answer cannot be read", errNoBodies)}
	}
	return g
}

// take checks a body against its leaf and keeps it.
func (f *follower) take(m *Monitor, index uint64, leaf []byte, g fetched) error {
	switch {
	case g.known:
		return nil
	case g.err != nil:
		return g.err
	case g.gone:
		f.mu.Lock()
		f.gone++
		seen := index >= f.initial
		f.mu.Unlock()
		if seen {
			m.finding(Finding{Rule: "body-withheld", Origin: f.origin, Index: &index, Text: "the log never gave the body of this record"})
		}
		return nil
	}
	rec := trefoil.Record{Body: g.raw.Body, Salt: g.raw.Salt}
	body, err := trefoil.DecodeBody(rec.Body)
	if err != nil || len(rec.Salt) != trefoil.SaltSize || string(rec.Leaf()) != string(leaf) || body.Origin != f.origin {
		m.finding(Finding{Rule: "body-mismatch", Origin: f.origin, Index: &index, Text: "the body that the log gives is not what its leaf commits to"})
		return nil
	}
	return m.mirrored(f.log, index, trefoil.LeafHash(leaf), body, rec)
}

// lasting makes x a finding once what it says has lasted for long. since is when it began; f.mu
// is held.
func (f *follower) lasting(m *Monitor, since *time.Time, x Finding) {
	now := m.now()
	if since.IsZero() {
		*since = now
	}
	if now.Sub(*since) > 40*m.book().grace {
		x.Origin = f.origin
		m.finding(x)
	}
}

// waiting makes a finding of a body that cannot be had for long.
func (f *follower) waiting(m *Monitor, index uint64, err error) error {
	f.mu.Lock()
	now := m.now()
	if f.stuck.IsZero() {
		f.stuck = now
	}
	long := now.Sub(f.stuck) > 40*m.book().grace
	f.mu.Unlock()
	if long {
		m.finding(Finding{Rule: "body-withheld", Origin: f.origin, Index: &index, Text: "the log has not given the body of this record for a long time"})
	}
	return err
}
