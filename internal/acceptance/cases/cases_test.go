package cases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var runs int // a name of a case is used once

// A case is built beside the datasets, acknowledged by the monitor, opened by whom it names and
// nobody else, and taken away with its sessions when it ends.
func TestACaseIsReadThroughTheGatewayByWhomItNames(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	runs++
	name := fmt.Sprintf("ticket_%d", runs)
	list, ids := subjects(ctx, t)
	if out, err := trefoil(ctx, "dataset", "build", "--case", name, "--dataset", "support", "--subjects", list, "--for", "1h", "--principal", "agent"); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	open := opened(ctx, t, "agent", "case_"+name) // once the gateway knows it and the monitor acknowledged it
	var people, others int
	if err := open.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE id <> ALL ($1::bigint[])) FROM app.people", ids).Scan(&people, &others); err != nil || people != 3 || others != 0 {
		t.Errorf("%d people, %d of them others: %v", people, others, err)
	}
	for _, who := range []string{"analyst-ie", "analyst-jp", "analyst-cn"} {
		c, err := pgx.Connect(ctx, world.DSN(who, "case_"+name))
		if err == nil {
			_ = c.Close(ctx)
		}
		if refusal(err) == "" {
			t.Errorf("%s, who is not named: %v", who, err)
		}
	}
	if _, err := pgx.Connect(ctx, world.DSN("analyst-ie", "case_"+name)); !strings.Contains(refusal(err), "not for you") {
		t.Errorf("a colleague in the region: %v", err)
	}
	if out, err := trefoil(ctx, "dataset", "end", "case_"+name); err != nil {
		t.Fatalf("end: %v\n%s", err, out)
	}
	if _, err := open.Exec(ctx, "SELECT count(*) FROM app.people"); err == nil {
		t.Error("a session goes on after the end of its case")
	}
	until(t, "nobody opens it", func() error {
		c, err := pgx.Connect(ctx, world.DSN("agent", "case_"+name))
		if err == nil {
			_ = c.Close(ctx)
		}
		if !strings.Contains(refusal(err), "no dataset") {
			return errors.Join(errors.New("it can be asked for"), err)
		}
		return nil
	})
	if out, err := trefoil(ctx, "dataset", "build", "--case", name, "--dataset", "support", "--subjects", list, "--for", "1h", "--principal", "agent"); err == nil {
		t.Errorf("a name is used twice:\n%s", out)
	}
}

// subjects writes the keys of three people to a file.
func subjects(ctx context.Context, t *testing.T) (list string, ids []string) {
	t.Helper()
	conn, err := pgx.Connect(ctx, world.DSN("agent", "support"))
	if err != nil {
		t.Fatal(err)
	}
	err = conn.QueryRow(ctx, "SELECT array_agg(id::text) FROM (SELECT id FROM app.people ORDER BY id LIMIT 3) p").Scan(&ids)
	if err = errors.Join(err, conn.Close(ctx)); err != nil || len(ids) != 3 {
		t.Fatalf("subjects: %v, %v", ids, err)
	}
	list = filepath.Join(t.TempDir(), "subjects")
	if err := os.WriteFile(list, []byte(strings.Join(ids, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return list, ids
}
