package dataset

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// followEnv names the folder of a child process that only follows, to be killed.
const followEnv = "TREFOIL_TEST_FOLLOW"

// childConfig is what a child needs to make the fixture's builder.
type childConfig struct{ Name, Catalog, Datasets, Source, Steward string }

func followAsChild(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "child.json"))
	var c childConfig
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cat, _, err1 := catalog.ParseCatalog("catalog.yaml", []byte(c.Catalog))
	ds, _, err2 := catalog.ParseDatasets("datasets.yaml", []byte(c.Datasets))
	if err1 != nil || err2 != nil {
		fmt.Fprintln(os.Stderr, err1, err2)
		return 1
	}
	b, err := Open(Config{Catalogs: []*catalog.Catalog{cat}, Datasets: ds, Sources: map[string]string{"app": c.Source},
		Purposes: &catalog.Purposes{Version: 1, Purposes: []catalog.Purpose{{Name: "research", Basis: "GDPR art. 6(1)(f)", Epoch: 1}}},
		Clusters: map[string]string{"inside": c.Steward, "outside": c.Steward}, Exporter: "IE",
		PseudonymKey: filepath.Join(dir, "pseudonyms.key"), DigestKey: filepath.Join(dir, "digests.key"), SubjectDir: dir, SpillDir: dir})
	if err == nil {
		err = b.Follow(context.Background(), c.Name)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// child starts a process that follows.
func (f *fixture) child(cat, datasets string) *exec.Cmd {
	f.t.Helper()
	steward := f.b.cfg.Clusters["inside"]
	text, err := json.Marshal(childConfig{f.name, cat, strings.ReplaceAll(datasets, "NAME", f.name), f.dsn, steward})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, "child.json"), text, 0o600); err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), followEnv+"="+f.dir)
	cmd.Stderr = testWriter{f.t}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	return cmd
}

// act is one random statement; those that the source refuses change nothing.
func act(r *rand.Rand) string {
	id := func(n int) int { return 1 + r.IntN(n) }
	country := []string{"IE", "FR", "US", "XX"}[r.IntN(4)]
	or := func(n int) string {
		if r.IntN(4) == 0 {
			return "NULL"
		}
		return fmt.Sprint(id(n))
	}
	switch r.IntN(16) {
	case 0, 1:
		return fmt.Sprintf("INSERT INTO app.person VALUES (%d, '%s', NULL, NULL, 'p%d', %s)", id(60), country, id(9), or(60))
	case 2:
		return fmt.Sprintf("UPDATE app.person SET country = '%s', was = 'IE', moved = current_date - %d WHERE id = %d", country, 600+r.IntN(300), id(60))
	case 3:
		return fmt.Sprintf("UPDATE app.person SET favourite = %s, plan = 'q' WHERE id = %d", or(60), id(60))
	case 4:
		return fmt.Sprintf("DELETE FROM app.person WHERE id = %d", id(60))
	case 5, 6:
		return fmt.Sprintf("INSERT INTO app.account VALUES (%d, %d, %d)", id(4), id(20), id(60))
	case 7:
		return fmt.Sprintf("UPDATE app.account SET owner = %d WHERE tenant = %d AND no = %d", id(60), id(4), id(20))
	case 8:
		return fmt.Sprintf("DELETE FROM app.account WHERE tenant = %d AND no = %d", id(4), id(20))
	case 9, 10:
		return fmt.Sprintf("INSERT INTO app.entry VALUES (%d, %d, %d, %s, %s)", 100+id(400), id(4), id(20), or(60), or(400))
	case 11:
		return fmt.Sprintf("UPDATE app.entry SET parent = (SELECT id FROM app.entry ORDER BY random() LIMIT 1), other = %s WHERE id = %d", or(60), 100+id(400))
	case 12:
		return fmt.Sprintf("UPDATE app.entry SET id = %d WHERE id = %d", 100+id(400), 100+id(400))
	case 13:
		return fmt.Sprintf("DELETE FROM app.entry WHERE id IN (%d, %d, %d)", 100+id(400), 100+id(400), 100+id(400))
	case 14:
		return fmt.Sprintf("INSERT INTO app.video VALUES (%d, %d)", id(60), id(60))
	}
	return fmt.Sprintf("UPDATE app.video SET maker = %d WHERE id = %d", id(60), id(60))
}

// work runs random transactions, with savepoints and rollbacks.
func act20(t *testing.T, conn *pgx.Conn, r *rand.Rand) int {
	t.Helper()
	ctx := testContext(t)
	done := 0
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 1 + r.IntN(20) {
		sub, err := tx.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sub.Exec(ctx, act(r)); err != nil || r.IntN(10) == 0 {
			if err := sub.Rollback(ctx); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := sub.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		done++
	}
	if r.IntN(10) == 0 {
		err = tx.Rollback(ctx)
	} else {
		err = tx.Commit(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// Kills at any instant, of the flow and of its sessions at both ends, neither lose nor
// repeat anything.
func TestKillingTheFlowLosesNothing(t *testing.T) {
	t.Parallel()
	datasets := webDataset("residence: [EEA]", "person: id plan favourite", "account: tenant no owner", "entry: id tenant no other parent", "video: id maker")
	cat := webCatalog
	f, conn := flowing(t, web, cat, datasets)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	done, built := 0, ""
	for round := range 2 {
		cmd := f.child(cat, datasets)
		if round == 0 {
			f.caughtUp(conn)
			built = f.builtAt()
		}
		before := f.batches()
		end := time.Now().Add(time.Duration(200+r.IntN(1000)) * time.Millisecond)
		for n := 0; n%20 != 0 || time.Now().Before(end) || f.batches() < before+2; n++ {
			done += act20(t, conn, r)
			if r.IntN(200) == 0 {
				f.cut(r.IntN(2) == 0)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed, as it should be
		for range 5 {
			done += act20(t, conn, r)
		}
	}
	f.follow()
	f.caughtUp(conn)
	v, err := f.b.Verify(testContext(t), f.name)
	if err != nil || !v.Equal {
		t.Fatalf("after %d changes: %+v, %v", done, v, err)
	}
	s, err := f.b.Flow(testContext(t), f.name)
	if err != nil || s == nil {
		t.Fatal(err)
	}
	t.Logf("%d changes, %d rows looked at in %d batches, %d orphans", done, s.Rows, s.Batches, s.Orphans)
	if n := f.one("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated"); n == "0" {
		t.Error("no foreign key stands")
	}
	if f.builtAt() != built {
		t.Error("it was built again, not followed")
	}
}

func (f *fixture) batches() int64 {
	f.t.Helper()
	s, err := f.b.Flow(testContext(f.t), f.name)
	if err != nil || s == nil || s.State != following {
		f.t.Fatalf("it does not follow: %+v, %v", s, err)
	}
	return s.Batches
}

// cut ends the flow's sessions at the source, or at the dataset.
func (f *fixture) cut(source bool) {
	f.t.Helper()
	c, dsn, who := f.target, f.target.SuperuserDSN("postgres"), "application_name = '"+clip("trefoil build "+f.name)+"'"
	if source {
		c, dsn, who = f.source, f.dsn, "application_name = 'trefoil flow' AND datname = current_database()"
	}
	c.Exec(f.t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "+who)
}

// Tables that only lead to the person, composite keys, circles, partitions, references that
// are cut: whatever the definition holds, following gives what building gives.
func TestFollowingGivesWhatBuildingGives(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rows string
		tables     []string
	}{
		{"the way is not held", "residence: [EEA]", []string{"entry: id tenant no", "video: id maker"}},
		{"a condition", "residence: [EEA], condition: 'person.plan == \"q\"'", []string{"person: id plan favourite", "video: id maker", "entry: id tenant no other parent"}},
		{"partitions", "residence: [EEA]", []string{"person: id", "event: at person n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, conn := flowing(t, web+"DROP TABLE app.event; CREATE TABLE app.event (at date NOT NULL, person int NOT NULL, n int, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);"+
				`CREATE TABLE app."Event 24" PARTITION OF app.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); CREATE TABLE app.event_rest PARTITION OF app.event DEFAULT;`+
				"INSERT INTO app.event SELECT date '2023-12-01' + i, 1 + i % 5, i FROM generate_series(1, 400) i;", webCatalog, webDataset(c.rows, c.tables...))
			sourceDo(t, conn, "ALTER PUBLICATION trefoil SET (publish_via_partition_root = true)")
			f.follow()
			f.caughtUp(conn)
			seed := uint64(time.Now().UnixNano())
			r := rand.New(rand.NewPCG(seed, 1))
			for range 4 {
				for range 15 {
					act20(t, conn, r)
					sourceDo(t, conn, fmt.Sprintf("UPDATE app.event SET at = at + %d, person = %d WHERE n %% 37 = %d", r.IntN(900)-450, 1+r.IntN(60), r.IntN(37)))
				}
				f.caughtUp(conn)
				if v, err := f.b.Verify(testContext(t), f.name); err != nil || !v.Equal {
					t.Fatalf("seed %d: %+v, %v", seed, v, err)
				}
			}
		})
	}
}
