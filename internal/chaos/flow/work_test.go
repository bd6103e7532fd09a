package flow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// work is what applications and administrators do at the source, at random.
type work struct {
	w      *world
	cancel context.CancelFunc
	wait   sync.WaitGroup

	done, refused, transactions, prepared, ddl atomic.Int64
	mu                                         sync.Mutex
	strange                                    map[string]int64 // SQLSTATEs that the source refused with
}

// workers is how many sessions change rows at a time.
const workers = 4

// begin starts the sessions. Each draws its statements from the seed and its number.
func (w *world) work(seed uint64, ddlEvery time.Duration) *work {
	ctx, cancel := context.WithCancel(context.Background())
	k := &work{w: w, cancel: cancel, strange: map[string]int64{}}
	for i := range workers {
		k.wait.Go(func() { k.sessions(ctx, rand.New(rand.NewPCG(seed, uint64(i))), k.transaction, 0) })
	}
	k.wait.Go(func() { k.sessions(ctx, rand.New(rand.NewPCG(seed, 100)), k.change, ddlEvery) })
	return k
}

// end stops the sessions, and settles transactions that were prepared.
func (k *work) end(ctx context.Context) error {
	k.cancel()
	k.wait.Wait()
	conn, err := pgx.Connect(ctx, k.w.admin())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT gid FROM pg_prepared_xacts")
	if err != nil {
		return err
	}
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for i, gid := range gids {
		_, e := conn.Exec(ctx, []string{"COMMIT", "ROLLBACK"}[i%2]+" PREPARED '"+gid+"'")
		err = errors.Join(err, e)
	}
	return err
}

// mend takes back what a kill left half done: a column that is renamed for a while, and the like.
func (k *work) mend(ctx context.Context, conn *pgx.Conn) {
	for _, sql := range []string{"ALTER TABLE app.person RENAME slogan TO motto", "ALTER TABLE app.click ALTER page TYPE text", "ALTER TABLE app.click REPLICA IDENTITY DEFAULT"} {
		_, _ = conn.Exec(ctx, sql) // where there is nothing to mend the source refuses
	}
}

// sessions opens a session again and again, as the source is killed under it.
func (k *work) sessions(ctx context.Context, r *rand.Rand, do func(context.Context, *pgx.Conn, *rand.Rand) error, every time.Duration) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, k.w.admin())
		if err == nil {
			_, err = conn.Exec(ctx, "SET lock_timeout = '2s'; SET client_min_messages = error")
			for err == nil && ctx.Err() == nil {
				if err = do(ctx, conn, r); errors.As(err, new(*pgconn.PgError)) && !conn.IsClosed() {
					k.refuse(err)
					_, err = conn.Exec(ctx, "ROLLBACK")
				}
				if every > 0 {
					rest(ctx, every)
				}
			}
			closing, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = conn.Close(closing) // the source may be gone
			cancel()
		}
		rest(ctx, 20*time.Millisecond)
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (k *work) refuse(err error) {
	k.refused.Add(1)
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		k.mu.Lock()
		k.strange[pg.Code]++
		k.mu.Unlock()
	}
}

// transaction runs one transaction: statements in savepoints that nest, some of them undone; it
// ends in a commit, a rollback, or in two phases.
func (k *work) transaction(ctx context.Context, conn *pgx.Conn, r *rand.Rand) error {
	if sql := settle(ctx, conn, r); sql != "" {
		_, err := conn.Exec(ctx, sql) // another session may have been faster
		return err
	}
	async := ""
	if r.IntN(5) == 0 {
		async = "; SET LOCAL synchronous_commit = off"
	}
	if _, err := conn.Exec(ctx, "BEGIN"+async); err != nil {
		return err
	}
	open := 0
	for range 1 + r.IntN(8) {
		for r.IntN(4) == 0 && open < 5 {
			if _, err := conn.Exec(ctx, "SAVEPOINT s"); err != nil {
				return err
			}
			open++
		}
		if _, err := conn.Exec(ctx, "SAVEPOINT one"); err != nil {
			return err
		}
		undo := "RELEASE one"
		if _, err := conn.Exec(ctx, act(r)); err != nil {
			if conn.IsClosed() {
				return err
			}
			k.refuse(err)
			undo = "ROLLBACK TO one"
		} else {
			k.done.Add(1)
		}
		if _, err := conn.Exec(ctx, undo); err != nil {
			return err
		}
		for open > 0 && r.IntN(4) == 0 {
			if _, err := conn.Exec(ctx, []string{"RELEASE s", "ROLLBACK TO s; RELEASE s"}[r.IntN(2)]); err != nil {
				return err
			}
			open--
		}
	}
	k.transactions.Add(1)
	end := "COMMIT"
	switch n := r.IntN(20); {
	case n < 2:
		end = "ROLLBACK"
	case n == 2:
		end = fmt.Sprintf("PREPARE TRANSACTION 'chaos-%d'", r.Int64())
		k.prepared.Add(1)
	}
	_, err := conn.Exec(ctx, end)
	return err
}

// settle ends a prepared transaction that waits, sometimes: while it does, its locks block others.
func settle(ctx context.Context, conn *pgx.Conn, r *rand.Rand) string {
	if r.IntN(3) > 0 {
		return ""
	}
	var gid string
	if err := conn.QueryRow(ctx, "SELECT gid FROM pg_prepared_xacts ORDER BY prepared LIMIT 1").Scan(&gid); err != nil {
		return ""
	}
	return []string{"COMMIT", "ROLLBACK"}[r.IntN(2)] + " PREPARED '" + gid + "'"
}

const large = "(SELECT string_agg(md5(g::text || %d), '') || 'kanari' FROM generate_series(1, 2500) g)"

// act is one random statement. Those that the source refuses change nothing.
func act(r *rand.Rand) string {
	f := fmt.Sprintf
	person := func() int64 { return firstPerson + int64(1+r.IntN(280)) }
	maybe := func() string {
		if r.IntN(4) == 0 {
			return "NULL"
		}
		return f("%d", person())
	}
	country := []string{"IE", "FR", "GB", "US", "CN", "NO"}[r.IntN(6)]
	time := []string{"now()", "'infinity'", "'-infinity'", "'0044-03-15 12:00:00+00 BC'", "'1912-06-23 01:02:03.000004+00'", "'1969-12-31 23:59:59.999999+00'", "'294276-01-01'", "NULL"}[r.IntN(8)]
	account := f("\"Tenant\" = %d AND \"No\" = %d", 1+r.IntN(5), 1+r.IntN(60))
	entry, event, message, click := 1+r.IntN(900), 1+r.IntN(1500), 1+r.IntN(600), 1+r.IntN(700)
	at := f("timestamptz '2018-05-01' + %d * interval '13 hours'", r.IntN(6000))
	id := f("'6b616e61-7269-4000-9000-%012x'", message)
	switch r.IntN(40) {
	case 0, 1, 2:
		p := person()
		return f("INSERT INTO app.person (id, email, device, raw, bio, doc, tags, country, plan, born, points, score, motto, friend) VALUES (%d, 'kanari.%d@Ünïcode.example', '6b616e61-7269-4000-8000-%012x', 'kanari', 'kanari', "+
			"'{\"mail\": \"kanari\", \"lang\": \"nö\", \"n\": 1e400}', '{kanari,\"a,\\\\b\",NULL}', '%s', 'free', %s, %d, '%s', E'\\t\\\\ \"kanari\" \\n', %s) ON CONFLICT DO NOTHING",
			p, p-firstPerson, p-firstPerson, country, time, r.IntN(100), []string{"NaN", "-Infinity", "1e-300", "0"}[r.IntN(4)], maybe())
	case 3:
		return f("UPDATE app.person SET country = '%s' WHERE id = %d", country, person())
	case 4:
		return f("UPDATE app.person SET country_before = 'IE', country = '%s', moved = now() - %d * interval '1 month' WHERE id = %d", []string{"US", "CN"}[r.IntN(2)], r.IntN(48), person())
	case 5:
		return f("UPDATE app.person SET id = %d WHERE id = %d", person(), person())
	case 6:
		if r.IntN(2) == 0 {
			return f("UPDATE app.person SET country = 'IE', country_before = NULL WHERE id = %d", person())
		}
		return f("DELETE FROM app.person WHERE id = %d", person())
	case 7:
		return f("UPDATE app.person SET bio = "+large+", doc = jsonb_build_object('lang', 'x', 'big', "+large+") WHERE id = %d", r.IntN(99), r.IntN(99), person())
	case 8:
		if r.IntN(3) == 0 { // values that do not fit their form
			return f(`UPDATE app.person SET tags = '{{kanari,b},{c,NULL}}', doc = '%s', raw = '', score = 'NaN' WHERE id = %d`,
				[]string{`"kanari"`, "null", `[1, "kanari"]`, `{"lang": {"kanari": 1}, "n": "kanari"}`, "{}"}[r.IntN(5)], person())
		}
		return f("UPDATE app.person SET plan = '%s', points = %d, tags = tags || 'kanari-more'::text WHERE id = %d", []string{"free", "plus", "pro"}[r.IntN(3)], r.IntN(100), person())
	case 9:
		return f("UPDATE app.person SET email = 'kanari.%d@other.example', born = %s, friend = %s WHERE id = %d", r.IntN(400), time, maybe(), person())
	case 10:
		p := person()
		return f("UPDATE app.person SET id = %d, motto = 'moved', plan = 'pro' WHERE id = %d", p+1000, p) // unchanged large values under a new key
	case 11, 12:
		return f("INSERT INTO app.profile VALUES (%d, %d, 'kanari-%d') ON CONFLICT (person) DO UPDATE SET visits = profile.visits + 1", person(), r.IntN(9), r.IntN(99))
	case 13, 14:
		return f(`INSERT INTO "Billing"."Account" VALUES (%d, %d, %d, 'kanari-iban') ON CONFLICT DO NOTHING`, 1+r.IntN(5), 1+r.IntN(60), person())
	case 15:
		return f(`UPDATE "Billing"."Account" SET "No" = %d WHERE %s`, 1+r.IntN(60), account) // cascades to entries
	case 16:
		return f(`UPDATE "Billing"."Account" SET owner = %d WHERE %s`, person(), account)
	case 17:
		return `DELETE FROM "Billing"."Account" WHERE ` + account
	case 18, 19, 20:
		return f(`INSERT INTO "Billing"."Entry" (id, "Tenant", "No", parent, amount, at) SELECT %d, "Tenant", "No", (SELECT id FROM "Billing"."Entry" WHERE id < %d ORDER BY id DESC LIMIT 1), %d.25, %s FROM "Billing"."Account" WHERE %s ON CONFLICT DO NOTHING`,
			entry, entry, r.IntN(1e6), time, account)
	case 21:
		return f(`UPDATE "Billing"."Entry" SET id = %d, amount = -1 WHERE id = %d`, 1+r.IntN(900), entry)
	case 22:
		return f(`UPDATE "Billing"."Entry" SET parent = %d WHERE id = %d`, 1+r.IntN(900), entry)
	case 23:
		return f(`DELETE FROM "Billing"."Entry" WHERE id = %d`, entry)
	case 24, 25, 26:
		return f("INSERT INTO app.event SELECT %d, %s, %d, %d, %d WHERE NOT EXISTS (SELECT FROM app.event WHERE id = %d)", 3000+r.IntN(1<<40), at, person(), 1+r.IntN(14), r.IntN(99), event)
	case 27:
		return f("UPDATE app.event SET at = %s, n = n + 1 WHERE id = %d", at, event)
	case 28:
		return f("DELETE FROM app.event WHERE person = %d AND n %% 3 = 0", person())
	case 29, 30:
		return f("INSERT INTO app.message VALUES (%s, %d, %s, 'kanari-body', %s) ON CONFLICT (id) DO UPDATE SET body = 'kanari-again', recipient = EXCLUDED.recipient", id, person(), maybe(), time)
	case 31:
		return f("UPDATE app.message SET sender = %d WHERE id = %s", person(), id)
	case 32, 33:
		return f("INSERT INTO app.click VALUES (%d, %d, 'page') ON CONFLICT (id) DO UPDATE SET person = EXCLUDED.person", click, firstPerson+int64(1+r.IntN(400)))
	case 34:
		return f("DELETE FROM app.click WHERE id BETWEEN %d AND %d", click, click+r.IntN(20))
	case 35:
		return f("SELECT pg_logical_emit_message(%t, 'kanari', repeat('kanari ', %d))", r.IntN(2) == 0, r.IntN(1000))
	case 36:
		return f("UPDATE ref.topic SET label = 'topic %d' WHERE id = %d", r.IntN(99), 1+r.IntN(12))
	case 37:
		if r.IntN(150) > 0 {
			return "UPDATE app.draft SET note = 'kanari'"
		}
		return []string{"TRUNCATE app.click", "TRUNCATE app.message", `TRUNCATE "Billing"."Entry"`, `TRUNCATE "Billing"."Account" CASCADE`, "TRUNCATE app.event"}[r.IntN(5)]
	case 38:
		if r.IntN(10) > 0 {
			return "INSERT INTO ref.topic SELECT max(id) + 1, 'more' FROM ref.topic HAVING max(id) < 500"
		}
		n := 2000 + r.IntN(6000) // a large transaction, which may be undone
		return f("INSERT INTO app.click SELECT i, %d + i %% 300, 'many' FROM generate_series(10000, %d) i ON CONFLICT (id) DO UPDATE SET page = 'more'", firstPerson, 10000+n)
	}
	return f("DELETE FROM app.click WHERE id >= %d", 10000+r.IntN(4000))
}

// change is one random change of the schema, or of how tables are kept.
func (k *work) change(ctx context.Context, conn *pgx.Conn, r *rand.Rand) error {
	name := strings.Split("app.person app.profile app.click app.message", " ")[r.IntN(4)]
	n := r.IntN(1000)
	list := [][]string{
		{fmt.Sprintf("ALTER TABLE %s ADD COLUMN extra_%d text DEFAULT 'kanari-new'", name, n), fmt.Sprintf("UPDATE %s SET extra_%d = 'kanari-newer'", name, n)},
		{"DO $$ DECLARE c record; BEGIN FOR c IN SELECT attrelid::regclass AS t, attname FROM pg_attribute WHERE attname LIKE 'extra_%' AND NOT attisdropped AND attrelid IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p')) LIMIT 1 LOOP EXECUTE format('ALTER TABLE %s DROP COLUMN %I', c.t, c.attname); END LOOP; END $$"},
		{"DO $$ DECLARE c record; BEGIN FOR c IN SELECT attrelid::regclass AS t, attname FROM pg_attribute WHERE attname LIKE 'extra_%' AND NOT attisdropped AND attrelid IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p')) LIMIT 1 LOOP EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO extra_r%s', c.t, c.attname, floor(random() * 1000000)); END LOOP; END $$"},
		{"ALTER TABLE app.person RENAME motto TO slogan", "SELECT pg_sleep(0.3)", "ALTER TABLE app.person RENAME slogan TO motto"},
		{fmt.Sprintf("ALTER TYPE app.plan ADD VALUE IF NOT EXISTS 'plan-%d'", n), fmt.Sprintf("UPDATE app.person SET plan = 'plan-%d' WHERE id %% 50 = 1", n)},
		{fmt.Sprintf("CREATE TABLE app.new_%d (id bigint PRIMARY KEY, person bigint REFERENCES app.person ON DELETE CASCADE, secret text); INSERT INTO app.new_%d SELECT id, id, 'kanari-secret' FROM app.person", n, n)},
		{"DO $$ DECLARE c record; BEGIN FOR c IN SELECT oid::regclass AS t FROM pg_class WHERE relname LIKE 'new_%' AND relkind = 'r' LIMIT 1 LOOP EXECUTE format('DROP TABLE %s', c.t); END LOOP; END $$"},
		{"CREATE INDEX CONCURRENTLY IF NOT EXISTS click_page ON app.click (page, id)", "DROP INDEX CONCURRENTLY app.click_page"},
		{"ALTER TABLE app.person ALTER email SET STATISTICS 500", "ANALYZE app.person", "ALTER TABLE app.click SET (fillfactor = 70)"},
		{"ALTER TABLE app.event DETACH PARTITION app.event_20", "ALTER TABLE app.event ATTACH PARTITION app.event_20 FOR VALUES FROM ('2020-01-01') TO ('2025-01-01')"},
		{"ALTER TABLE app.event ATTACH PARTITION app.event_20 FOR VALUES FROM ('2020-01-01') TO ('2025-01-01')"}, // after a kill between the two
		{fmt.Sprintf("CREATE TABLE IF NOT EXISTS app.event_far PARTITION OF app.event FOR VALUES FROM ('%d-01-01') TO ('%d-01-01')", 2090, 2100), "DROP TABLE IF EXISTS app.event_far"},
		{"ALTER TABLE app.click ALTER page TYPE varchar(300)", "ALTER TABLE app.click ALTER page TYPE text"},
		{"ALTER TABLE app.click REPLICA IDENTITY FULL", "UPDATE app.click SET page = 'full' WHERE id % 9 = 0", "ALTER TABLE app.click REPLICA IDENTITY DEFAULT"},
		{"VACUUM (FREEZE) app.person", "VACUUM FULL app.click", "REINDEX TABLE app.message"},
		{"ALTER TABLE app.profile ALTER visits DROP NOT NULL", "ALTER TABLE app.profile ALTER visits SET NOT NULL"},
		{"CREATE OR REPLACE VIEW app.open AS SELECT id, email FROM app.person", "COMMENT ON TABLE app.person IS 'kanari'", "CHECKPOINT"},
	}
	for _, sql := range list[r.IntN(len(list))] {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	k.ddl.Add(1)
	return nil
}
