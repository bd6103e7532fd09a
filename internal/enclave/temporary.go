package enclave

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/door/release"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// Defaults of what temporary tables may take on a dataset cluster's disk.
const (
	temporaryEach = 4 << 30
	temporaryAll  = 16 << 30
)

// quota bounds what the sessions of the release path write into temporary tables, which no
// setting of PostgreSQL bounds. It is measured, not foreseen: a session can pass its bound by
// what it writes in one turn of the duty.
type quota struct {
	each, all int64

	mu       sync.Mutex
	sessions map[string]map[int]stopper // by dataset and the server's number of the session
}

// stopper is a *release.Session as the quota needs it.
type stopper interface{ Stop(release.StopReason) }

func newQuota(each, all int64) *quota {
	if each <= 0 {
		each = temporaryEach
	}
	if all <= 0 {
		all = temporaryAll
	}
	return &quota{each: each, all: max(all, each), sessions: map[string]map[int]stopper{}}
}

// enter counts a session until leave is called.
func (q *quota) enter(dataset string, backend int, s stopper) (leave func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sessions[dataset] == nil {
		q.sessions[dataset] = map[int]stopper{}
	}
	q.sessions[dataset][backend] = s
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.sessions[dataset][backend] == s { // the number may be another session's by now
			delete(q.sessions[dataset], backend)
		}
	}
}

// open lists the datasets that have sessions.
func (q *quota) open() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var names []string
	for name, sessions := range q.sessions {
		if len(sessions) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// enforce stops each session of one cluster that is over its bound, and, while all together
// are over theirs, the largest. It returns how many it stopped.
func (q *quota) enforce(uses []postgres.TemporaryUse) (stopped int) {
	slices.SortFunc(uses, func(a, b postgres.TemporaryUse) int { return int(max(-1, min(1, b.Bytes-a.Bytes))) })
	var sum int64
	for _, u := range uses {
		sum += u.Bytes
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, u := range uses { // largest first
		if u.Bytes <= q.each && sum <= q.all {
			continue
		}
		sum -= u.Bytes
		if s := q.sessions[u.Database][u.Backend]; s != nil { // else its own gateway stops it
			stopped++
			s.Stop(q.reason(u.Bytes))
		}
	}
	return stopped
}

func (q *quota) reason(bytes int64) release.StopReason {
	message := fmt.Sprintf("temporary tables of this session take %d MiB, more than the %d MiB that a session may", bytes>>20, q.each>>20)
	if bytes <= q.each {
		message = fmt.Sprintf("temporary tables of all sessions take more than the %d MiB there are for them, and this session's are the largest (%d MiB)", q.all>>20, bytes>>20)
	}
	return release.StopReason{Outcome: "error", SQLState: "53100", Message: message,
		Detail: "They went with the session.", Hint: "aggregate before you store; the operator sets gateway.temporary_bytes"}
}

// temporary measures the clusters of the datasets that have sessions, and ends those that are over.
func (d *duties) temporary(ctx context.Context) error {
	clusters := map[string]bool{}
	for _, name := range d.quota.open() {
		if def := d.now.get().Definitions[name]; def != nil {
			clusters[def.Cluster] = true
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(clusters)) {
		uses, err := temporaryUses(ctx, d.auth.clusters.Addresses[name].Steward)
		if err != nil {
			errs = append(errs, fmt.Errorf("cluster %s: %w", name, err))
			continue
		}
		if n := d.quota.enforce(uses); n > 0 {
			d.logger.Warn("sessions ended: their temporary tables are over the bound", "cluster", name, "sessions", n)
		}
	}
	return errors.Join(errs...)
}

func temporaryUses(ctx context.Context, steward string) ([]postgres.TemporaryUse, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, steward)
	if err != nil {
		return nil, errors.New("measure temporary tables: the steward cannot log in") // pgx names the DSN's user and host
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return postgres.TemporaryUses(ctx, conn)
}

// numberSQL gives PostgreSQL's number of the session: that in the names of its temporary files.
const numberSQL = `SELECT pg_catalog.split_part(virtualtransaction, '/', 1) FROM pg_catalog.pg_locks ` +
	`WHERE locktype = 'virtualxid' AND pid = pg_catalog.pg_backend_pid()`

// number asks a fresh session's server for it.
func number(server net.Conn) (int, error) {
	if err := server.SetDeadline(time.Now().Add(lookFor)); err != nil {
		return 0, fmt.Errorf("%w: %w", errLook, err)
	}
	row, err := ask(server, numberSQL)
	if err != nil || len(row) != 1 {
		return 0, errors.Join(errLook, err)
	}
	n, err := strconv.Atoi(row[0])
	if err != nil {
		return 0, errLook
	}
	if err := server.SetDeadline(time.Time{}); err != nil {
		return 0, fmt.Errorf("%w: %w", errLook, err)
	}
	return n, nil
}
