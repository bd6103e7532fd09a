package pool

import (
	"cmp"
	"slices"
	"time"
)

// Stats are a pool's figures since it began.
type Stats struct {
	Attached     int64         `json:"attached"` // times a client got a server: transactions, by transaction
	Waits        int64         `json:"waits"`    // times a client had to wait
	Waited       time.Duration `json:"waited"`   // by those that got a server then, in all
	Timeouts     int64         `json:"timeouts"` // clients refused because they waited too long
	Logins       int64         `json:"logins"`
	LoginsFailed int64         `json:"logins_failed"`
}

// Info is what status shows of a pool, in the manner of PgBouncer's SHOW POOLS and STATS.
type Info struct {
	Database string `json:"database"`
	Role     string `json:"role"`
	Mode     string `json:"mode"`
	Size     int    `json:"size"` // most servers

	ClientsActive  int           `json:"clients_active"` // have a server
	ClientsWaiting int           `json:"clients_waiting"`
	ClientsIdle    int           `json:"clients_idle"`
	Pinned         int           `json:"pinned"` // clients whose server stays
	ServersActive  int           `json:"servers_active"`
	ServersIdle    int           `json:"servers_idle"`
	ServersOther   int           `json:"servers_other"` // being reset, or awaiting a cancel request's end
	ServersOpening int           `json:"servers_opening"`
	Lanes          int           `json:"lanes"`    // different start-up parameters
	MaxWait        time.Duration `json:"max_wait"` // of those that wait now
	Statements     int           `json:"statements"`
	LastFailure    string        `json:"last_failure,omitempty"` // of a login; empty when the last one worked
	Stats          Stats         `json:"stats"`
	Clients        []ClientInfo  `json:"clients"`
	Servers        []ServerInfo  `json:"servers"`
}

// ClientInfo is one client, as SHOW CLIENTS.
type ClientInfo struct {
	Session string        `json:"session"`
	State   string        `json:"state"` // active, waiting, idle
	Wait    time.Duration `json:"wait"`
	Pinned  string        `json:"pinned,omitempty"` // why its server stays
	Since   time.Time     `json:"since"`            // connected
	Server  uint32        `json:"server,omitempty"` // process id
}

// ServerInfo is one server, as SHOW SERVERS.
type ServerInfo struct {
	PID      uint32    `json:"pid"`
	State    string    `json:"state"`
	Born     time.Time `json:"born"`
	Since    time.Time `json:"since"` // of the state
	Prepared int       `json:"prepared"`
	Served   int64     `json:"served"` // clients, one after the other
	Session  string    `json:"session,omitempty"`
}

// Snapshot returns what the pools are doing, by database and role. A closed Manager has none.
func (m *Manager) Snapshot() []Info {
	got := make(chan []Info, 1)
	if !m.loop.Post(func() { got <- m.snapshot() }) {
		return nil
	}
	select {
	case list := <-got:
		return list
	case <-m.ctx.Done():
		return nil
	}
}

func (m *Manager) snapshot() []Info {
	list := []Info{}
	for _, p := range m.pools {
		list = append(list, p.info(m.c.Now()))
	}
	slices.SortFunc(list, func(a, b Info) int { return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Role, b.Role)) })
	return list
}

func (p *Pool) info(now time.Time) Info {
	i := Info{Database: cmp.Or(p.key.Name, p.key.Database), Role: p.key.Role, Mode: p.settings.Mode.String(), Size: p.settings.Servers, ServersOpening: p.opening,
		Lanes: len(p.lanes), Statements: p.m.tables.statements.Len(), Stats: p.stats, Clients: []ClientInfo{}, Servers: []ServerInfo{}}
	for c := range p.clients {
		x := ClientInfo{Session: c.id, State: "idle", Since: c.started}
		switch {
		case c.srv != nil:
			x.State, x.Server = "active", c.srv.pid
			i.ClientsActive++
			if r := c.mux.Pinned(); r != Nothing {
				x.Pinned = r.String()
				i.Pinned++
			}
		case !c.since.IsZero():
			x.State, x.Wait = "waiting", now.Sub(c.since)
			i.ClientsWaiting++
			i.MaxWait = max(i.MaxWait, x.Wait)
		default:
			i.ClientsIdle++
		}
		i.Clients = append(i.Clients, x)
	}
	for s := range p.servers {
		x := ServerInfo{PID: s.pid, State: s.state.String(), Born: s.born, Since: s.since, Prepared: len(s.prepared.at), Served: s.served}
		if s.client != nil {
			x.Session = s.client.id
		}
		switch s.state {
		case idle:
			i.ServersIdle++
		case active:
			i.ServersActive++
		default:
			i.ServersOther++
		}
		i.Servers = append(i.Servers, x)
	}
	for _, l := range p.lanes {
		if l.failure != nil {
			i.LastFailure = "the last login failed"
		}
	}
	slices.SortFunc(i.Clients, func(a, b ClientInfo) int { return cmp.Compare(a.Session, b.Session) })
	slices.SortFunc(i.Servers, func(a, b ServerInfo) int { return cmp.Compare(a.PID, b.PID) })
	return i
}
