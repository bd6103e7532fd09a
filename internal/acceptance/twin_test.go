package acceptance

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// twinChanges make the twin differ from the platform in what the analytics dataset
// withholds, in what generalises to the same, in people who are not in it, and in the order of
// rows on disk.
const twinChanges = `
UPDATE app.people SET phone = NULL, handle = 'h' || id, display_name = 'Somebody Else', settings = '{"other": [1, 2]}', plan = 'creator', interests = '{}',
	signup_ip = '10.9.8.7', created_at = '2001-01-01', birth_date = date_trunc('year', birth_date)::date + (id % 300)::int;
UPDATE app.devices SET model = 'other', os = '', push_token = repeat('t', 3000), last_ip = '::1', seen_at = date_trunc('day', seen_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '1 hour';
UPDATE app.videos SET title = '', published_at = date_trunc('day', published_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '2 hours';
UPDATE app.watch_events SET at = date_trunc('hour', at) + (id % 3000) * interval '1 s';
UPDATE app.messages SET body = repeat('other ', id::int % 50) WHERE id < 100000;
UPDATE app.messages SET body = '' WHERE id >= 100000;
UPDATE billing.payments SET iban = '', amount = 0, currency = 'EUR', paid_at = date_trunc('month', paid_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '3 days';
UPDATE app.kinds SET g_tstz = g_tstz + interval '1 s', g_text = left(g_text, 2) || 'other', g_inet = set_masklen(network(set_masklen(g_inet, 24)), 32), g_big = g_big + 1, g_num = g_num + 0.001, g_float = g_float + 0.1,
	g_date = date_trunc('year', g_date)::date, g_ts = date_trunc('day', g_ts),
	n_text = NULL, n_big = 1, n_doc = '[]', w_text = 'w', w_json = NULL, w_xml = NULL, w_words = NULL, w_span = NULL, w_point = NULL, w_bits = NULL, w_bigs = NULL, w_during = NULL,
	w_num = 1, w_money = 1, w_float = 'NaN', w_date = 'infinity', w_tstz = '-infinity', w_uuid = NULL, w_inet = NULL, w_cidr = NULL, w_bytes = '', w_long = 'short', w_toast = NULL,
	p_doc = p_doc || '{"other": null, "n": 0, "more": {"x": 1}}', uncatalogued = repeat('u', 5000);
INSERT INTO app.people (id, handle, display_name, email, birth_date, country, signup_ip, plan, interests, settings, created_at)
SELECT 6600000000000000 + i, 'elsewhere' || i, 'Elsewhere', 'elsewhere' || i, '1950-05-05', 'US', '10.0.0.1', 'free', '{}', '{}', '2020-01-01' FROM generate_series(1, 50) i;
INSERT INTO app.devices SELECT md5('elsewhere' || i)::uuid, 6600000000000000 + i, '', '', '', '10.0.0.1', '2026-01-01' FROM generate_series(1, 50) i;
`

// makeTwin copies the platform's database and changes the copy.
func makeTwin(ctx context.Context, admin string) error {
	run := func(database, sql string) error {
		u, err := url.Parse(admin)
		if err != nil {
			return err
		}
		u.Path = "/" + database
		conn, err := pgx.Connect(ctx, u.String())
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	}
	if err := run("postgres", "CREATE DATABASE twin TEMPLATE platform"); err != nil {
		return err
	}
	return run("twin", twinChanges)
}

// dump is pg_dump of a dataset, as its superuser, without what is random by pg_dump's design
// and with the dataset's own name taken out.
func dump(t *testing.T, name string, more ...string) string {
	t.Helper()
	u, err := url.Parse(shared.env["OUTSIDE_ADMIN_DSN"])
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	programs := "/usr/lib/postgresql/15/bin"
	if p, err := exec.LookPath(filepath.Join(programs, "pg_dump")); err != nil {
		t.Fatalf("pg_dump is not at %s: %v", p, err)
	}
	cmd := exec.CommandContext(bounded(t), filepath.Join(programs, "pg_dump"), append(more, u.String())...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, problems.String())
	}
	var kept []string
	for _, line := range strings.Split(string(out), "\n") {
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) {
			kept = append(kept, strings.ReplaceAll(line, name, "DATASET"))
		}
	}
	return strings.Join(kept, "\n")
}

// difference shows the first line that differs.
func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d: %.120q and %.120q", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// questions are asked of both: results, order on disk, sizes, catalogs, errors.
var questions = []string{
	"SELECT * FROM app.people", "SELECT ctid, * FROM app.people", "SELECT ctid, * FROM app.devices", "SELECT ctid, id, at FROM app.watch_events LIMIT 5000", "SELECT ctid, * FROM app.kinds",
	"SELECT ctid, * FROM app.messages", "SELECT ctid, * FROM app.videos", "SELECT ctid, * FROM billing.payments", "SELECT country, count(*), min(birth_date) FROM app.people GROUP BY 1 ORDER BY 1",
	"SELECT relname, relpages, reltuples, relnatts, relkind FROM pg_class WHERE relnamespace::regnamespace::text IN ('app', 'billing') AND relkind <> 't' ORDER BY 1",
	"SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace::regnamespace::text IN ('app', 'billing') AND relkind IN ('r', 'i') ORDER BY 1", // the other forks are autovacuum's, at its time
	"SELECT tablename, attname, null_frac, avg_width FROM pg_stats WHERE schemaname = 'app' AND tablename IN ('people', 'kinds') ORDER BY 1, 2",
	"SELECT attrelid::regclass, attname, attnum, atttypid::regtype, attnotnull, atthasdef, attstorage FROM pg_attribute WHERE attrelid IN ('app.people'::regclass, 'app.kinds'::regclass) ORDER BY 1, 3",
	"SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace::regnamespace::text IN ('app', 'billing') ORDER BY conrelid::regclass::text, conname",
	"SELECT indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid::regclass::text LIKE 'app.%' ORDER BY indexrelid::regclass::text",
	"SELECT handle FROM app.people", "SELECT w_text FROM app.kinds", "SELECT no_such FROM app.kinds", "SELECT * FROM app.nothing", "SELECT n_text::int, n_big / 0 FROM app.kinds", "SELECT 1 / (g_big - g_big) FROM app.kinds",
	"SELECT p_text::int FROM app.kinds", "SELECT email::uuid FROM app.people", "SELECT g_text::inet FROM app.kinds ORDER BY id", "INSERT INTO app.kinds (id) VALUES (1)", "UPDATE app.people SET email = email",
	"COPY app.kinds TO STDOUT", "COPY app.people TO STDOUT (FORMAT binary)", "SELECT * FROM app.people p JOIN app.kinds k ON k.person_id = p.id ORDER BY p.id", "SELECT md5(string_agg(w::text, '' ORDER BY id, at)) FROM app.watch_events w",
	"SELECT table_name, column_name, form FROM trefoil_info.columns ORDER BY 1, 2",
}

// withoutTableNumbers zeroes the table's object id in row descriptions: the cluster counts
// them on, whoever makes a table.
func withoutTableNumbers(b []byte) []byte {
	b = bytes.Clone(b)
	for m := b; len(m) >= 5; {
		n := 1 + int(binary.BigEndian.Uint32(m[1:]))
		if m[0] == wire.RowDescription {
			for f := m[7:n]; len(f) > 0; f = f[18:] {
				f = f[bytes.IndexByte(f, 0)+1:]
				clear(f[:4])
			}
		}
		m = m[n:]
	}
	return b
}

// TestWithheldValuesChangeNothingAnyoneCanObserve: the twin's dataset is that of the
// platform, to the byte, on disk order and in every answer.
func TestWithheldValuesChangeNothingAnyoneCanObserve(t *testing.T) {
	a, b := dump(t, "analytics", "-N", "trefoil_info"), dump(t, "twinset", "-N", "trefoil_info")
	if len(a) < 1<<20 {
		t.Fatalf("a dump of %d bytes compares nothing", len(a))
	}
	if a != b {
		t.Errorf("the dumps differ: %s", difference(a, b))
	}
	asked := func(dataset string) [][]byte {
		r, f := record(t, shared.dsn("hostile-cn", dataset))
		defer r.Close()
		var out [][]byte
		for _, sql := range questions {
			from := r.buf.Len()
			if err := f.simple(sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			out = append(out, withoutTableNumbers(r.buf.Bytes()[from:]))
		}
		return out
	}
	one, other := asked("analytics"), asked("twinset")
	for i, sql := range questions {
		if !bytes.Equal(one[i], other[i]) {
			t.Errorf("%s: the answers differ: %s", sql, difference(string(one[i]), string(other[i])))
		}
	}
	failed := slices.IndexFunc(one, func(b []byte) bool { return len(b) == 0 })
	if failed >= 0 {
		t.Errorf("%s: nothing was answered", questions[failed])
	}
	// The comparison must see what is held.
	u, _ := url.Parse(shared.env["ADMIN_DSN"])
	u.Path = "/twin"
	admin(t, u.String(), "UPDATE app.kinds SET p_text = 'changed' WHERE person_id = 3")
	shared.must(t, "dataset", "rebuild", "twinset")
	if c := dump(t, "twinset", "-N", "trefoil_info"); c == a {
		t.Error("the comparison does not see a held value that changed")
	}
}
