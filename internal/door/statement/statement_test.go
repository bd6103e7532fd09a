package statement

import (
	"strings"
	"testing"
)

var dataset = NewKnown([]string{"public.person", "public.events", "shop.orders"})

func TestCovered(t *testing.T) {
	for _, sql := range coveredTexts {
		if info := Classify(sql, dataset, nil); !info.Covered {
			t.Errorf("not covered (%s): %s", info.Kind, sql)
		}
	}
}

var coveredTexts = []string{
	"", ";", "SELECT 1", "select version()", "SELECT count(*) FROM pg_catalog.pg_class", "SELECT count(*) FROM pg_class",
	"BEGIN", "BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION", "COMMIT", "END", "ROLLBACK", "ABORT",
	"SAVEPOINT a", "RELEASE a", "ROLLBACK TO a", "SHOW trefoil.dataset", "SHOW ALL", "SHOW TIME ZONE",
	"SET application_name = 'x'", "SET extra_float_digits = 3", "SET client_encoding TO 'UTF8'", "SET NAMES 'UTF8'",
	"SET TIME ZONE 'UTC'", "SET TIME ZONE INTERVAL '1' HOUR", "SET LOCAL statement_timeout = 10", "SET search_path TO public, shop",
	"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
	"SET standard_conforming_strings = on", "RESET ALL", "RESET search_path", "DISCARD ALL", "DEALLOCATE ALL", "DEALLOCATE x", "CLOSE ALL",
	"SELECT current_schema(), current_database(), current_user, session_user", "SELECT set_config('extra_float_digits', '3', false)",
	"SELECT pg_catalog.set_config('search_path', '', false)", "SELECT current_setting('server_version_num')",
	"SELECT n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','') ORDER BY 1,2",
	"SELECT typname::text, oid::regtype FROM pg_type", "SELECT $1::pg_catalog.regclass", "SELECT 'public.person'::regclass::oid",
	"SELECT * FROM information_schema.columns WHERE table_name = 'person'", "SELECT * FROM pg_namespace",
	"WITH t AS (SELECT oid FROM pg_type) SELECT * FROM t", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r WHERE n < 3) SELECT n FROM r",
	"SELECT (information_schema._pg_expandarray(i.indkey)).n FROM pg_catalog.pg_index i",
	"SELECT array_to_string(ARRAY(SELECT rolname FROM pg_roles), ',')", "PREPARE p AS SELECT 1", "DECLARE c CURSOR FOR SELECT relname FROM pg_class",
	"SELECT 1; SELECT 2", "SELECT t.* FROM pg_type t", "VALUES (1)", "SELECT now()", "SELECT CASE WHEN true THEN 1 END",
}

var uncoveredTexts = []string{
	"SELECT * FROM person", "SELECT 1 FROM public.person", "TABLE person", "SELECT * FROM pg_class", "TABLE pg_class",
	"SELECT reltuples FROM pg_class", "SELECT c.* FROM pg_class c", "SELECT c FROM pg_class c", "SELECT (c).reltuples FROM pg_class c",
	"SELECT pg_class FROM pg_class", "SELECT row_to_json(c) FROM pg_class c", "SELECT x.a FROM pg_class x(a)",
	"SELECT x.a FROM pg_class AS x(a,b,c)", "SELECT relpages::text FROM pg_catalog.pg_class", "SELECT j.* FROM (pg_class c JOIN pg_type t ON true) AS j",
	"SELECT 1 FROM pg_class NATURAL JOIN (SELECT 1::float4 AS reltuples) x", "SELECT 1 FROM pg_class JOIN (SELECT 1::float4 AS reltuples) x USING (reltuples)",
	"SELECT reltuples(c) FROM pg_class c", "SELECT x FROM (SELECT * FROM pg_class) x", "WITH x AS (SELECT * FROM pg_class) SELECT * FROM x",
	"SELECT l.* FROM pg_class c, LATERAL (SELECT c.*) l", "SELECT 1 FROM pg_class c ORDER BY c.reltuples", "SELECT 1 FROM pg_class c WHERE relpages > 5",
	"SELECT count(c) FROM pg_class c", "SELECT * FROM pg_stats", "SELECT * FROM pg_catalog.pg_statistic", "SELECT * FROM pg_stat_activity",
	"SELECT * FROM pg_stat_user_tables", "SELECT * FROM pg_statistic_ext", "SELECT * FROM pg_stats_ext", "SELECT * FROM pg_largeobject",
	"SELECT * FROM pg_authid", "SELECT * FROM pg_shadow", "SELECT * FROM pg_locks", "SELECT * FROM pg_sequences", "SELECT * FROM pg_cursors",
	"SELECT * FROM pg_prepared_statements", "SELECT * FROM pg_user_mappings", "SELECT * FROM pg_file_settings", "SELECT * FROM pg_temp.pg_class",
	"SELECT * FROM public.pg_type", "SELECT * FROM other.public.pg_type", "SELECT relname FROM pg_class FOR UPDATE", "SELECT oid INTO x FROM pg_type",
	"SELECT query_to_xml('select 1', true, true, '')", "SELECT ts_stat('select 1')", "SELECT pg_read_file('x')", "SELECT lo_get(1)",
	"SELECT dblink('x','y')", "SELECT pg_ls_dir('.')", "SELECT pg_relation_size('person')", "SELECT pg_notify('a','b')", "SELECT public.count(1)",
	"SELECT pg_temp.f()", "SELECT table_to_xml('person', true, true, '')", "SELECT xmlelement(name a)", "SELECT setval('s', 1)", "SELECT pg_sleep(1)",
	"SELECT pg_advisory_lock(1)", "SELECT 1 OPERATOR(pg_temp.+) 2", "SELECT 'x'::pg_temp.d", "SELECT 'x'::mytype", "SELECT NULL::person",
	"SELECT CAST('x' AS public.person)", "SELECT set_config('my.x', (SELECT secret FROM person LIMIT 1), false)", "SELECT set_config('role', 'x', false)",
	"SELECT set_config('search_path', 'public, pg_catalog', false)", "SELECT set_config('application_name', version(), false)",
	"SET search_path = public, pg_catalog", "SET search_path TO 'pg_temp'", "SET standard_conforming_strings = off", "SET ROLE x", "SET SESSION AUTHORIZATION x",
	"SET session_replication_role = replica", "SET backslash_quote = on", "COPY person TO STDOUT", "COPY (SELECT 1) TO STDOUT", "LISTEN x", "NOTIFY x", "UNLISTEN *",
	"EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT * FROM person", "DO $$ BEGIN END $$", "CALL f()", "CREATE TEMP TABLE x AS SELECT 1", "LOCK pg_class",
	"WITH x AS (DELETE FROM person RETURNING *) SELECT 1", "WITH pg_type AS (SELECT secret FROM person) SELECT * FROM pg_type",
	"WITH person AS (SELECT 1) SELECT * FROM person", "SELECT (WITH x AS (SELECT 1) SELECT 1), (SELECT 1 FROM x)", "EXECUTE unknown", "FETCH ALL FROM unknown", "MOVE ALL FROM unknown",
	"PREPARE p AS SELECT * FROM person", "DECLARE c CURSOR FOR SELECT * FROM person", "SELECT 1; SELECT * FROM person", "not sql at all",
	"SELECT 'é'", "SELECT 1 AS \"naïve\"", "SELECT * FROM pg_catalog.pg_type, person", "SELECT (SELECT secret FROM person LIMIT 1)",
	"SELECT EXISTS (SELECT 1 FROM person)", "SELECT 1 WHERE 1 IN (SELECT id FROM person)", "SELECT * FROM generate_series(1, (SELECT count(*) FROM person))",
	"SET CONSTRAINTS ALL IMMEDIATE", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "VACUUM", "ANALYZE person", "CHECKPOINT", "LOAD 'x'",
	"SELECT 1 COLLATE pg_temp.x", "SELECT 1 UNION SELECT id FROM person", "SELECT relname FROM ONLY pg_temp_3.x", "SELECT * FROM ROWS FROM (pg_ls_dir('.')) AS x",
	"WITH RECURSIVE x AS (SELECT 1 UNION SELECT 2 FROM y), y AS (SELECT 1) SELECT 1 FROM y, z", "SELECT 1 LIMIT (SELECT count(*) FROM person)",
	"SELECT sum(1) OVER (ORDER BY (SELECT 1 FROM person))", "SELECT 1 FROM pg_class TABLESAMPLE system (1)", "SELECT * FROM json_to_recordset('[]') AS x(a int)",
}

func TestNotCovered(t *testing.T) {
	for _, sql := range uncoveredTexts {
		if info := Classify(sql, dataset, nil); info.Covered {
			t.Errorf("covered: %s", sql)
		}
	}
}

func TestTooLongOrNulIsUnparsed(t *testing.T) {
	for _, sql := range []string{"SELECT '" + strings.Repeat("a", MaxText) + "'", "SELECT 1\x00", "SELECT 1; \x00 SELECT * FROM person"} {
		if info := Classify(sql, dataset, nil); info.Covered || info.Kind != "unparsed" {
			t.Errorf("%.20q: %+v", sql, info)
		}
	}
}

func TestDeepNestingIsNotCovered(t *testing.T) {
	sql := "SELECT " + strings.Repeat("(", 3000) + "1" + strings.Repeat(")", 3000)
	Classify(sql, dataset, nil)
	sql = "SELECT " + strings.Repeat("abs(", 3000) + "1" + strings.Repeat(")", 3000)
	if Classify(sql, dataset, nil).Covered {
		t.Error("covered")
	}
}

func TestTablesNameOnlyTheDataset(t *testing.T) {
	cases := map[string]string{
		"SELECT * FROM person p JOIN shop.orders o ON true": "public.person,shop.orders",
		"SELECT * FROM my_private_name":                     "?",
		"WITH alice AS (SELECT * FROM events) TABLE alice":  "public.events",
		"COPY person TO STDOUT":                             "public.person",
		"SELECT 1":                                          "",
		"EXPLAIN ANALYZE SELECT * FROM orders":              "shop.orders",
		"DELETE FROM other.person":                          "?",
		"WITH person AS (SELECT 1) SELECT * FROM person":    "public.person",
	}
	for sql, want := range cases {
		if got := strings.Join(Classify(sql, dataset, nil).Tables, ","); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

func TestKinds(t *testing.T) {
	cases := map[string]string{
		"": "empty", "SELECT 1": "select", "SELECT 1; SELECT 2": "multi", "COPY person FROM STDIN": "copy", "garbage": "unparsed",
		"DO $$x$$": "do", "EXECUTE p": "execute", "FETCH c": "fetch", "CREATE TABLE x()": "create", "SECURITY LABEL ON TABLE x IS 'y'": "other",
	}
	for sql, want := range cases {
		if got := Classify(sql, dataset, nil).Kind; got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}
