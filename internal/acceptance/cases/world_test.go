package cases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/demo"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

var (
	world *demotest.World
	api   string // URL of gateway.api
)

func TestMain(m *testing.M) {
	os.Exit(demotest.Main(m, func(ctx context.Context, dir string) (func(context.Context) error, error) {
		var err error
		if world, err = demotest.Start(ctx, dir, demo.Options{People: 500, Prepare: prepare}); err != nil {
			return nil, err
		}
		return world.Close, nil
	}))
}

// prepare gives the enclave an API for grants, a ticket system that asks, a second approver whom
// support needs too, and the monitor as an approver.
func prepare(_ context.Context, dir, _ string) error {
	port, err := postgres.FreePort("127.0.0.1")
	if err != nil {
		return err
	}
	api = fmt.Sprintf("https://127.0.0.1:%d", port)
	keys := map[string]string{}
	for name, path := range map[string]string{"dpo": "enclave/keys/dpo", "tickets": "enclave/keys/tickets", "monitor": "monitor/keys/approver", "nobody": "enclave/keys/nobody"} {
		if keys[name], err = monitor.NewKey(monitor.UseApprover, name, filepath.Join(dir, path)); err != nil {
			return err
		}
	}
	approvers := fmt.Sprintf("approvers:\n  - {name: dpo, key: %q, purposes: [support, abuse]}\n  - {name: monitor, key: %q, purposes: [abuse]", keys["dpo"], keys["monitor"])
	return errors.Join(
		demotest.Replace(filepath.Join(dir, "monitor", "rules.yaml"), "\napprovers:\n", "\n"+approvers+"}\n"),
		demotest.Edit(filepath.Join(dir, "enclave", "enclave.yaml"), func(s string) string {
			s = strings.Replace(s, "\ngateway:\n", fmt.Sprintf("\ngateway:\n  api: %q\n  limits: {person_per_second: 1000, refused_per_minute: 100000}\n", strings.TrimPrefix(api, "https://")), 1)
			s = strings.Replace(s, "\napprovers:\n", "\n"+approvers+", monitor: true}\n", 1)
			return strings.TrimRight(s, "\n") + fmt.Sprintf("\ncallers:\n  - {name: tickets, key: %q, principals: [agent, analyst-jp]}\n", keys["tickets"]) +
				"approvals:\n  - {purposes: [support], all_of: [{group: desk, of: [approver.clover.example]}, {group: privacy, of: [dpo]}]}\n"
		}),
	)
}

// key is the file of somebody's signing key.
func key(name string) string { return world.Path("enclave", "keys", name) }

// run runs a command of the enclave's binary to its end.
func run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, world.Binary, args...).CombinedOutput()
	return string(out), err
}

// trefoil is run with the enclave's configuration.
func trefoil(ctx context.Context, args ...string) (string, error) {
	return run(ctx, append(args, "-c", world.Env["CONFIG"])...)
}

// remotely is run at gateway.api: without the enclave's configuration, as from another machine.
func remotely(ctx context.Context, keyFile string, args ...string) (string, error) {
	args = append(args, "--api", api, "--enclave", "log.clover.example/dublin-1", "--authority", world.Path("enclave", "tls", "public-ca.crt"))
	if keyFile != "" {
		args = append(args, "--key", keyFile)
	}
	return run(ctx, args...)
}

func must(t *testing.T, out string, err error) string {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// until asks until the answer is a wanted one; the machine may be busy, so the bound is generous.
func until(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func refusal(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Message
	}
	return ""
}

// opened waits until somebody can open a dataset and returns the session.
func opened(ctx context.Context, t *testing.T, who, dataset string) *pgx.Conn {
	t.Helper()
	var conn *pgx.Conn
	until(t, who+" opens "+dataset, func() (err error) {
		conn, err = pgx.Connect(ctx, world.DSN(who, dataset))
		return err
	})
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) }) // it may have been ended from the other side
	return conn
}

// closed waits until a dataset is refused to somebody by the gateway.
func closed(ctx context.Context, t *testing.T, who, dataset string) {
	t.Helper()
	until(t, who+" is refused "+dataset, func() error {
		conn, err := pgx.Connect(ctx, world.DSN(who, dataset))
		if err == nil {
			_ = conn.Close(ctx)
		}
		if refusal(err) == "" {
			return errors.Join(errors.New("it is open, or nothing answers"), err)
		}
		return nil
	})
}

// ended waits until a session, in which sql was answered, is no more.
func ended(ctx context.Context, t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	until(t, "the session ends", func() error {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil
		}
		return errors.New("it goes on")
	})
}

// reload has the gateway read its configuration again.
func reload(t *testing.T) {
	t.Helper()
	var pid int
	if _, err := fmt.Sscan(world.Env["GATEWAY_PID"], &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}
