package enclave

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/route"
)

// readOnlyParameter is the start-up parameter by which a session says that it only reads.
const readOnlyParameter = "default_transaction_read_only"

// routes are the routers of the databases that have a route, by name.
type routes struct {
	routers map[string]*route.Router
	servers []*route.Server
	alias   map[string]string // name for read-only sessions → database
}

// openRoutes makes the routers of a configuration. Changed is called with a server's address
// after the sessions on it have no business there any more. Nothing is asked yet.
func (c *Config) openRoutes(changed func(database, address string), logger *slog.Logger) (*routes, error) {
	out := &routes{routers: map[string]*route.Router{}, alias: map[string]string{}}
	for name, db := range c.Databases {
		if db.Route == nil {
			continue
		}
		rc := route.Config{Name: name, MaxLag: db.Route.MaxLag, Logger: logger, Changed: func(from, _ string) {
			if from != "" {
				changed(name, from)
			}
		}}
		if text := db.Route.Interval; text != "" {
			interval, err := time.ParseDuration(text)
			if err != nil {
				return nil, fmt.Errorf("databases.%s.route.interval: %w", name, err)
			}
			rc.Interval = interval
		}
		for _, m := range db.Route.Members {
			asker, err := out.asker(db, m)
			if err != nil {
				return nil, fmt.Errorf("databases.%s.route: %w", name, err)
			}
			rc.Members = append(rc.Members, route.Member{Address: m.Address, Asker: asker})
		}
		router, err := route.New(rc)
		if err != nil {
			return nil, err
		}
		out.routers[name] = router
		if db.Route.ReadOnly != "" {
			out.alias[db.Route.ReadOnly] = name
		}
	}
	return out, nil
}

func (r *routes) asker(db Database, m RouteMember) (route.Asker, error) {
	if m.Patroni != "" {
		return route.Patroni{URL: strings.TrimSuffix(m.Patroni, "/"), Client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
	}
	host, port, err := hostPort(m.Address)
	if err != nil {
		return nil, err
	}
	s, err := route.NewServer(cmp.Or(db.Reader, db.DSN), host, port)
	if err != nil {
		return nil, err
	}
	r.servers = append(r.servers, s)
	return s, nil
}

func hostPort(address string) (string, uint16, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("%q is not host:port", address)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("%q is not host:port", address)
	}
	return host, uint16(port), nil
}

// ask asks all members once, so that the first sessions find their way.
func (r *routes) ask(ctx context.Context) {
	var all sync.WaitGroup
	for _, router := range r.routers {
		all.Go(func() { router.Ask(ctx) })
	}
	all.Wait()
}

// run follows all clusters until ctx ends.
func (r *routes) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, router := range r.routers {
		all.Go(func() { router.Run(ctx) })
	}
	all.Wait()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for _, s := range r.servers {
		s.Close(closing)
	}
}

// database is the database behind a name that a client gave, and whether the session only reads.
func (r *routes) database(q gateway.Request) (name string, readOnly bool) {
	if r == nil {
		return q.Database, false
	}
	if name, found := r.alias[q.Database]; found {
		return name, true
	}
	switch strings.ToLower(q.Params[readOnlyParameter]) {
	case "on", "true", "yes", "1":
		return q.Database, true
	}
	return q.Database, false
}

// send turns a target to the server that carries the session. Without a route it stays.
func (r *routes) send(name string, readOnly bool, t gateway.Target) (gateway.Target, error) {
	if r == nil || r.routers[name] == nil {
		return t, nil
	}
	pick := r.routers[name].Primary
	if readOnly {
		pick = r.routers[name].ReadOnly
	}
	address, err := pick()
	if err != nil {
		return t, err
	}
	t.Network, t.Address = "tcp", address
	if t.TLS != nil && t.TLS.ServerName != "" {
		if host, _, err := net.SplitHostPort(address); err == nil {
			t.TLS = t.TLS.Clone()
			t.TLS.ServerName = host
		}
	}
	if readOnly { // it may be on the primary now, or on a replica that is promoted later
		t.Startup = map[string]string{readOnlyParameter: "on"}
	}
	return t, nil
}

// states tells of the members of every route, by database.
func (r *routes) states() map[string][]route.State {
	out := map[string][]route.State{}
	for name, router := range r.routers {
		out[name] = router.States()
	}
	return out
}

// away is what a client hears while a cluster has no primary.
func away(database string, err error) gateway.Refusal {
	return gateway.Refusal{SQLState: "57P03", Message: fmt.Sprintf("database %s: %v", database, err), Rule: "no-primary", Reason: "database",
		Hint: "try again in a moment; trefoil gateway status shows the servers"}
}
