package monitor

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// keepClosed is how long a closed session is remembered in memory. A record older than the
// clock doubt gets no permit, so a session cannot come back after it.
const keepClosed = time.Hour

// session is one release-path session as the permitted and mirrored records tell it.
type session struct {
	log       int
	start     uint64 // index of its first record
	permitted bool   // the start was permitted
	access    [32]byte
	allowance int64
	next      int64 // chunk expected next
	total     int64 // bytes of its release records that may have left: permitted, or marked unpermitted
	released  int64 // of those, permitted
	startAt   time.Time
	closed    int64 // Unix seconds at which its end was seen; 0: open
	changed   chan struct{}

	valve  string // its connection at the valve, "" for none
	grants int64  // release records permitted
	held   bool   // a stop in force covers it: the valve holds what it was credited
}

// unasked is a record that waits for somebody to ask for its permit.
type unasked struct {
	since   int64 // Unix microseconds
	session string
}

// definition is an acknowledged definition.
type definition struct {
	d     *trefoil.Definition
	hash  string
	index uint64
	at    int64
}

// Totals are counters that survive the sessions they counted.
type Totals struct {
	Records   uint64 `json:"records"`
	Permits   uint64 `json:"permits"`
	Refusals  uint64 `json:"refusals"`
	Bytes     int64  `json:"release_bytes"`           // of all release records in the mirror
	Permitted int64  `json:"permitted_release_bytes"` // of those permitted
	Without   uint64 `json:"unpermitted"`             // records that say they went without a permit

	Unreleased int64 `json:"permitted_bytes_not_released"` // by what the ends of sessions say: clients that went away
}

// state is everything the journal says, in memory. Its lock is held while an entry is both
// applied and appended, so the journal replays to the same state.
type state struct {
	mu        sync.Mutex
	logs      map[string]int // origin → index
	records   *recordTable
	sessions  map[string]*session
	acks      map[string][]definition // dataset → acknowledged, oldest first
	revoked   map[string]bool         // grant ids
	valves    map[string]string       // connection at the valve → session
	unasked   map[recordKey]unasked   // records that need a permit, and nobody asked for one yet
	stopped   bool                    // everything is
	epoch     uint64
	orders    *orders
	latest    int64 // Unix microseconds of the newest entry: the clock does not go behind it
	usage     *usage
	offers    map[string][]definition // dataset → definitions that wait for an officer
	last      map[string]definition   // dataset → what counted last, also when it was dropped since
	totals    []Totals                // by log
	published Definitions             // of datasets, as the records of watched logs give them
	closed    []string                // sessions in the order they closed
}

func newState(logs []WatchedLog) *state {
	s := &state{logs: map[string]int{}, records: newRecordTable(), sessions: map[string]*session{},
		acks: map[string][]definition{}, revoked: map[string]bool{}, valves: map[string]string{}, unasked: map[recordKey]unasked{}, totals: make([]Totals, len(logs)),
		orders: newOrders(), usage: newUsage(), offers: map[string][]definition{}, last: map[string]definition{}}
	for i, l := range logs {
		s.logs[l.Origin] = i
	}
	s.published = Definitions{}
	return s
}

// apply changes the state by one entry. body gives the entry's body where it is needed.
func (s *state) apply(e *entry, at span, body func() ([]byte, error)) error {
	s.latest = max(s.latest, e.At)
	switch e.Type {
	case entryRecord:
		s.applyRecord(e, at)
		if _, watched := s.logs[e.Origin]; watched && e.Kind == trefoil.KindCatalog {
			raw, err := body()
			if err != nil {
				return err
			}
			return s.published.noteRaw(raw)
		}
	case entryAck:
		raw, err := body()
		if err != nil {
			return err
		}
		var d trefoil.Definition
		if err := json.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("decode acknowledged definition: %w", err)
		}
		s.applyAck(e, &d)
	case entryOffer:
		raw, err := body()
		if err != nil {
			return err
		}
		return s.applyOffer(e, raw)
	case entryDropped:
		delete(s.acks, e.Name)
	case entryOrder:
		raw, err := body()
		if err != nil {
			return err
		}
		return s.applyOrder(e, raw)
	case entryRules:
		s.applyRules(e)
	case entryKey:
		s.orders.used[e.Hash] = true
	case entryHalt:
		s.halt(halt{ID: e.Name, At: time.UnixMicro(e.At).UTC(), Reason: e.Note, Scope: &officers.Scope{All: true}})
	case entryRevoked:
		s.revoked[e.Name] = true
	}
	return nil
}

func (s *state) applyRecord(e *entry, at span) {
	log, watched := s.logs[e.Origin]
	if !watched { // no longer in the rules: its records stay on disk, and count for nothing
		return
	}
	key, t := recordKey{log, e.Index}, &s.totals[log]
	r := s.records.get(key)
	first := r == nil
	if first {
		r = &record{body: at, leaf: half([32]byte(e.Leaf))}
		t.Records++
		if e.Kind == trefoil.KindRelease {
			t.Bytes += e.Bytes
		}
		if e.Unpermitted {
			t.Without++
		}
	}
	if e.Permitted || e.Rule != "" {
		delete(s.unasked, key)
	} else if first && e.needsPermit() && !e.Unpermitted {
		s.unasked[key] = unasked{since: e.At, session: e.Session}
	}
	granted := e.Permitted && !r.permitted
	if e.Permitted {
		r.permitted, r.expires, r.epoch = true, e.Expires, e.Epoch
	}
	s.records.put(key, r)
	switch {
	case granted:
		t.Permits++
		s.usage.add(e)
		if e.Kind == trefoil.KindRelease {
			t.Permitted += e.Bytes
		}
	case e.Rule != "":
		t.Refusals++
	}
	s.applySession(e, log, first, granted)
}

// applySession moves the session's chain by what may have left: a record that was permitted,
// or that says of itself that it went out unpermitted. A refused record moves nothing.
func (s *state) applySession(e *entry, log int, first, granted bool) {
	x := s.sessions[e.Session]
	left := granted || first && e.Unpermitted
	switch {
	case e.Session == "" || e.Path == "service":
		return
	case e.Kind == trefoil.KindSession && e.Event == "end":
		if first {
			s.explain(e, x)
		}
		if x == nil || x.closed != 0 || !first {
			return
		}
		x.closed = e.At / 1e6
		s.totals[log].Unreleased += max(0, x.released-e.Bytes)
		s.closed = append(s.closed, e.Session)
	case !left:
		return
	case x == nil: // a start, or the first that is seen of a session in the region that began without the monitor
		x = &session{log: log, start: e.Index, access: [32]byte(e.Access), startAt: time.UnixMicro(e.Recorded).UTC(),
			allowance: e.Allowance, changed: make(chan struct{}), valve: e.Valve}
		s.sessions[e.Session] = x
		if e.Valve != "" {
			s.valves[e.Valve] = e.Session
		}
	}
	if e.Kind == trefoil.KindRelease {
		x.next = max(x.next, e.Chunk+1)
		x.total = max(x.total+e.Bytes, e.Cumulative)
		if granted {
			x.released += e.Bytes
			x.grants++
		}
	} else if e.Event == "start" && x.start == e.Index {
		x.permitted = x.permitted || granted
	}
	close(x.changed)
	x.changed = make(chan struct{})
	s.forgetClosed(e.At / 1e6)
}

// explain lets go of a session's records that nobody asked for, if its end says that nothing
// left beyond what was permitted: clients that go away while their answer is held are no
// finding. What the end says is held against it like any other record.
func (s *state) explain(e *entry, x *session) {
	var total, allowance int64
	if x != nil {
		total, allowance = x.total, x.allowance
	}
	if e.Bytes > total || e.Cumulative > allowance {
		return
	}
	for key, u := range s.unasked {
		if u.session == e.Session {
			delete(s.unasked, key)
		}
	}
}

// forgetClosed drops sessions that closed long ago, so memory follows what is open.
func (s *state) forgetClosed(now int64) {
	for len(s.closed) > 0 {
		x := s.sessions[s.closed[0]]
		if x != nil && now-x.closed < int64(keepClosed/time.Second) {
			return
		}
		if x != nil {
			delete(s.valves, x.valve)
		}
		delete(s.sessions, s.closed[0])
		s.closed = s.closed[1:]
	}
}

// acknowledged returns the definition that dataset was acknowledged with under hash.
func (s *state) acknowledged(dataset, hash string) *trefoil.Definition {
	for _, d := range s.acks[dataset] {
		if d.hash == hash {
			return d.d
		}
	}
	return nil
}

// accessHash is a digest of an access: it is the same in every record of one session.
func accessHash(a *trefoil.Access) []byte {
	enc, err := json.Marshal(a)
	if err != nil {
		return make([]byte, sha256.Size)
	}
	sum := sha256.Sum256(enc)
	return sum[:]
}
