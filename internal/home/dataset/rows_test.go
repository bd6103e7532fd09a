package dataset

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
)

// web has every kind of reference: composite keys, a self-reference, two tables that refer
// to each other, a table that is only on the way, orphans, partitions.
const web = `CREATE SCHEMA app; SET session_replication_role = replica;
CREATE TABLE app.person (id int PRIMARY KEY, country text, moved date, was text, plan text, favourite int);
INSERT INTO app.person VALUES (1,'IE',NULL,NULL,'pro',10), (2,'FR',NULL,NULL,'free',20), (3,'US',NULL,NULL,'pro',30), (4,'US',current_date - 700,'IE','pro',10), (5,'US',current_date - 760,'IE','pro',10),
	(6,'XX',NULL,NULL,'pro',NULL), (7,NULL,NULL,NULL,'pro',NULL), (8,'IE',NULL,NULL,'pro',99), (9,'US',NULL,'IE',NULL,30), (10,'ie',NULL,NULL,'pro',NULL);
CREATE TABLE app.account (tenant int, no int, owner int NOT NULL REFERENCES app.person, PRIMARY KEY (tenant, no));
INSERT INTO app.account VALUES (1,1,1), (1,2,2), (2,1,3), (2,2,4), (3,1,77);
CREATE TABLE app.entry (id int PRIMARY KEY, tenant int NOT NULL, no int NOT NULL, other int, parent int, FOREIGN KEY (tenant, no) REFERENCES app.account, FOREIGN KEY (parent) REFERENCES app.entry, FOREIGN KEY (other) REFERENCES app.person);
INSERT INTO app.entry VALUES (1,1,1,NULL,NULL), (2,1,1,3,1), (3,2,1,1,NULL), (4,1,2,2,3), (5,1,2,88,1), (6,9,9,1,1), (7,2,2,1,6), (8,1,1,1,8);
CREATE TABLE app.video (id int PRIMARY KEY, maker int NOT NULL REFERENCES app.person);
INSERT INTO app.video VALUES (10,1), (20,2), (30,3), (40,4);
ALTER TABLE app.person ADD FOREIGN KEY (favourite) REFERENCES app.video NOT VALID;
CREATE TABLE app.event (at date NOT NULL, person int NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE app."Event 24" PARTITION OF app.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); CREATE TABLE app.event_rest PARTITION OF app.event DEFAULT;
INSERT INTO app.event SELECT date '2023-12-01' + i, 1 + i % 5, i FROM generate_series(1, 400) i;`

var webCatalog = wholeCatalog("person: {table: app.person, key: id, residence: country, residence_changed: moved, residence_before: was}\ntables:\n" +
	"  - table: app.person\n    subject: {self: true}\n    references: [{columns: [favourite], to: app.video, of: [id]}]\n    columns:\n" + column("id", "integer", "behaviour", "") + column("plan", "text", "behaviour", "") + column("favourite", "integer", "behaviour", "") +
	"  - table: app.account\n    subject: {column: owner}\n    references: [{columns: [owner], to: app.person, of: [id]}]\n    columns:\n" + column("tenant", "integer", "behaviour", "") + column("no", "integer", "behaviour", "") + column("owner", "integer", "behaviour", "") +
	"  - table: app.entry\n    subject: {via: tenant}\n    references: [{columns: [tenant, no], to: app.account, of: [tenant, no]}, {columns: [parent], to: app.entry, of: [id]}, {columns: [other], to: app.person, of: [id]}]\n    columns:\n" +
	column("id", "integer", "behaviour", "") + column("tenant", "integer", "behaviour", "") + column("no", "integer", "behaviour", "") + column("other", "integer", "behaviour", "") + column("parent", "integer", "behaviour", "") +
	"  - table: app.video\n    subject: {column: maker}\n    references: [{columns: [maker], to: app.person, of: [id]}]\n    columns:\n" + column("id", "integer", "behaviour", "") + column("maker", "integer", "behaviour", "") +
	"  - table: app.event\n    subject: {column: person}\n    columns:\n" + column("at", "date", "behaviour", "") + column("person", "integer", "behaviour", "") + column("n", "integer", "behaviour", ""))

// webDataset holds the columns that are named, as "table: a b c" each, clear.
func webDataset(rows string, tables ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\ndatasets:\n  - name: NAME\n    cluster: inside\n    purpose: research\n    source: app\n    k: 1\n    rows: {%s}\n    tables:\n", rows)
	for _, t := range tables {
		name, columns, _ := strings.Cut(t, ": ")
		fmt.Fprintf(&b, "      - table: app.%s\n        columns:\n", name)
		for _, c := range strings.Fields(columns) {
			fmt.Fprintf(&b, "          - {name: %s, form: clear}\n", c)
		}
	}
	return b.String()
}

func TestRowsAreChosenAndFollowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rows string
		tables     []string
		want       map[string]string // query → rows
		left, orph int64
	}{
		{"residence", "residence: [EEA]", []string{"person: id"}, map[string]string{
			// 4 left 700 days ago and 9 at a time that nobody wrote down; XX, NULL and ie are no countries.
			"SELECT id FROM app.person": "1 2 4 8 9"}, 5, 0},
		{"condition", "residence: [EEA], condition: 'person.plan == \"pro\"'", []string{"person: id plan"}, map[string]string{"SELECT id FROM app.person": "1 4 8"}, 7, 0},
		{"list", "subjects: list.txt", []string{"person: id"}, map[string]string{"SELECT id FROM app.person": "3 7"}, 8, 0},
		{"nobody", "", []string{"person: id"}, map[string]string{"SELECT id FROM app.person": ""}, 10, 0},
		{"the way is followed through tables that are not held", "residence: [EEA]", []string{"entry: id tenant no"}, map[string]string{
			"SELECT id FROM app.entry": "1 2 4 5 7 8"}, 1, 1},
		{"composite keys, a self-reference, cut and orphaned references", "residence: [EEA]", []string{"person: id", "account: tenant no owner", "entry: id tenant no other parent"}, map[string]string{
			// 2 loses other (3 is outside), 4 loses parent (3 does not belong), 5 refers to a person who is nowhere,
			// 6 to an account that is nowhere; 7 loses parent 6, which is an orphan itself.
			"SELECT id || ':' || coalesce(other::text,'-') || ':' || coalesce(parent::text,'-') FROM app.entry": "1:-:- 2:-:1 4:2:- 7:1:- 8:1:8",
			"SELECT tenant || '.' || no FROM app.account":                                                       "1.1 1.2 2.2",
			"SELECT count(*) FROM pg_constraint WHERE contype = 'f'":                                            "4"}, 7, 3},
		{"tables that refer to each other", "residence: [EEA]", []string{"person: id favourite", "video: id maker"}, map[string]string{
			"SELECT id || ':' || coalesce(favourite::text,'-') FROM app.person": "1:10 2:20 4:10 9:-", "SELECT id FROM app.video": "10 20 40",
			"SELECT count(*) FROM pg_constraint WHERE contype = 'f'": "2"}, 6, 1},
		{"partitions", "residence: [EEA]", []string{"event: at person n"}, map[string]string{
			"SELECT count(*) FROM app.event": "240", `SELECT count(*) > 100 FROM app."Event 24"`: "t", "SELECT relkind FROM pg_class WHERE oid = 'app.event'::regclass": "p"}, 160, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, web, webCatalog, webDataset(c.rows, c.tables...))
			if err := os.WriteFile(filepath.Join(f.dir, "list.txt"), []byte("3\n# a remark\n 7 \n12345\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			r := f.build()
			for sql, want := range c.want {
				got := f.rows(sql)
				sort.Slice(got, func(i, j int) bool { return len(got[i]) < len(got[j]) || len(got[i]) == len(got[j]) && got[i] < got[j] })
				wanted := strings.Fields(want)
				sort.Strings(wanted)
				sort.Strings(got)
				if strings.Join(got, " ") != strings.Join(wanted, " ") {
					t.Errorf("%s: %v, not %v", sql, got, wanted)
				}
			}
			if r.Measured.LeftOut != c.left || r.Measured.Orphans != c.orph {
				t.Errorf("left out %d, orphans %d; want %d, %d: %+v", r.Measured.LeftOut, r.Measured.Orphans, c.left, c.orph, r.Tables)
			}
			f.verified()
		})
	}
}

func TestSmallCellsLoseTheirColumns(t *testing.T) {
	t.Parallel()
	statements := `CREATE SCHEMA app; CREATE TABLE app.person (id int PRIMARY KEY, country text NOT NULL, plan text NOT NULL);
		INSERT INTO app.person SELECT i, CASE WHEN i <= 60 THEN 'IE' WHEN i <= 90 THEN 'NO' WHEN i <= 97 THEN 'FR' ELSE 'DE' END, CASE WHEN i <= 30 THEN 'pro' ELSE 'free' END FROM generate_series(1, LAST) i;`
	cat := wholeCatalog("person: {table: app.person, key: id, residence: country}\ntables:\n  - table: app.person\n    subject: {self: true}\n    columns:\n" +
		column("id", "integer", "identifier", "") + column("country", "text", "location", ", trait: residence") + column("plan", "text", "behaviour", ""))
	datasets := "version: 1\ndatasets:\n  - name: NAME\n    cluster: outside\n    purpose: research\n    source: app\n    rows: {residence: [EEA]}\n    tables:\n      - {table: app.person, columns: [{name: id, form: pseudonymised}, {name: country, form: clear}, {name: plan, form: clear}]}\n"
	f := setup(t, strings.Replace(statements, "LAST", "100", 1), cat, datasets)
	r := f.build()
	// FR has 7 and DE 3: their 10 rows make the cell of NULLs.
	if r.Definition.K != 10 || r.Measured.Suppressed != 10 || r.Measured.SmallestCell != 10 {
		t.Errorf("measured %+v with k %d", r.Measured, r.Definition.K)
	}
	if got := f.one("SELECT min(n) FROM (SELECT count(*) AS n FROM app.person GROUP BY country, plan) c"); got != "10" {
		t.Errorf("the smallest cell holds %s", got)
	}
	f.verified()
	f.source.Exec(t, f.dsn, "DELETE FROM app.person WHERE id = 100") // 9 are too few: the next smallest cells join them
	r = f.build()
	if got := f.one("SELECT min(n) FROM (SELECT count(*) AS n FROM app.person GROUP BY country, plan) c"); got == "9" || r.Measured.SmallestCell < 10 || r.Measured.Suppressed != 99 {
		t.Errorf("the smallest cell holds %s, measured %+v", got, r.Measured)
	}
	f.source.Exec(t, f.dsn, "DELETE FROM app.person WHERE id > 9")
	if _, err := f.b.BuildReport(testContext(t), f.name); !errors.Is(err, ErrFewSubjects) {
		t.Errorf("9 subjects, each cell of 10: %v", err)
	}
}

func TestRowsThatSpillComeBackInOrder(t *testing.T) {
	t.Parallel()
	f := setup(t, strings.Replace(small, "generate_series(1, 400)", "generate_series(1, 60000)", 1)+"UPDATE app.visit SET note = repeat('n', 200) || id;", smallCatalog, smallDatasets)
	f.b = f.open(smallCatalog, smallDatasets, func(c *Config) { c.MemoryBytes = 1 << 20 })
	f.build()
	f.verified()
	if got := f.one("SELECT count(*) FROM (SELECT id, lag(id) OVER (ORDER BY ctid) AS before FROM app.visit) o WHERE id < before"); got != "0" {
		t.Errorf("%s rows are out of pseudonym order", got)
	}
}

func TestPhysicalOrderDoesNotFollowTheSource(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, strings.ReplaceAll(smallDatasets, "{name: id, form: pseudonymised}", "{name: id, form: clear}"))
	f.build()
	// In random order about half of the neighbours rise.
	if got := f.one("SELECT count(*) FILTER (WHERE id > before) BETWEEN 120 AND 280 FROM (SELECT id, lag(id) OVER (ORDER BY ctid) AS before FROM app.visit) o"); got != "t" {
		t.Error("rows stand in the source's order")
	}
}

func TestKeySetsHoldWhatWasPutIn(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for _, whole := range []bool{true, false} {
		var budget atomic.Int64
		budget.Store(1 << 30)
		s := &keySet{whole: whole, budget: &budget}
		want := map[key]bool{{}: true}
		s.add(key{})
		for range 50000 {
			k := key{r.Uint64N(100000)}
			if !whole {
				k[1] = r.Uint64N(3)
			}
			want[k] = true
			if !s.add(k) {
				t.Fatal("the budget is not spent")
			}
		}
		for n := range uint64(100000) {
			for hi := range uint64(3) {
				k := key{n, hi}
				if whole && hi > 0 {
					continue
				}
				if s.has(k) != want[k] {
					t.Fatalf("whole %v: has %v is %v", whole, k, s.has(k))
				}
			}
		}
		budget.Store(0)
		full := &keySet{whole: whole, budget: &budget}
		if full.add(key{1, 1}) {
			t.Error("a set grows beyond its budget")
		}
	}
}

func TestEveryFindingOfAPlanIsReported(t *testing.T) {
	t.Parallel()
	f := setup(t, web, webCatalog, webDataset("residence: [EEA]", "person: id", "nowhere: x", "video: id gone"))
	_, err := f.b.Plan(testContext(t), f.name)
	if err == nil {
		t.Fatal("a dataset of nothing is planned")
	}
	p := f.open(webCatalog, webDataset("residence: [EEA]", "entry: id tenant no parent"), nil)
	preview, err := p.Plan(testContext(t), f.name)
	if err != nil {
		t.Fatal(err)
	}
	if len(preview.Tables) != 3 || preview.Tables[len(preview.Tables)-1].Table != "app.entry" {
		t.Errorf("plan reads %+v", preview.Tables)
	}
}

// FuzzLines: what is escaped comes back, and cutting a line loses nothing.
func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "a\tb", `\N`, "\\", "\b\f\n\r\t\v", "é\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		field := appendEscaped(nil, value)
		if strings.ContainsAny(string(field), "\t\n") || isNull(field) {
			t.Fatal("an escaped value breaks its line")
		}
		back, _ := unescape(nil, field)
		if string(back) != string(value) {
			t.Fatalf("%q comes back as %q", value, back)
		}
		if parts := splitLine(nil, value); strings.Join(text(parts), "\t") != string(value) {
			t.Fatal("a line lost something")
		}
		unescape(nil, value) // whatever it is
		parseWhole(value)
	})
}

func text(parts [][]byte) []string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = string(p)
	}
	return out
}
