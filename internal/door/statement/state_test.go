package statement

import (
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// run plays texts against one session and returns whether the last was covered.
func run(s *State, texts ...string) bool {
	ok := false
	for _, t := range texts {
		ok = s.Query(analyze(t, dataset))
	}
	return ok
}

// Each session ends with a statement that would be covered in a fresh one, and must not be.
func TestAttacksByEarlierStatements(t *testing.T) {
	attacks := map[string][]string{
		"shadowed catalog":      {"CREATE TEMP TABLE pg_class AS SELECT secret AS relname FROM person", "SELECT relname FROM pg_class"},
		"shadowed by view":      {"CREATE TEMP VIEW pg_type AS SELECT secret AS typname FROM person", "SELECT typname FROM pg_type"},
		"select into":           {"SELECT secret AS relname INTO TEMP pg_class FROM person", "SELECT relname FROM pg_class"},
		"shadowed type":         {"CREATE DOMAIN pg_temp.regclass AS text CHECK (VALUE <> 'x')", "SELECT 'x'::regclass"},
		"names that carry rows": {"DO $$ BEGIN EXECUTE format('CREATE TEMP TABLE %I ()', (SELECT secret FROM person LIMIT 1)); END $$", "SELECT relname FROM pg_catalog.pg_class"},
		"setting carries a row": {"SELECT count(set_config('my.x', secret, false)) FROM person", "SHOW my.x"},
		"setting, qualified":    {"SELECT count(pg_catalog.set_config('my.x', secret, false)) FROM person", "SELECT pg_catalog.current_setting('my.x')"},
		"function of one's own": {"CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "SELECT relname FROM pg_catalog.pg_class"},
		"deferred check":        {"CREATE TEMP TABLE t (s text UNIQUE DEFERRABLE INITIALLY DEFERRED)", "BEGIN", "INSERT INTO t SELECT plan FROM person", "COMMIT"},
		"literals read anew":    {"SET standard_conforming_strings = off", `SELECT '\', 1`},
		"catalogs moved":        {"SET search_path = public, pg_catalog", "SELECT relname FROM pg_class"},
		"prepared before":       {"PREPARE p AS SELECT relname FROM pg_class", "CREATE TEMP TABLE pg_class AS SELECT secret AS relname FROM person", "EXECUTE p"},
		"prepared uncovered":    {"PREPARE p AS SELECT secret FROM person", "EXECUTE p"},
		"prepared twice":        {"PREPARE p AS SELECT secret FROM person", "PREPARE p AS SELECT 1", "EXECUTE p"},
		"cursor":                {"BEGIN", "DECLARE c CURSOR FOR SELECT secret FROM person", "FETCH ALL FROM c"},
		"cursor declared twice": {"BEGIN", "DECLARE c CURSOR FOR SELECT secret FROM person", "DECLARE c CURSOR FOR SELECT 1", "FETCH ALL FROM c"},
		"argument reads a row":  {"PREPARE p(text) AS SELECT $1", "EXECUTE p((SELECT secret FROM person LIMIT 1))"},
		"large object":          {"SELECT lo_from_bytea(0, convert_to(secret, 'UTF8')) FROM person", "SELECT relname FROM pg_catalog.pg_class"},
		"xml runs sql":          {"SELECT query_to_xml('SELECT set_config(''my.x'', secret, false) FROM person', true, true, '')", "SHOW my.x"},
		"unparsed may be all":   {"CREATE TEMP TABLE broken (((", "SELECT relname FROM pg_class"},
		"operator of one's own": {"SELECT 1 OPERATOR(pg_temp.+) 2", "SHOW my.x"},
		"call":                  {"CALL p()", "SHOW my.x"},
		"in one text":           {"SELECT 1; CREATE TEMP TABLE pg_class (); SELECT relname FROM pg_class"},
		"explain analyze runs":  {"EXPLAIN ANALYZE SELECT set_config('my.x', secret, false) FROM person", "SHOW my.x"},
		"copy runs":             {"COPY (SELECT set_config('my.x', secret, false) FROM person) TO STDOUT", "SHOW my.x"},
		"prepare runs later":    {"PREPARE p AS SELECT set_config('my.x', secret, false) FROM person", "EXECUTE p", "SHOW my.x"},
	}
	for name, texts := range attacks {
		if run(NewState(nil), texts...) {
			t.Errorf("%s: covered", name)
		}
	}
}

func TestPlainReadsLeaveTheSessionClean(t *testing.T) {
	for _, sql := range []string{
		"SELECT plan, count(*), avg(id), date_trunc('day', now()) FROM person WHERE lower(plan) LIKE 'p%' GROUP BY 1 ORDER BY 2 LIMIT 5",
		"WITH x AS (SELECT * FROM person) SELECT jsonb_agg(x) FROM x", "COPY person TO STDOUT", "EXPLAIN ANALYZE SELECT * FROM person",
		"SELECT pg_size_pretty(pg_total_relation_size('person'))", "SELECT * FROM pg_catalog.pg_statistic_ext", "LISTEN x",
	} {
		s := NewState(nil)
		if run(s, sql) {
			t.Errorf("covered: %s", sql)
		}
		if !run(s, "SELECT relname FROM pg_class") || !run(s, "COMMIT") {
			t.Errorf("the session is not clean after: %s", sql)
		}
	}
}

func TestTemporaryTablesLeaveQualifiedNames(t *testing.T) {
	s := NewState(nil)
	run(s, "CREATE TEMP TABLE mine AS SELECT plan FROM person")
	if !run(s, "SELECT relname FROM pg_catalog.pg_class WHERE oid = '1'::pg_catalog.regclass") {
		t.Error("qualified names no longer count")
	}
	if run(s, "SELECT relname FROM pg_class") {
		t.Error("unqualified names still count")
	}
}

func TestAnotherSessionsNamesAreNotCovered(t *testing.T) {
	shared := new(Shared)
	a, b := NewState(shared), NewState(shared)
	run(a, "DO $$ BEGIN END $$")
	if run(b, "SELECT relname FROM pg_catalog.pg_class") {
		t.Error("covered while another session may have written names")
	}
	a.End()
	a.End()
	if run(b, "SELECT relname FROM pg_catalog.pg_class") {
		t.Error("covered though nobody looked what that session left behind")
	}
	shared.Swept(shared.Ended())
	if !run(b, "SELECT relname FROM pg_catalog.pg_class") {
		t.Error("not covered after that session ended")
	}
}

// A look that began before a session ended says nothing of what that one left.
func TestSweepFromBeforeTheEndDoesNotCount(t *testing.T) {
	shared := new(Shared)
	a, b := NewState(shared), NewState(shared)
	run(a, "DO $$ BEGIN END $$")
	before := shared.Ended()
	a.End()
	shared.Swept(before)
	if run(b, "SHOW my.x") {
		t.Error("covered")
	}
}

// A block that commits has written names before the server answers: it counts when it is sent.
func TestTextCountsWhenItIsForwarded(t *testing.T) {
	shared := new(Shared)
	a, b := NewState(shared), NewState(shared)
	a.Forwards(analyze("SELECT plan FROM person", dataset))
	if !run(b, "SELECT relname FROM pg_catalog.pg_class") {
		t.Error("a plain read counts")
	}
	a.Forwards(analyze("DO $$ BEGIN COMMIT; PERFORM pg_sleep(60); END $$", dataset))
	if run(b, "SELECT relname FROM pg_catalog.pg_class") {
		t.Error("covered while another session may have written names")
	}
}

// What a role writes into its own settings stays when its session has gone: such columns are
// never covered, however they are named.
func TestSettingsOfARoleAreNotCovered(t *testing.T) {
	for _, sql := range []string{
		"SELECT setconfig FROM pg_db_role_setting", "SELECT rolconfig FROM pg_roles", "SELECT * FROM pg_roles",
		"SELECT r FROM pg_roles r", "SELECT r.* FROM pg_catalog.pg_roles r", "SELECT x.c FROM pg_roles x(a,b,c)",
		"SELECT useconfig FROM pg_user", "SELECT count(*) FROM pg_roles WHERE 'a' = ANY (rolconfig)",
		"SELECT * FROM pg_class c JOIN pg_roles r ON true", "SELECT defaclacl FROM pg_default_acl",
		"SELECT (SELECT r FROM pg_user r LIMIT 1)",
	} {
		if run(NewState(nil), sql) {
			t.Errorf("covered: %s", sql)
		}
	}
	if !run(NewState(nil), "SELECT rolname, rolsuper FROM pg_catalog.pg_roles r ORDER BY 1") {
		t.Error("the other columns are not covered")
	}
}

func TestProtocolNames(t *testing.T) {
	good, bad := analyze("SELECT 1", dataset), analyze("SELECT secret FROM person", dataset)
	s := NewState(nil)
	s.Parsed("", good)
	s.Bound("", "")
	if !s.Binds("") || !s.Executes("") {
		t.Error("a covered unnamed statement is not covered")
	}
	s.Parsed("", bad)
	s.Bound("", "")
	if s.Executes("") {
		t.Error("the unnamed portal kept its old cover")
	}
	s.Parsed("a", bad)
	s.Parsed("a", good)
	s.Bound("x", "a")
	if s.Binds("a") || s.Executes("x") {
		t.Error("a name that was uncovered once is covered")
	}
	s.Bound("", "a")
	if s.Executes("") {
		t.Error("the unnamed portal covers what its statement does not")
	}
	s.Parsed("b", good)
	s.Bound("y", "b")
	if !s.Executes("y") {
		t.Error("a named covered statement is not covered")
	}
	run(s, "DECLARE y CURSOR FOR SELECT secret FROM person")
	if s.Executes("y") {
		t.Error("a cursor with a portal's name is covered")
	}
	if run(s, "FETCH ALL FROM x") || s.Executes("nobody knows") {
		t.Error("an unknown portal is covered")
	}
}

func TestLongNamesThatTheServerCutsAreNotCovered(t *testing.T) {
	s := NewState(nil)
	s.Parsed(strings.Repeat("a", 70), analyze("SELECT 1", dataset))
	if s.Binds(strings.Repeat("a", 70)) || run(s, "SELECT 1") {
		t.Error("covered")
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := NewClassifier(nil)
	for i := range 3 * cacheEntries {
		c.Analyze("SELECT " + strings.Repeat("1", 1+i%100) + " -- " + strings.Repeat("x", i%cacheText))
	}
	if n := c.recent.Len(); n > cacheEntries || n != len(c.byText) {
		t.Errorf("%d entries, %d texts", n, len(c.byText))
	}
	if a, b := c.Analyze("SELECT 1"), c.Analyze("SELECT 1"); a != b {
		t.Error("not cached")
	}
}

// FuzzClassify: no text panics, and none that reads a dataset's table is covered.
func FuzzClassify(f *testing.F) {
	for _, s := range append(coveredTexts, uncoveredTexts...) {
		f.Add(s)
		f.Add(strings.ReplaceAll(s, "pg_class", "person"))
		f.Add("WITH pg_type AS (SELECT 1) " + s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		info := Classify(sql, dataset, nil)
		if !info.Covered {
			return
		}
		tree, err := pg.ParseToJSON(sql) // another way to look for the table
		if err != nil {
			t.Fatalf("covered, but does not parse: %q", sql)
		}
		for _, name := range []string{"person", "events", "orders"} {
			if strings.Contains(tree, `"relname":"`+name+`"`) {
				t.Fatalf("covered, but reads %s: %q", name, sql)
			}
		}
	})
}

func BenchmarkCached(b *testing.B) {
	c := NewClassifier([]string{"public.person"})
	for b.Loop() {
		c.Analyze("SELECT count(*) FROM person WHERE id = $1")
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		analyze("SELECT n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','') ORDER BY 1,2", dataset)
	}
}
