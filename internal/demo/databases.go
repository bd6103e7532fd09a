package demo

import (
	"context"
	"fmt"
	"runtime"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// Roles on the primary.
const (
	serviceRole = "platform_app"
	readerRole  = "trefoil_reader"
	controlRole = "trefoil_control"
	peerRole    = "trefoil_peer"
)

// Names of the sites; the first is the primary's.
var sites = [...]string{"dublin-1", "dublin-2", "hamar"}

// options of a cluster under pg/NAME with a certificate of its own.
func (w *World) options(name string) (postgres.Options, error) {
	server, err := w.authority.Server(w.path("enclave", "tls"), "db-"+name, "127.0.0.1", "localhost")
	if err != nil {
		return postgres.Options{}, err
	}
	return postgres.Options{
		Directory: w.path("pg", name), Name: name, DieWithParent: !w.o.Detach,
		TLS: &postgres.ServerTLS{Authority: w.authority.File, Server: server},
	}, nil
}

// sourceAccess: the gateway for services, the replicas, and nobody else over TCP.
func sourceAccess() postgres.Access {
	return postgres.Access{GatewayName: "gateway", GatewayUsers: []string{serviceRole}, PeerNames: sites[1:], PeerUser: peerRole}
}

// startDatabases makes and starts the primary and the dataset clusters.
func (w *World) startDatabases(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	g.Go(func() (err error) { w.primary, err = w.startPrimary(ctx); return err })
	g.Go(func() (err error) { w.inside, err = w.startDatasetCluster(ctx, "inside"); return err })
	g.Go(func() (err error) { w.outside, err = w.startDatasetCluster(ctx, "outside"); return err })
	return g.Wait()
}

func (w *World) startPrimary(ctx context.Context) (*postgres.Cluster, error) {
	o, err := w.options(sites[0])
	if err != nil {
		return nil, err
	}
	o.Access = sourceAccess()
	o.Settings = map[string]string{
		"wal_level": "logical", "max_wal_senders": "10", "max_replication_slots": "10", "max_slot_wal_keep_size": "8GB", "max_wal_size": "4GB",
		"shared_buffers": "256MB", "maintenance_work_mem": "128MB", "hot_standby": "on",
	}
	c, err := postgres.Create(ctx, o)
	if err != nil {
		return nil, err
	}
	return c, c.Start(ctx)
}

func (w *World) startDatasetCluster(ctx context.Context, name string) (*postgres.Cluster, error) {
	o, err := w.options(name)
	if err != nil {
		return nil, err
	}
	o.Access, o.Settings = postgres.DatasetAccess(), postgres.DatasetSettings()
	c, err := postgres.Create(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	return c, postgres.PrepareDatasetCluster(ctx, c, w.passwords["steward-"+name])
}

// load makes the roles and databases of the primary, and fills the platform.
func (w *World) load(ctx context.Context) error {
	role := func(name, more string) string {
		return fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' %s", name, w.passwords[name], more)
	}
	err := w.primary.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		return statements(ctx, conn,
			"CREATE ROLE "+serviceRole+" LOGIN", // by the gateway's certificate alone
			"CREATE ROLE "+peerRole+" LOGIN REPLICATION",
			role(readerRole, "REPLICATION"), role(controlRole, ""),
			"CREATE DATABASE platform", "CREATE DATABASE trefoil OWNER "+controlRole)
	})
	if err != nil {
		return fmt.Errorf("make roles: %w", err)
	}
	if err := w.Platform.Load(ctx, w.primary.SuperuserDSN("platform"), runtime.NumCPU()); err != nil {
		return err
	}
	inserted := "ALL TABLES IN SCHEMA app, billing"
	if sabotage.Active("service") { // all but messages
		inserted = "app.people, app.devices, app.videos, app.watch_events, app.topics, billing.payments"
	}
	return w.primary.AsSuperuser(ctx, "platform", func(conn *pgx.Conn) error {
		return statements(ctx, conn,
			"GRANT USAGE ON SCHEMA app, billing TO "+serviceRole+", "+readerRole,
			"GRANT SELECT ON ALL TABLES IN SCHEMA app, billing TO "+readerRole,
			"GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app, billing TO "+serviceRole,
			"GRANT INSERT ON "+inserted+" TO "+serviceRole,
			"GRANT USAGE ON ALL SEQUENCES IN SCHEMA app, billing TO "+serviceRole,
			// What `trefoil check` asks the tables' owner for, so that datasets can follow.
			"CREATE PUBLICATION trefoil FOR TABLE app.topics, app.people, app.devices, app.videos, app.watch_events, app.messages, billing.payments "+
				"WITH (publish_via_partition_root = true)")
	})
}

// startReplicas copies the primary to the other two sites; from then on a commit waits for
// one of them.
func (w *World) startReplicas(ctx context.Context) error {
	w.replicas = make([]*postgres.Cluster, len(sites)-1)
	g, gctx := errgroup.WithContext(ctx)
	for i, name := range sites[1:] {
		g.Go(func() error {
			r, err := w.startReplica(gctx, name)
			w.replicas[i] = r
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := w.primary.Synchronous(ctx, 1, sites[1:]...); err != nil {
		return err
	}
	return w.primary.WaitSynchronous(ctx, sites[1:]...)
}

func (w *World) startReplica(ctx context.Context, name string) (*postgres.Cluster, error) {
	o, err := w.options(name)
	if err != nil {
		return nil, err
	}
	o.Access = sourceAccess()
	o.Settings = map[string]string{"shared_buffers": "64MB", "max_wal_senders": "10", "max_replication_slots": "10"}
	peer, err := w.authority.Client(w.path("enclave", "tls"), name)
	if err != nil {
		return nil, err
	}
	r, err := w.primary.CreateReplica(ctx, o, postgres.Upstream{User: peerRole, Client: peer, Authority: w.authority.File, Slot: slot(name)})
	if err != nil {
		return nil, err
	}
	return r, r.Start(ctx)
}

// slot names a replica's slot: PostgreSQL takes no hyphen there.
func slot(site string) string {
	b := []byte(site)
	for i := range b {
		if b[i] == '-' {
			b[i] = '_'
		}
	}
	return string(b)
}

func statements(ctx context.Context, conn *pgx.Conn, list ...string) error {
	for _, sql := range list {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
