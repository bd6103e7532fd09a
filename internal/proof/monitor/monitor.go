// Package monitor is the independent third party: a C2SP witness, a judge that permits each
// release by its own copy of the rules, and a mirror that verifies every log in full.
//
// The invariant it keeps: it signs no permit before the record's body is durable in its
// mirror and its own rules allow it, and no checkpoint that is not consistent with the last
// one it signed. It believes nothing of the gateway that it can look up itself: a record
// that disagrees with its own copy is refused. Everything unknown is refused.
//
// It implements C2SP tlog-witness and tlog-tiles and docs/design/monitor.md. It imports
// nothing of door, home or rules/policy. It cannot see what bytes really left: it sees
// what the log says, that the log cannot say otherwise later, and what it permitted.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/certfile"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"
)

// Config is what a monitor needs. Dir is required; New reads rules.yaml and keys/ in it, and
// owns state/.
type Config struct {
	Dir    string
	Rules  *Rules           // nil: read from Dir
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: discarded
	HTTP   *http.Client     // for the mirror; nil: one with a timeout of 10 s

	JournalPart int64 // bytes after which a part of the journal is put aside and compressed; 0: 16 MiB
}

// Monitor is one running monitor. Its methods may be called from several goroutines.
type Monitor struct {
	dir        string
	rules      *Rules               // those of the start: name, logs, listener, tokens
	ruling     atomic.Pointer[book] // the rules in force, ready for judging
	keys       *keys
	logger     *slog.Logger
	now        func() time.Time
	token      string
	bodies     string
	valveToken string
	valves     *valves
	lock       *os.File
	journal    *journal
	state      *state
	findings   *findings
	incidents  *incident.Store
	stated     *statements
	notifier   *incident.Notifier
	followers  []*follower
	byHash     map[string]*follower
	diary      *diary
	anomalies  *anomalies
	asks       *limiter
	wrong      *limiter // wrong tokens
	reads      *limiter
	ordering   sync.Mutex // one order is obeyed at a time
	filing     sync.Mutex // one file of an order is taken once
	once       sync.Once
}

// errLocked means that another process has the monitor's directory open. Stop that one.
var errLocked = errors.New("monitor directory is in use by another process")

// New opens a monitor's directory and everything in state/, repairing what a crash left. It
// fails rather than run on state that it cannot trust.
func New(ctx context.Context, c Config) (*Monitor, error) {
	m := &Monitor{valves: newValves(), dir: c.Dir, rules: c.Rules, logger: c.Logger, now: c.Now, byHash: map[string]*follower{},
		asks: newLimiter(asksPerSecond, askBurst), wrong: newLimiter(asksPerSecond, askBurst), reads: newLimiter(readsPerSecond, readBurst)}
	if m.logger == nil {
		m.logger = slog.New(slog.DiscardHandler)
	}
	if m.now == nil {
		m.now = time.Now
	}
	for _, step := range []func(context.Context, Config) error{m.openRules, m.openState, m.openLogs, m.openDiary, m.openOrders, m.openStatements} {
		if err := step(ctx, c); err != nil {
			return nil, errors.Join(fmt.Errorf("open monitor: %w", err), m.Close(context.WithoutCancel(ctx)))
		}
	}
	return m, nil
}

// openRules reads rules, keys and tokens.
func (m *Monitor) openRules(_ context.Context, c Config) (err error) {
	if m.rules == nil {
		if m.rules, err = LoadRules(c.Dir); err != nil {
			return err
		}
	}
	m.rules.setDefaults()
	b, err := newBook(m.rules, c.Dir)
	if err != nil {
		return err
	}
	m.ruling.Store(b)
	if m.keys, err = loadKeys(c.Dir, m.rules.Name); err != nil {
		return err
	}
	if m.token, err = readSecret(within(c.Dir, m.rules.Token)); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	if m.rules.BodiesToken != "" {
		if m.bodies, err = readSecret(within(c.Dir, m.rules.BodiesToken)); err != nil {
			return fmt.Errorf("bodies_token: %w", err)
		}
	}
	if m.rules.ValveToken != "" {
		if m.valveToken, err = readSecret(within(c.Dir, m.rules.ValveToken)); err != nil {
			return fmt.Errorf("valve_token: %w", err)
		}
	}
	return nil
}

// book is the rules in force. Take it once for one decision.
func (m *Monitor) book() *book { return m.ruling.Load() }

// openState locks the directory and replays the journal.
func (m *Monitor) openState(_ context.Context, c Config) (err error) {
	dir := filepath.Join(m.dir, "state")
	for _, d := range []string{dir, filepath.Join(dir, "witness"), filepath.Join(dir, "mirror")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if m.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(m.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errLocked
	}
	if m.findings, err = openFindings(dir); err != nil {
		return err
	}
	if m.incidents, err = incident.OpenStore(incident.Config{Dir: filepath.Join(m.dir, IncidentsDir), Now: m.now}); err != nil {
		return err
	}
	receivers, err := incident.LoadReceivers(m.dir)
	if err != nil {
		return err
	}
	m.notifier = &incident.Notifier{Store: m.incidents, Dir: filepath.Join(m.dir, IncidentsDir), Receivers: receivers, Logger: m.logger}
	m.state = newState(m.rules.Logs)
	m.diary = newDiary(dir)
	m.anomalies = m.newAnomalies(dir)
	file, err := openFiles(dir, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	defer file.close()
	m.journal, err = openJournal(dir, func(e *entry, at span) error {
		if err := m.state.apply(e, at, func() ([]byte, error) { return readSpan(file, at) }); err != nil {
			return err
		}
		if err := m.anomalies.replayed(e, at.len > 0, m.now(), func() ([]byte, error) { return readSpan(file, m.bodyOf(e, at)) }); err != nil {
			return err
		}
		return m.diary.replayed(e, m.state.epoch, at)
	})
	if err == nil && c.JournalPart > 0 {
		m.journal.sealSize = c.JournalPart
	}
	return err
}

// openLogs opens witness state and mirror of each log, and sees that they belong together.
func (m *Monitor) openLogs(_ context.Context, c Config) error {
	for i, l := range m.rules.Logs {
		hc := c.HTTP
		if hc == nil {
			secure, err := certfile.Client(within(m.dir, l.Authority))
			if err != nil {
				return fmt.Errorf("log %s: %w", l.Origin, err)
			}
			hc = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: secure,
				MaxIdleConnsPerHost: bodyFetchers, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 10 * time.Second}}
		}
		f, err := m.openLog(i, l, hc)
		if err != nil {
			return fmt.Errorf("log %s: %w", l.Origin, err)
		}
		m.followers = append(m.followers, f)
		m.byHash[originHash(l.Origin)] = f
	}
	return nil
}

func (m *Monitor) openLog(i int, l WatchedLog, hc *http.Client) (*follower, error) {
	v, err := note.NewVerifier(l.Key)
	if err != nil {
		return nil, err
	}
	f := &follower{log: i, origin: l.Origin, url: l.URL, http: hc,
		plain: &trefoil.Trust{Log: v, Quorum: -1}}
	if l.Token != "" {
		if f.token, err = readSecret(within(m.dir, l.Token)); err != nil {
			return nil, err
		}
	}
	if f.trust, err = m.keys.ownTrust(v); err != nil {
		return nil, err
	}
	if f.witness, err = openWitness(filepath.Join(m.dir, "state", "witness"), f.trust, m.keys, m.now); err != nil {
		return nil, err
	}
	if f.tree, err = openTree(filepath.Join(m.dir, "state", "mirror", originHash(l.Origin)), f.plain); err != nil {
		return nil, err
	}
	if f.witness.size() == 0 && m.state.totals[i].Permits > 0 {
		return nil, fmt.Errorf("%w: permits were given, and the checkpoints they were given under are gone", errWitnessState)
	}
	if f.tree.raw != nil {
		if learned, err := f.witness.learn(f.tree.raw); err != nil {
			return nil, err
		} else if learned {
			m.setBackHalt()
			m.finding(Finding{Rule: "state-set-back", Origin: l.Origin, Text: "the mirror holds a checkpoint that this monitor signed and that is larger than the one it kept", Evidence: string(f.tree.raw)})
		}
	}
	f.initial = f.tree.size()
	return f, nil
}

// step appends e to the journal and applies it. The state's lock is held.
func (m *Monitor) step(e *entry, body []byte) (uint64, error) {
	seq, at, err := m.journal.append(e, body)
	if err != nil {
		return 0, err
	}
	if err := m.state.apply(e, at, func() ([]byte, error) { return body, nil }); err != nil {
		return 0, err
	}
	m.diary.add(seq, e, m.state.epoch, at)
	if e.changesStops() {
		m.holdSessions()
	}
	m.valves.note(seq, e, m.state)
	return seq, nil
}

// Run follows the logs, keeps the own log and watches for stops until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	every := duration(m.rules.Follow)
	loop := func(period time.Duration, what string, f func(context.Context) error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			tick := time.NewTicker(period)
			defer tick.Stop()
			for {
				if err := f(ctx); err != nil && ctx.Err() == nil {
					m.logger.Warn(what, "error", err)
				}
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		}()
	}
	for _, f := range m.followers {
		if f.url != "" {
			loop(every, "follow log", func(ctx context.Context) error { return f.sync(ctx, m) })
		}
	}
	loop(200*time.Millisecond, "watch for orders", func(context.Context) error { return m.obey() })
	loop(time.Second, "state", m.makeStatement)
	loop(time.Second, "watch records", func(context.Context) error { return m.Watch() })
	wg.Add(1)
	go func() {
		defer wg.Done()
		m.notifier.Run(ctx)
	}()
	wg.Add(1)
	go func() {
		defer wg.Done()
		m.diary.run(ctx, m)
	}()
	wg.Wait()
	return nil
}

// Watch looks once at what Run looks at every second: stop orders, and records without their
// permit.
// It also marks how far the journal is synced.
func (m *Monitor) Watch() error {
	m.unasked()
	m.ordering.Lock()
	err := m.enforceDue(m.now())
	m.ordering.Unlock()
	return errors.Join(err, m.obey(), m.journal.mark(), m.watchAnomalies(), m.incidents.Tick())
}

// Sync follows every log once, as Run does again and again.
func (m *Monitor) Sync(ctx context.Context) error {
	var errs []error
	for _, f := range m.followers {
		if f.url != "" {
			errs = append(errs, f.sync(ctx, m))
		}
	}
	return errors.Join(errs...)
}

// Close ends the monitor after Run has returned: what was decided is on disk.
func (m *Monitor) Close(ctx context.Context) error {
	var errs []error
	m.once.Do(func() {
		errs = append(errs, m.closeAnomalies())
		if m.diary != nil {
			errs = append(errs, m.diary.close(ctx, m))
		}
		if m.journal != nil {
			errs = append(errs, m.journal.close())
		}
		if m.findings != nil {
			errs = append(errs, m.findings.close())
		}
		if m.incidents != nil {
			errs = append(errs, m.incidents.Close())
		}
		if m.lock != nil {
			errs = append(errs, m.lock.Close())
		}
	})
	return errors.Join(errs...)
}
