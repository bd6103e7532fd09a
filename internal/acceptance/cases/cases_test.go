package cases

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/demo"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

var world *demotest.World

func TestMain(m *testing.M) {
	os.Exit(demotest.Main(m, func(ctx context.Context, dir string) (func(context.Context) error, error) {
		var err error
		if world, err = demotest.Start(ctx, dir, demo.Options{People: 500}); err != nil {
			return nil, err
		}
		return world.Close, nil
	}))
}

// trefoil runs a command of the enclave's binary to its end.
func trefoil(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, world.Binary, append(args, "-c", world.Env["CONFIG"])...).CombinedOutput()
	return string(out), err
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

// A case is built beside the datasets, acknowledged by the monitor, opened by whom it names and
// nobody else, and taken away with its sessions when it ends.
func TestACaseIsReadThroughTheGatewayByWhomItNames(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, world.DSN("agent", "support"))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	err = conn.QueryRow(ctx, "SELECT array_agg(id::text) FROM (SELECT id FROM app.people ORDER BY id LIMIT 3) p").Scan(&ids)
	if err = errors.Join(err, conn.Close(ctx)); err != nil || len(ids) != 3 {
		t.Fatalf("subjects: %v, %v", ids, err)
	}
	list := filepath.Join(t.TempDir(), "subjects")
	if err := os.WriteFile(list, []byte(strings.Join(ids, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := trefoil(ctx, "dataset", "build", "--case", "ticket", "--dataset", "support", "--subjects", list, "--for", "1h", "--principal", "agent"); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	var open *pgx.Conn
	until(t, "the agent opens it", func() error { // once the gateway knows it and the monitor acknowledged it
		c, err := pgx.Connect(ctx, world.DSN("agent", "case_ticket"))
		open = c
		return err
	})
	defer open.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it is ended from the other side
	var people, others int
	if err := open.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE id <> ALL ($1::bigint[])) FROM app.people", ids).Scan(&people, &others); err != nil || people != 3 || others != 0 {
		t.Errorf("%d people, %d of them others: %v", people, others, err)
	}
	for _, who := range []string{"analyst-ie", "analyst-jp", "analyst-cn"} {
		c, err := pgx.Connect(ctx, world.DSN(who, "case_ticket"))
		if err == nil {
			_ = c.Close(ctx)
		}
		if refusal(err) == "" {
			t.Errorf("%s, who is not named: %v", who, err)
		}
	}
	if _, err := pgx.Connect(ctx, world.DSN("analyst-ie", "case_ticket")); !strings.Contains(refusal(err), "not for you") {
		t.Errorf("a colleague in the region: %v", err)
	}
	if out, err := trefoil(ctx, "dataset", "end", "case_ticket"); err != nil {
		t.Fatalf("end: %v\n%s", err, out)
	}
	if _, err := open.Exec(ctx, "SELECT count(*) FROM app.people"); err == nil {
		t.Error("a session goes on after the end of its case")
	}
	until(t, "nobody opens it", func() error {
		c, err := pgx.Connect(ctx, world.DSN("agent", "case_ticket"))
		if err == nil {
			_ = c.Close(ctx)
		}
		if !strings.Contains(refusal(err), "no dataset") {
			return errors.Join(errors.New("it can be asked for"), err)
		}
		return nil
	})
	if out, err := trefoil(ctx, "dataset", "build", "--case", "ticket", "--dataset", "support", "--subjects", list, "--for", "1h", "--principal", "agent"); err == nil {
		t.Errorf("a name is used twice:\n%s", out)
	}
}
