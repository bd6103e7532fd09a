package postgres_test

import (
	"context"
	"errors"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// clusterDir is short-lived and reachable for the server's user.
func clusterDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "cluster")
}

func create(t *testing.T, o postgres.Options) *postgres.Cluster {
	t.Helper()
	o.NoSync, o.DieWithParent = true, true
	c, err := postgres.Create(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c, postgres.StopImmediate) })
	return c
}

func stop(t *testing.T, c *postgres.Cluster, mode postgres.StopMode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.Stop(ctx, mode); err != nil {
		t.Error(err)
	}
}

func begin(t *testing.T, c *postgres.Cluster) {
	t.Helper()
	if err := c.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, c *postgres.Cluster, sql string) {
	t.Helper()
	ctx := testContext(t)
	if err := c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, c *postgres.Cluster, sql string) (n int) {
	t.Helper()
	ctx := testContext(t)
	if err := c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error { return conn.QueryRow(ctx, sql).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAcknowledgedWritesSurviveKillNine(t *testing.T) {
	c := create(t, postgres.Options{Directory: clusterDir(t)})
	begin(t, c)
	exec(t, c, "CREATE TABLE kept (n int); SET synchronous_commit = on; INSERT INTO kept SELECT generate_series(1, 1000)")
	port := c.Port()
	for i := 1; i <= 2; i++ {
		if err := c.Kill(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if c.Running() {
			t.Fatal("it runs after SIGKILL")
		}
		begin(t, c)
		if n := count(t, c, "SELECT count(*) FROM kept"); n != 1000 {
			t.Fatalf("round %d: %d rows after the crash, want 1000", i, n)
		}
		if c.Port() != port {
			t.Fatalf("round %d: it listens on port %d, not on %d as before", i, c.Port(), port)
		}
	}
}

func TestAPidFileWhoseNumberBelongsToAnotherProgramDoesNotStopAStart(t *testing.T) {
	c := create(t, postgres.Options{Directory: clusterDir(t)})
	begin(t, c)
	stop(t, c, postgres.StopFast)
	// As after a reboot: the old number now belongs to a live process, here this test.
	stale := strconv.Itoa(os.Getpid()) + "\n" + c.DataDir() + "\n0\n5432\n\n*\n0 0\nready\n"
	if err := os.WriteFile(filepath.Join(c.DataDir(), "postmaster.pid"), []byte(stale), 0o644); err != nil {
		t.Fatal(err)
	}
	begin(t, c)
	count(t, c, "SELECT 1")
}

func TestARunningServerIsAdoptedNotStartedTwice(t *testing.T) {
	o := postgres.Options{Directory: clusterDir(t)}
	c := create(t, o)
	begin(t, c)
	again, err := postgres.Open(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	begin(t, again)
	if again.PID() != c.PID() || again.Port() != c.Port() {
		t.Fatalf("adopted pid %d port %d, the server's are %d and %d", again.PID(), again.Port(), c.PID(), c.Port())
	}
	count(t, again, "SELECT 1") // with the password kept in its directory
	stop(t, again, postgres.StopFast)
	if again.Running() || c.Running() {
		t.Fatal("it runs after Stop")
	}
}

func TestAPortInUseIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	c := create(t, postgres.Options{Directory: clusterDir(t), Port: port})
	err = c.Start(testContext(t))
	if err == nil || !strings.Contains(err.Error(), "port "+strconv.Itoa(port)) {
		t.Fatalf("start on a taken port: %v", err)
	}
}

func TestABadSettingIsSaidInTheServersWords(t *testing.T) {
	c := create(t, postgres.Options{Directory: clusterDir(t), Settings: map[string]string{"no_such_setting": "1"}})
	err := c.Start(testContext(t))
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Fatalf("start with a bad setting: %v", err)
	}
	if c.Running() {
		t.Fatal("it runs")
	}
}

func TestCreateNeverOverwritesACluster(t *testing.T) {
	o := postgres.Options{Directory: clusterDir(t)}
	create(t, o)
	if _, err := postgres.Create(testContext(t), o); !errors.Is(err, postgres.ErrExists) {
		t.Fatalf("second create: %v", err)
	}
	o.Directory += "-none"
	if _, err := postgres.Open(testContext(t), o); !errors.Is(err, postgres.ErrNotCluster) {
		t.Fatalf("open of nothing: %v", err)
	}
}

func TestALongDirectoryStillHasASocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), strings.Repeat("name", 30))
	c := create(t, postgres.Options{Directory: dir})
	begin(t, c)
	if len(c.SocketDir()) > 100 {
		t.Fatalf("socket directory of %d bytes", len(c.SocketDir()))
	}
	count(t, c, "SELECT 1")
	stop(t, c, postgres.StopFast)
	_ = os.Remove(c.SocketDir())
}

func TestTheServerDiesWithItsParent(t *testing.T) {
	const marker = "TREFOIL_TEST_PARENT_OF"
	if dir := os.Getenv(marker); dir != "" {
		c, err := postgres.Create(testContext(t), postgres.Options{Directory: dir, NoSync: true, DieWithParent: true})
		if err != nil {
			t.Fatal(err)
		}
		begin(t, c)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // no defer, no cleanup: only the kernel can act
		select {}
	}
	dir := clusterDir(t)
	cmd := osexec.Command(os.Args[0], "-test.run=^TestTheServerDiesWithItsParent$")
	cmd.Env = append(os.Environ(), marker+"="+dir)
	out, err := cmd.CombinedOutput()
	if state := cmd.ProcessState; err == nil || state == nil || state.ExitCode() != -1 {
		t.Fatalf("the parent was not killed: %v\n%s", err, out)
	}
	log := filepath.Join(dir, "server.log")
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if text, _ := os.ReadFile(log); strings.Contains(string(text), "immediate shutdown") {
			if _, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid")); errors.Is(err, os.ErrNotExist) {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the server lives on without its parent")
}

func TestNoStatementAndNoValueReachesTheLog(t *testing.T) {
	c := create(t, postgres.Options{Directory: clusterDir(t)})
	begin(t, c)
	exec(t, c, "CREATE TABLE secretive (n int PRIMARY KEY, v text)")
	ctx := testContext(t)
	err := c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		for _, sql := range []string{
			"SELECT 'canary-zq71'::int", "SELECT * FROM \"canary-zq71\"", "INSERT INTO secretive VALUES (1, 'canary-zq71'), (1, 'canary-zq71')",
			"DO $$ BEGIN RAISE WARNING 'canary-zq71'; END $$", "SELECT canary-zq71 syntax error",
		} {
			_, _ = conn.PgConn().Exec(ctx, sql).ReadAll() // they fail: that is what could be logged
		}
		_, _ = conn.Exec(ctx, "SELECT $1::text::int", "canary-zq71")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(c.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	if len(log) == 0 {
		t.Fatal("the log is empty: nothing was tested")
	}
	if strings.Contains(string(log), "canary-zq71") {
		t.Fatal("the log holds what a statement held")
	}
}

func TestReplicasFollowSynchronouslyAndOneTakesOver(t *testing.T) {
	dir := t.TempDir()
	ca, err := postgres.NewAuthority(filepath.Join(dir, "ca"), "site-authority", nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server(filepath.Join(dir, "ca"), "server", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	tls := &postgres.ServerTLS{Authority: ca.File, Server: server}
	access := postgres.Access{PeerNames: []string{"b", "c"}, PeerUser: "replicator"}
	p := create(t, postgres.Options{Directory: filepath.Join(dir, "a"), Name: "a", TLS: tls, Access: access})
	begin(t, p)
	exec(t, p, "CREATE ROLE replicator LOGIN REPLICATION; CREATE TABLE kept (n int)")
	replicas := map[string]*postgres.Cluster{}
	for _, name := range access.PeerNames {
		client, err := ca.Client(filepath.Join(dir, "ca"), name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.CreateReplica(testContext(t),
			postgres.Options{Directory: filepath.Join(dir, name), Name: name, TLS: tls, Access: access, NoSync: true, DieWithParent: true},
			postgres.Upstream{User: "replicator", Client: client, Authority: ca.File, Slot: "site_" + name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stop(t, r, postgres.StopImmediate) })
		begin(t, r)
		replicas[name] = r
	}
	if err := p.Synchronous(testContext(t), 1, access.PeerNames...); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitSynchronous(testContext(t), access.PeerNames...); err != nil {
		t.Fatal(err)
	}
	exec(t, p, "SET synchronous_commit = remote_apply; INSERT INTO kept SELECT generate_series(1, 100)")
	stop(t, replicas["c"], postgres.StopFast) // one site may be away
	exec(t, p, "SET synchronous_commit = remote_apply; INSERT INTO kept SELECT generate_series(1, 100)")
	if err := p.Kill(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := replicas["b"].Promote(testContext(t)); err != nil {
		t.Fatal(err)
	}
	exec(t, replicas["b"], "INSERT INTO kept VALUES (0)")
	if n := count(t, replicas["b"], "SELECT count(*) FROM kept"); n != 201 {
		t.Errorf("%d rows at the new primary, want 201", n)
	}
}

// dial tries a DSN and returns the server's error.
func dial(t *testing.T, dsn string) error {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, dsn)
	if err == nil {
		err = conn.Ping(ctx)
		_ = conn.Close(ctx)
	}
	return err
}

func TestADatasetClusterLetsInNobodyButGatewayAndSteward(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, c *pgtest.Cluster) {
		ctx := testContext(t)
		if err := postgres.PrepareDatasetCluster(ctx, c.Cluster, "steward-pw"); err != nil {
			t.Fatal(err)
		}
		if err := postgres.PrepareDatasetCluster(ctx, c.Cluster, "steward-pw"); err != nil {
			t.Fatalf("a second time: %v", err)
		}
		steward := c.SocketDSN(postgres.StewardRole, "steward-pw", "postgres")
		conn := c.Connect(t, c.SuperuserDSN("postgres"))
		if _, err := conn.Exec(ctx, "GRANT CONNECT ON DATABASE postgres TO "+postgres.StewardRole); err != nil {
			t.Fatal(err)
		}
		s := c.Connect(t, steward)
		if err := postgres.CreateDatasetDatabase(ctx, s, "ana lytics"); err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{
			`CREATE ROLE "p-ana" LOGIN`, `GRANT trefoil_principals TO "p-ana"`, `CREATE ROLE stranger LOGIN PASSWORD 'x'`,
			`SET ROLE trefoil_owner`, `GRANT CONNECT, TEMPORARY ON DATABASE "ana lytics" TO "p-ana"`, `RESET ROLE`,
		} {
			if _, err := s.Exec(ctx, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		other, err := postgres.NewAuthority(t.TempDir(), "other-authority", nil)
		if err != nil {
			t.Fatal(err)
		}
		forged, err := other.Client(t.TempDir(), "gateway")
		if err != nil {
			t.Fatal(err)
		}
		tls := func(user, db string) string { return c.TLSDSN(user, db, c.TLS.Authority.File, c.TLS.Client) }
		plain := func(user, pw string) string {
			return "postgres://" + user + ":" + pw + "@" + c.Addr() + "/postgres?sslmode=disable"
		}
		if err := dial(t, tls("p-ana", "ana lytics")); err != nil {
			t.Fatalf("a principal by the gateway's certificate: %v", err)
		}
		for name, dsn := range map[string]string{
			"principal into another database":      tls("p-ana", "postgres"),
			"steward by the gateway's certificate": tls(postgres.StewardRole, "postgres"),
			"owner by the gateway's certificate":   tls(postgres.OwnerRole, "postgres"),
			"superuser by the certificate":         tls("postgres", "postgres"),
			"stranger by the certificate":          tls("stranger", "ana lytics"),
			"principal with a forged certificate":  c.TLSDSN("p-ana", "ana lytics", c.TLS.Authority.File, forged),
			"superuser with password over TCP":     plain("postgres", "x"),
			"stranger with password over TCP":      plain("stranger", "x"),
			"principal without TLS":                plain("p-ana", "x"),
			"principal with TLS, no certificate":   "postgres://p-ana@" + c.Addr() + "/ana%20lytics?sslmode=require",
			"principal by the socket":              c.SocketDSN("p-ana", "", "ana lytics"),
		} {
			if err := dial(t, dsn); err == nil {
				t.Errorf("let in: %s", name)
			}
		}
		principalCan(t, c, tls("p-ana", "ana lytics"))
		cleanDatabase(t, c)
	}, pgtest.WithTLS(), pgtest.WithAccess(postgres.DatasetAccess()), datasetSettings())
}

// cleanDatabase drops what the steward made: the cluster is shared.
func cleanDatabase(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	for _, sql := range []string{`DROP DATABASE "ana lytics" WITH (FORCE)`, `DROP ROLE "p-ana"`, `DROP ROLE stranger`} {
		c.Exec(t, c.SuperuserDSN("postgres"), sql)
	}
}

func datasetSettings() pgtest.Option {
	return func(o *pgtest.Options) {
		for k, v := range postgres.DatasetSettings() {
			pgtest.WithSetting(k, v)(o)
		}
		pgtest.WithSetting("shared_buffers", "64MB")(o)
	}
}

// principalCan tries what a principal must not be able to do, and what it must.
func principalCan(t *testing.T, c *pgtest.Cluster, dsn string) {
	t.Helper()
	conn := c.Connect(t, dsn)
	ctx := testContext(t)
	for _, sql := range []string{
		"SELECT lo_creat(-1)", "SELECT lo_from_bytea(0, 'x')", "SELECT lo_create(0)", "CREATE TABLE public.t (n int)", "CREATE SCHEMA s",
		"SELECT * FROM pg_stat_activity", "SELECT pg_stat_get_activity(NULL)", "SELECT pg_logical_emit_message(true, 'a', 'b')",
		"COPY (SELECT 1) TO PROGRAM 'true'", "SELECT pg_read_file('PG_VERSION')", "CREATE EXTENSION dblink", "SET ROLE trefoil_owner",
		"SELECT * FROM pg_authid", "CREATE ROLE x", "ALTER SYSTEM SET work_mem = '1MB'", "SET session_preload_libraries = 'auto_explain'",
	} {
		if _, err := conn.Exec(ctx, sql); err == nil {
			t.Errorf("a principal may: %s", sql)
		}
	}
	for _, sql := range []string{"CREATE TEMP TABLE t (n int)", "LISTEN a", "NOTIFY a, 'b'", "SELECT count(*) FROM pg_class"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Errorf("a principal may not: %s: %v", sql, err)
		}
	}
}

func TestCheckFindsWhatADatasetClusterMustNotHave(t *testing.T) {
	ctx := testContext(t)
	c := pgtest.Private(t, pgtest.WithTLS(), pgtest.WithAccess(postgres.DatasetAccess()), datasetSettings())
	if err := postgres.PrepareDatasetCluster(ctx, c.Cluster, "steward-pw"); err != nil {
		t.Fatal(err)
	}
	c.Exec(t, c.SuperuserDSN("postgres"), "GRANT CONNECT ON DATABASE postgres TO trefoil_steward")
	steward := c.SocketDSN(postgres.StewardRole, "steward-pw", "postgres")
	found, err := postgres.CheckDatasetCluster(ctx, steward)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 0 {
		t.Fatalf("a cluster that Trefoil prepared itself: %+v", found)
	}
	c.Exec(t, c.SuperuserDSN("postgres"),
		"CREATE ROLE boss SUPERUSER LOGIN", "CREATE ROLE copyist REPLICATION LOGIN", "CREATE ROLE filer LOGIN",
		"GRANT pg_read_server_files TO filer", "CREATE DATABASE loose", "GRANT CONNECT ON DATABASE loose TO PUBLIC",
		"CREATE FOREIGN DATA WRAPPER out_there", "CREATE SERVER far FOREIGN DATA WRAPPER out_there", "CREATE PUBLICATION offered",
		"CREATE LANGUAGE danger HANDLER plpgsql_call_handler", "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()",
		"CREATE FUNCTION definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "GRANT EXECUTE ON FUNCTION lo_creat(int) TO PUBLIC",
		"UPDATE pg_extension SET extname = 'dblink' WHERE extname = 'plpgsql'")
	if found, err = postgres.CheckDatasetCluster(ctx, steward); err != nil {
		t.Fatal(err)
	}
	codes := map[string]int{}
	for _, f := range found {
		codes[f.Code]++
	}
	for _, code := range []string{"superuser", "role", "public-connect", "foreign", "copy", "language", "function", "public-function", "extension", "setting"} {
		if codes[code] == 0 {
			t.Errorf("not found: %s; found %v", code, codes)
		}
	}
}
