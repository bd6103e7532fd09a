package pool

import (
	"strings"
	"testing"
)

func TestLook(t *testing.T) {
	for sql, want := range map[string]Reason{
		"":         Nothing,
		" ; ;":     Nothing,
		"select 1": Nothing,
		"SELECT abalance FROM pgbench_accounts WHERE aid = 17;":         Nothing,
		"begin; update t set a = 1; commit":                             Nothing,
		"(select 1) union (select 2)":                                   Nothing,
		"insert into t values ('listen; set x = 1')":                    Nothing,
		"select 'pg_advisory_lock(1)'":                                  Nothing,
		"select $$ listen a $$ -- pg_advisory_lock(1)":                  Nothing,
		"select $a$ $$ listen $a$, $1, a$b from t":                      Nothing,
		"/* set x = 1; /* nested */ */ select 1":                        Nothing,
		"select E'a\\'; listen x; --'":                                  Nothing,
		"select \"set\" from \"listen\"":                                Nothing,
		"set local work_mem = '1GB'":                                    Nothing,
		"set transaction isolation level serializable":                  Nothing,
		"set constraints all deferred":                                  Nothing,
		"set timezone = 'UTC'":                                          Nothing,
		"set session timezone to 'UTC'":                                 Nothing,
		"SET TIME ZONE 'UTC'":                                           Nothing,
		"set names 'UTF8'":                                              Nothing,
		"select set_config('a.b', 'c', true)":                           Nothing,
		"select pg_catalog.set_config($1, (f(1, true)), TRUE) from t":   Nothing,
		"create temp table x (a int) on commit drop":                    Nothing,
		"declare c cursor for select 1":                                 Nothing,
		"declare c cursor without hold for select 1":                    Nothing,
		"prepare transaction 'x'":                                       Nothing,
		"select pg_advisory_xact_lock(1)":                               Nothing,
		"select hold, temp from t with_":                                Nothing,
		"reset all":                                                     Nothing,
		"reset timezone":                                                Nothing,
		"unlisten *":                                                    Nothing,
		"discard all":                                                   Nothing,
		"explain analyze select 1":                                      Nothing,
		"copy t from stdin":                                             Nothing,
		"set work_mem = '1GB'":                                          Setting,
		"SET/**/session/**/work_mem to 1":                               Setting,
		"set my.var = 1":                                                Setting,
		"set timezone.x = 1":                                            Setting,
		"set session timezone.x = 1":                                    Setting,
		"set role x":                                                    Setting,
		"set session authorization x":                                   Setting,
		"set session characteristics as transaction read only":          Setting,
		"set xml option document":                                       Setting,
		"begin; set work_mem = 1; commit":                               Setting,
		"select 1; set work_mem = 1":                                    Setting,
		"select set_config('a', 'b', false)":                            Setting,
		"select set_config('a', 'b', $1)":                               Setting,
		"select set_config('a', 'true', f(true))":                       Setting,
		"select set_config('a', 'b', not true)":                         Setting,
		"select set_config('a', 'b', true and false)":                   Setting,
		"select \"set_config\"('a', 'b', false)":                        Setting,
		"select set_config":                                             Setting,
		"select set_config('a', set_config('b', 'c', false), true)":     Setting,
		"select setseed(0.5)":                                           Setting,
		"listen a":                                                      Listening,
		"select 1 ; LISTEN a":                                           Listening,
		"select pg_advisory_lock(1)":                                    Lock,
		"select pg_catalog . \"pg_try_advisory_lock\" (1)":              Lock,
		"with x as (select pg_advisory_lock_shared(1)) select * from x": Lock,
		"create temp table x (a int)":                                   Temporary,
		"CREATE LOCAL TEMPORARY TABLE x AS SELECT 1":                    Temporary,
		"create or replace temp view v as select 1":                     Temporary,
		"select 1 as a into temp x":                                     Temporary,
		"select 1 as a into local temporary table x":                    Temporary,
		"create table pg_temp.x (a int)":                                Temporary,
		"explain analyze create temp table x as select 1":               Temporary,
		"create temp table x (a int) on commit delete rows":             Temporary,
		"declare c cursor with hold for select 1":                       Held,
		"declare c insensitive scroll cursor with hold for select 1":    Held,
		"prepare a as select 1":                                         Prepared,
		"select lastval()":                                              Sequence,
		"select currval('s')":                                           Sequence,
		"do $$ begin perform 1; end $$":                                 Code,
		"call p()":                                                      Code,
		"load 'auto_explain'":                                           Code,
		"frobnicate":                                                    Unknown,
		"select 'open":                                                  Unknown,
		"select /* open":                                                Unknown,
		"select $a$ open":                                               Unknown,
		"select U&\"set\\005fconfig\"('a', 'b', false)":                 Unknown,
		"set": Unknown,
		"'x'": Unknown,
	} {
		if got := Look([]byte(sql), true, nil); got.Pin != want {
			t.Errorf("%q keeps the server because of %q, want %q", sql, got.Pin, want)
		}
		if got := Look([]byte(sql), false, nil); got.Pin != Unknown {
			t.Errorf("%q in a session that reads strings otherwise: %q", sql, got.Pin)
		}
	}
	if (Shape{}).Pin == Nothing {
		t.Error("the zero shape lets a server go")
	}
}

func TestLookTracksSettings(t *testing.T) {
	for sql, want := range map[string]string{
		"set timezone = 'UTC'":                             "TimeZone",
		"set time zone local; SET DateStyle to 'ISO'":      "DateStyle TimeZone",
		"set search_path to a, b":                          "search_path",
		"set schema 'a'":                                   "search_path",
		"set names 'LATIN1'; set \"client_encoding\" to x": "client_encoding",
		"set local timezone = 'UTC'":                       "",
		"set application_name to 'a'":                      "application_name",
	} {
		got := Look([]byte(sql), true, nil)
		var names []string
		for i, n := range tracked {
			if got.Sets>>i&1 == 1 {
				names = append(names, n)
			}
		}
		if s := strings.Join(names, " "); s != want || got.Pin != Nothing {
			t.Errorf("%q sets %q (%q), want %q", sql, s, got.Pin, want)
		}
	}
}

func TestLookFindsDeallocate(t *testing.T) {
	for sql, want := range map[string]string{
		"deallocate a": "a", "DEALLOCATE PREPARE \"A b\" ;": "A b", "deallocate all": "", "deallocate prepare all": "",
		"deallocate a; select 1": "", "select 1; deallocate a": "", "deallocate a b": "", "deallocate _Pg3_0": "_pg3_0",
	} {
		if got := Look([]byte(sql), true, nil); got.Deallocate != want || got.Pin != Nothing {
			t.Errorf("%q deallocates %q (%q), want %q", sql, got.Deallocate, got.Pin, want)
		}
	}
}

func FuzzLook(f *testing.F) {
	for _, s := range []string{"select 1", "set a = $$b$$", "select set_config('a','b',true)", "/*/**/*/ listen x", "e'\\'' ; do", "U&'x'", "$1$a$"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sql []byte) {
		shape := Look(sql, true, nil)
		// Whatever stands before: a LISTEN of its own is always seen, or nothing is understood.
		if again := Look(append(append([]byte(nil), sql...), "\n; listen x"...), true, nil); shape.Pin == Nothing && again.Pin == Nothing {
			t.Errorf("%q hides what follows it", sql)
		}
	})
}
