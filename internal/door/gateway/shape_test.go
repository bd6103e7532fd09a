package gateway

import (
	"fmt"
	"hash/maphash"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/statement"
)

// fill writes values into a template: # stands for an integer, ~ for a decimal, @ for a
// string.
func fill(template string, integer int, decimal, text string) string {
	return strings.NewReplacer("#", fmt.Sprint(integer), "~", decimal, "@", "'"+text+"'").Replace(template)
}

func fingerprintOf(sql string) string {
	return statement.Classify(sql, statement.Known{}, nil).Fingerprint
}

// TestOneShapeManyTexts: texts that differ in their values alone have one shape.
func TestOneShapeManyTexts(t *testing.T) {
	seed := maphash.MakeSeed()
	for _, template := range []string{
		"SELECT abalance FROM pgbench_accounts WHERE aid = #;",
		"UPDATE pgbench_accounts SET abalance = abalance + # WHERE aid = #;",
		"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (#, #, #, #, CURRENT_TIMESTAMP);",
		"select a1, t2.b_3 from t1 t2 where a1 in (#, #) and c = @ and d > ~ limit #",
		"  with x as (select @::text as \"a 1\") select * from x where $1 = #",
		"select # -- trace #\n from t",
		"select /* a /* nested */ # */ # from t",
		"delete from t where d = -# or e = @ || @",
		"VALUES (#, @, ~), (#, @, ~)",
		"select '" + strings.Repeat("long ", 2000) + "', #",
		"select " + strings.Repeat("c, ", 2000) + "#",
	} {
		a, b := fill(template, 7, "1.5", "x"), fill(template, 123456, "2e-9", "it''s; -- $1 /*")
		if hashShape(seed, []byte(a)) != hashShape(seed, []byte(b)) {
			t.Errorf("two shapes: %.60s, %.60s", a, b)
		}
		if fa, fb := fingerprintOf(a), fingerprintOf(b); fa != fb || fa == "" {
			t.Errorf("one shape, fingerprints %q and %q: %.60s", fa, fb, template)
		}
	}
}

// TestOtherMeaningOtherShape: what differs in more than values is told apart.
func TestOtherMeaningOtherShape(t *testing.T) {
	seed := maphash.MakeSeed()
	for _, pair := range [][2]string{
		{"select a from t1", "select a from t2"},
		{"select $1", "select $2"},
		{"select 1", "select '1'"},
		{"select 1; select 1", "select 1; drop table t"},
		{`select 'a\'; select 2 --'`, `select 'a\'; select 3 --'`},
		{`select E'\''`, `select E'\'', 2`},
		{"select $$a$$", "select $$b$$"},
		{`select "1"`, `select "2"`},
		{"set a = 'x'", "set a = 'y'"},
		{"copy t from 'a'", "copy t from 'b'"},
		{"select 1 /* */ from t", "select 1 from t /* */ where a"},
		{"select U&'d!0061t' UESCAPE '!'", "select U&'d!0061t' UESCAPE '#'"},
		{"select 'a", "select 'b"},
		{"select 1a", "select 2a"},
		{"select x'1f'", "select x'2f'"},
		{"select 1\x02", "select \x02\x02"},
	} {
		if hashShape(seed, []byte(pair[0])) == hashShape(seed, []byte(pair[1])) {
			t.Errorf("one shape: %q and %q", pair[0], pair[1])
		}
	}
}

// TestShapesAreNotAllocated: on the hot path.
func TestShapesAreNotAllocated(t *testing.T) {
	seed := maphash.MakeSeed()
	sql := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 12345;")
	if n := testing.AllocsPerRun(100, func() { hashShape(seed, sql) }); n != 0 {
		t.Errorf("%v allocations a statement", n)
	}
}

// FuzzShape: whatever a statement is, texts of one shape have one fingerprint.
func FuzzShape(f *testing.F) {
	for _, s := range []string{"select # from t where a = @", "select @::interval(#)", "select '#' || @", "select e@", "select \"@\"",
		"insert into t values (#, ~) on conflict do nothing", "select # as a#", "select $#", "select a.# -- #", "select @ @", "select /*@*/#",
		"select t from t tablesample system (#)", "select interval @ year", "select extract(@ from b)", "select #::numeric(#, #)", "select b@", "values(#)", "with a as (select #) delete from t where b=@"} {
		f.Add(s)
	}
	seed := maphash.MakeSeed()
	f.Fuzz(func(t *testing.T, template string) {
		if len(template) > 300 || strings.Count(template, "#")+strings.Count(template, "@")+strings.Count(template, "~") > 20 {
			return
		}
		a, b := fill(template, 1, "1.5", "x"), fill(template, 98765, "20e3", "y''z")
		if hashShape(seed, []byte(a)) != hashShape(seed, []byte(b)) {
			return
		}
		fa, fb := fingerprintOf(a), fingerprintOf(b)
		if fa != "" && fb != "" && fa != fb {
			t.Fatalf("one shape, two fingerprints:\n%q\n%q", a, b)
		}
	})
}

func BenchmarkShape(b *testing.B) {
	seed := maphash.MakeSeed()
	sql := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 12345;")
	for b.Loop() {
		hashShape(seed, sql)
	}
}
