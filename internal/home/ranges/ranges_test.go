package ranges

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const awkward = `CREATE TABLE t (id int, part text, a text, b bool, c char(4), n numeric, y bytea, s timestamptz, j jsonb, l text[], x point);
	INSERT INTO t SELECT i, 'p' || i % 3, (ARRAY['', ' ', 'a,b', 'q"q', 'back\slash', '(x)', E'tab\there', E'new\nline', 'ünï', NULL, '\N', 'plain'])[1 + i % 12],
		i % 2 = 0, 'ab', i / 7.0, decode('00ff5c', 'hex'), timestamptz '2024-02-29 12:00+02' + i * interval '1 hour', '{"a": [1, "x"]}', ARRAY['a', NULL, 'b c'], '(1,2)'
	FROM generate_series(1, 500) i;`

func side(t *testing.T, sql string) (*Side, *Table, func(sql string)) {
	t.Helper()
	return sideOn(t, pgtest.Start(t), sql)
}

func sideOn(t *testing.T, c *pgtest.Cluster, sql string) (*Side, *Table, func(sql string)) {
	t.Helper()
	dsn := c.Database(t)
	conn := c.Connect(t, dsn)
	do := func(sql string) {
		if _, err := conn.PgConn().Exec(ctx(t), sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	do("SET TimeZone = 'UTC'; " + sql)
	k, err := Draw()
	if err != nil {
		t.Fatal(err)
	}
	return &Side{Conn: conn, Key: k}, &Table{Name: "t", From: "t", Columns: []string{"id", "part", "a", "b", "c", "n", "y", "s", "j", "l", "x"}, Key: []int{0, 1}}, do
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return c
}

// here reads a whole table through Rows and digests it in this process.
func here(t *testing.T, s *Side, tb *Table) (*Digest, map[uint64]bool) {
	t.Helper()
	all := make([]int, Count)
	for i := range all {
		all[i] = i
	}
	h, d, keys := s.Key.Hasher(tb), &Digest{}, map[uint64]bool{}
	if err := s.Rows(ctx(t), tb, all, func(r Row) error {
		x := h.Hash(r.Fields)
		d.Add(x)
		keys[x.Key] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return d, keys
}

func TestServerAndProcessDigestAlike(t *testing.T) { pgtest.Each(t, digestAlike) }

func digestAlike(t *testing.T, c *pgtest.Cluster) {
	s, tb, _ := sideOn(t, c, awkward)
	for _, key := range [][]int{{0, 1}, {2}, nil} {
		tb.Key = key
		there, err := s.Digest(ctx(t), tb)
		if err != nil {
			t.Fatal(err)
		}
		d, keys := here(t, s, tb)
		if diff := Differ(there, d); len(diff) > 0 || there.Rows() != 500 {
			t.Errorf("key %v: %d ranges differ, of %d rows", key, len(diff), there.Rows())
		}
		n := 0
		if err := s.Keys(ctx(t), tb, "t.b", func(k uint64) {
			n++
			if !keys[k] {
				t.Errorf("key %v: the server and we hash keys otherwise", key)
			}
		}); err != nil || n != 250 {
			t.Errorf("key %v: %d keys, %v", key, n, err)
		}
	}
}

func TestEveryDifferenceShows(t *testing.T) {
	s, tb, do := side(t, awkward)
	before, err := s.Digest(ctx(t), tb)
	if err != nil {
		t.Fatal(err)
	}
	for name, sql := range map[string]string{
		"a value":                   "UPDATE t SET n = n + 1 WHERE id = 7",
		"empty for NULL":            "UPDATE t SET a = '' WHERE id = 9",
		"the text of NULL for NULL": `UPDATE t SET a = '\N' WHERE id = 9`,
		"values exchanged":          "UPDATE t SET n = CASE id WHEN 7 THEN 8 / 7.0 ELSE 1 END WHERE id IN (7, 8)",
		"values between columns":    "UPDATE t SET part = a, a = part WHERE id = 12",
		"keys exchanged":            "UPDATE t SET id = 15 - id WHERE id IN (7, 8)",
		"a row twice":               "INSERT INTO t SELECT * FROM t WHERE id = 7",
		"a row less":                "DELETE FROM t WHERE id = 7",
		"a comma moved":             "UPDATE t SET part = 'p0,a', a = 'b' WHERE id = 3",
	} {
		do("BEGIN; " + sql)
		after, err := s.Digest(ctx(t), tb)
		if err != nil {
			t.Fatal(err)
		}
		if len(Differ(before, after)) == 0 {
			t.Errorf("%s: the digests are the same", name)
		}
		do("ROLLBACK")
	}
	again, err := s.Digest(ctx(t), tb)
	if err != nil || len(Differ(before, again)) > 0 {
		t.Errorf("the same rows have other digests: %v", err)
	}
	do("CREATE TABLE u AS SELECT * FROM t ORDER BY random(); DROP TABLE t; ALTER TABLE u RENAME TO t")
	if again, err := s.Digest(ctx(t), tb); err != nil || len(Differ(before, again)) > 0 {
		t.Errorf("another order has other digests: %v", err)
	}
}

// Who knows an old key can prepare rows whose hashes cancel out under it, and no other.
func TestDigestsOfTwoRunsHaveNothingInCommon(t *testing.T) {
	s, tb, _ := side(t, awkward)
	first, err := s.Digest(ctx(t), tb)
	if err != nil {
		t.Fatal(err)
	}
	if s.Key, err = Draw(); err != nil {
		t.Fatal(err)
	}
	second, err := s.Digest(ctx(t), tb)
	if err != nil {
		t.Fatal(err)
	}
	for i := range first {
		if first[i].N > 0 && first[i] == second[i] {
			t.Errorf("range %d has one digest under two keys", i)
		}
	}
	other := *tb
	other.Name = "another"
	if moved, err := s.Digest(ctx(t), &other); err != nil || len(Differ(second, moved)) == 0 {
		t.Errorf("a row moved to another table has the same hash: %v", err)
	}
}

func TestMatcherSaysHowRowsDiffer(t *testing.T) {
	row := func(v ...string) Row {
		r := Row{}
		for _, x := range v {
			if x == "∅" {
				r.Fields = append(r.Fields, nil)
			} else {
				r.Fields = append(r.Fields, []byte(x))
			}
		}
		return r
	}
	for _, c := range []struct {
		name          string
		key           []int
		first, second []Row
		want          string
	}{
		{"the same", []int{0}, []Row{row("1", "a"), row("2", "∅")}, []Row{row("2", "∅"), row("1", "a")}, ""},
		{"another value", []int{0}, []Row{row("1", "a")}, []Row{row("1", "b")}, Changed},
		{"empty for NULL", []int{0}, []Row{row("1", "∅")}, []Row{row("1", "")}, Changed},
		{"one less", []int{0}, []Row{row("1", "a")}, nil, Missing},
		{"one more", []int{0}, nil, []Row{row("1", "a")}, Extra},
		{"twice", []int{0}, []Row{row("1", "a")}, []Row{row("1", "a"), row("1", "a")}, Doubled},
		{"twice without a key", nil, []Row{row("1", "a")}, []Row{row("1", "a"), row("1", "a")}, Doubled},
		{"once of two", nil, []Row{row("1", "a"), row("1", "a")}, []Row{row("1", "a")}, Missing},
	} {
		m := NewMatcher(&Table{Columns: []string{"k", "v"}, Key: c.key})
		for _, r := range c.first {
			m.First(r)
		}
		for _, r := range c.second {
			m.Second(r)
		}
		got := ""
		for _, d := range m.Differences() {
			got += d.Kind
		}
		if got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
}
