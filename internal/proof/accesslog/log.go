package accesslog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
)

// Directories below Config.Directory: what may be published, and what stays at the site.
const (
	PublicDir  = "log"  // checkpoint and tiles; Tessera's own state is in log/.state
	PrivateDir = "site" // bodies, salts, openings, permits
	lockName   = "lock"
)

// Log is one open access log. Its methods may be called from several goroutines.
//
// Three goroutines move a record on: commit writes bodies (one sync for all that came
// meanwhile), feed hands leaves to Tessera when a checkpoint may next be published, watch
// verifies each published checkpoint and wakes who waits for it.
type Log struct {
	c      Config
	trust  *trefoil.Trust
	signer *gatedSigner
	lock   *os.File
	store  *store
	driver *driver
	public trefoil.Directory

	committing sync.Mutex // held while bodies are written and their items move on; before mu

	mu       sync.Mutex
	closed   bool
	incoming []*item // to be written
	written  []*item // durable, to be fed
	feeding  []*item // with Tessera
	unplaced []*item // in the tree, but the index of bodies could not be written
	waiting  []*item // in the log, to be published
	pending  int     // all of the above
	failing  error   // why leaves cannot be integrated now
	next     uint64  // every index below is in the log and in the index of bodies
	seen     *publication

	wakeCommit, wakeFeed, wakeWatch chan struct{}
	stop                            chan struct{}
	loops                           sync.WaitGroup
	fed                             atomic.Int64 // when leaves were last fed, Unix nanoseconds
}

// item is one record on its way.
type item struct {
	put     put
	durable chan error // one value: whether body and salt are on disk
	indexed chan struct{}
	index   uint64 // set before indexed is closed
	done    chan struct{}
	result  *publication // set before done is closed; nil if the log was closed first
}

// publication is one verified checkpoint.
type publication struct {
	raw        []byte
	checkpoint *trefoil.Checkpoint
	tiles      *cachedTiles
}

// Open opens or makes the log in c.Directory, verifies what it last published, and repairs
// what a kill -9 left half done. It succeeds while witnesses are away; records then queue.
func Open(ctx context.Context, c Config) (*Log, error) {
	trust, err := c.complete()
	if err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	if err := os.MkdirAll(c.Directory, 0o755); err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	lock, err := lockDirectory(filepath.Join(c.Directory, lockName))
	if err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	l := &Log{
		c: c, trust: trust, lock: lock, signer: &gatedSigner{Signer: c.Signer},
		public:     trefoil.Directory(filepath.Join(c.Directory, PublicDir)),
		wakeCommit: make(chan struct{}, 1), wakeFeed: make(chan struct{}, 1), wakeWatch: make(chan struct{}, 1),
		stop: make(chan struct{}),
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open access log: %w", err), lock.Close())
	}
	return l, nil
}

func (l *Log) start(ctx context.Context) error {
	var err error
	if l.store, err = openStore(filepath.Join(l.c.Directory, PrivateDir)); err != nil {
		return err
	}
	withGate := l.c
	withGate.Signer = l.signer
	if l.driver, err = openDriver(&withGate, string(l.public)); err != nil {
		return errors.Join(err, l.store.close())
	}
	if err := l.recover(ctx); err != nil {
		l.signer.closed.Store(true)
		l.driver.cancel()
		return errors.Join(err, l.store.close())
	}
	for _, loop := range []func(){l.commit, l.feed, l.watch} {
		l.loops.Go(loop)
	}
	return nil
}

// complete fills defaults and checks the rest.
func (c *Config) complete() (*trefoil.Trust, error) {
	if c.Signer == nil || c.Origin == "" || c.Signer.Name() != c.Origin {
		return nil, errors.New("the signer's name must be the log's origin")
	}
	if c.Directory == "" {
		return nil, errors.New("no directory")
	}
	if c.CheckpointInterval == 0 {
		c.CheckpointInterval = minCheckpointInterval
	}
	if c.CheckpointInterval < minCheckpointInterval {
		return nil, fmt.Errorf("checkpoint interval is less than %v", minCheckpointInterval)
	}
	if c.WitnessTimeout <= 0 {
		c.WitnessTimeout = 3 * time.Second
	}
	if c.MaxPending <= 0 {
		c.MaxPending = 1 << 16
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c.trust()
}

func (c *Config) trust() (*trefoil.Trust, error) {
	if c.Quorum > len(c.Witnesses) || (c.Quorum >= 0 && len(c.Witnesses) == 0) {
		return nil, fmt.Errorf("a quorum of %d needs as many witnesses, and there are %d", c.Quorum, len(c.Witnesses))
	}
	t := &trefoil.Trust{Log: ownVerifier{c.Signer}, Quorum: c.Quorum}
	keys, urls := map[string]bool{}, map[string]bool{}
	for i, w := range c.Witnesses {
		v, err := trefoil.NewWitnessVerifier(w.Key)
		if err != nil {
			return nil, fmt.Errorf("witness %d: %w", i+1, err)
		}
		// The name is no part of what a cosignature signs: only keys tell witnesses apart.
		material := w.Key[len(w.Key)-44:]
		if keys[material] || urls[w.URL] {
			return nil, fmt.Errorf("witness %d: the same witness is named twice", i+1)
		}
		keys[material], urls[w.URL] = true, true
		t.Witnesses = append(t.Witnesses, v)
	}
	return t, nil
}

// gatedSigner signs until the log is closed: the driver's publisher cannot be joined, only
// kept from publishing.
type gatedSigner struct {
	note.Signer
	closed atomic.Bool
}

// Sign implements note.Signer.
func (s *gatedSigner) Sign(msg []byte) ([]byte, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	return s.Signer.Sign(msg)
}

// ownVerifier verifies the log's own signatures with its signer: Ed25519 is deterministic.
type ownVerifier struct{ note.Signer }

// Verify implements note.Verifier.
func (v ownVerifier) Verify(msg, sig []byte) bool {
	want, err := v.Sign(msg)
	return err == nil && string(want) == string(sig)
}

// Size is the number of records that are in the log, published or not.
func (l *Log) Size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Checkpoint returns the published checkpoint if it verifies, else nil.
func (l *Log) Checkpoint() *trefoil.Checkpoint {
	p, err := l.readPublication()
	if err != nil {
		return nil
	}
	return p.checkpoint
}

// Close refuses new records, brings those under way into the log, waits for their checkpoint
// as long as ctx lets it, and releases the directory. Records whose checkpoint did not come
// are not lost: the next Open publishes them.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	wake(l.wakeCommit)
	err := l.settle(ctx)
	close(l.stop)
	l.loops.Wait()
	l.signer.closed.Store(true)
	err = errors.Join(err, l.driver.close(ctx))
	err = errors.Join(err, l.markClean(), l.store.close())
	l.release()
	return errors.Join(err, l.lock.Close())
}

// settle waits until nothing is pending.
func (l *Log) settle(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		pending, failing := l.pending, l.failing
		l.mu.Unlock()
		if pending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("close access log: %d records wait for their checkpoint: %w", pending, ctx.Err()), failing)
		case <-tick.C:
		}
	}
}

// release ends the waits of everybody whose record was not published.
func (l *Log) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range [][]*item{l.incoming, l.written, l.feeding, l.unplaced, l.waiting} {
		for _, it := range list {
			close(it.done)
		}
	}
	for _, it := range l.incoming {
		it.durable <- ErrClosed
	}
	l.incoming, l.written, l.feeding, l.unplaced, l.waiting, l.pending = nil, nil, nil, nil, nil, 0
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
