package route_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/door/route"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// pair is a primary and a replica, with a login for questions that has no rights.
func pair(t *testing.T) (p, r *postgres.Cluster) {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	ca, err := postgres.NewAuthority(filepath.Join(dir, "ca"), "site-authority", nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server(filepath.Join(dir, "ca"), "server", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Client(filepath.Join(dir, "ca"), "b")
	if err != nil {
		t.Fatal(err)
	}
	o := postgres.Options{NoSync: true, DieWithParent: true, TLS: &postgres.ServerTLS{Authority: ca.File, Server: server},
		Access: postgres.Access{PeerNames: []string{"b"}, PeerUser: "replicator", PasswordTCP: true}}
	o.Directory, o.Name = filepath.Join(dir, "a"), "a"
	if p, err = postgres.Create(ctx, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background(), postgres.StopImmediate) })
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE ROLE replicator LOGIN REPLICATION; CREATE ROLE asker LOGIN PASSWORD 'secret-of-asker'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	o.Directory, o.Name = filepath.Join(dir, "b"), "b"
	if r, err = p.CreateReplica(ctx, o, postgres.Upstream{User: "replicator", Client: client, Authority: ca.File, Slot: "site_b"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Stop(context.Background(), postgres.StopImmediate) })
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return p, r
}

// TestPromotionOfARealReplicaIsFollowed kills a primary and promotes its replica.
func TestPromotionOfARealReplicaIsFollowed(t *testing.T) {
	p, r := pair(t)
	var members []route.Member
	for _, c := range []*postgres.Cluster{r, p} {
		host, port, err := net.SplitHostPort(c.Addr())
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		s, err := route.NewServer("host=127.0.0.1 user=asker password=secret-of-asker dbname=postgres sslmode=disable", host, uint16(n))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		members = append(members, route.Member{Address: c.Addr(), Asker: s})
	}
	router, err := route.New(route.Config{Name: "shop", Members: members})
	if err != nil {
		t.Fatal(err)
	}
	router.Ask(t.Context())
	if got, err := router.Primary(); got != p.Addr() || err != nil {
		t.Fatalf("primary %q, %v, states %+v", got, err, router.States())
	}
	if got, err := router.ReadOnly(); got != r.Addr() || err != nil {
		t.Fatalf("read-only %q, %v, states %+v", got, err, router.States())
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	router.Ask(t.Context())
	if got, err := router.Primary(); got != r.Addr() || err != nil {
		t.Fatalf("after the promotion the primary is %q, %v, states %+v", got, err, router.States())
	}
	for _, s := range router.States() {
		if strings.Contains(s.Error, "secret") {
			t.Errorf("an error tells the password: %s", s.Error)
		}
	}
}
