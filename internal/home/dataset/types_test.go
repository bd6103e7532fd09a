package dataset

import (
	"fmt"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// samples are values of types that need one; types that are not listed get NULL alone.
var samples = map[string]string{
	"bool": "true", "bytea": `'\x00ff5c'`, `char`: "'x'", "name": "'n'", "int8": "'-9223372036854775808'", "int2": "'-32768'", "int2vector": "'1 2'",
	"int4": "2147483647", "regproc": "'now'", "text": `E'tab\tnewline\nback\\slash \\N é'`, "oid": "42", "tid": "'(1,2)'", "xid": "'7'", "cid": "'7'",
	"oidvector": "'1 2'", "json": `'{"b": 1,  "a": [1, "x\ny"]}'`, "xml": "'<a>b</a>'", "point": "'(1.5,2)'", "lseg": "'[(1,2),(3,4)]'", "path": "'[(1,2),(3,4)]'",
	"box": "'(3,4),(1,2)'", "polygon": "'((1,2),(3,4))'", "line": "'{1,2,3}'", "cidr": "'10.0.0.0/8'", "float4": "1.1", "float8": "0.1", "circle": "'<(1,2),3>'",
	"money": "12.34", "macaddr": "'08:00:2b:01:02:03'", "inet": "'2001:db8::5/64'", "macaddr8": "'08:00:2b:01:02:03:04:05'", "aclitem": "'=r/postgres'",
	"bpchar": "'pad  '", "varchar": "'v'", "date": "'0044-03-15 BC'", "time": "'23:59:59.5'", "timestamp": "'infinity'", "timestamptz": "'2024-02-29 23:59:59.123456+05:30'",
	"interval": "'1 year 2 mons -3 days 04:05:06.7'", "timetz": "'10:00:00+02'", "bit": "B'1'", "varbit": "B'10101'", "numeric": "12345678901234567890.1230",
	"uuid": "'6f0b0c3e-0f3c-4d0e-9a43-0f0000000001'", "tsvector": "'a:1 b:2'", "tsquery": "'a & b'", "regclass": "'pg_class'", "jsonb": `'{"k": "é\"\\", "n": 1.50}'`,
	"int4range": "'[1,5)'", "numrange": "'(1.5,)'", "tsrange": "'empty'", "tstzrange": "'[2024-01-01,2025-01-01)'", "daterange": "'[2024-01-01,2024-02-01)'", "int8range": "'[1,2)'",
	"int4multirange": "'{[1,3),[5,8)}'", "jsonpath": "'$.a[*]'", "pg_lsn": "'16/B374D848'", "regtype": "'integer'", "refcursor": "'c'",
	"txid_snapshot": "'10:20:10,14'", "pg_snapshot": "'10:20:10,14'", "xid8": "'9'", "regrole": "'postgres'", "regnamespace": "'pg_catalog'",
}

// TestEveryTypeStandsClear gives a table a column of every base, range and array type that
// PostgreSQL lets a column have, and of an enum, domains and a composite, and builds it.
func TestEveryTypeStandsClear(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, source *pgtest.Cluster) {
		t.Parallel()
		dsn := source.Database(t)
		source.Exec(t, dsn, `CREATE SCHEMA app; CREATE TYPE app."Mood" AS ENUM ('sad', 'it''s ok'); CREATE DOMAIN app.small AS integer; CREATE DOMAIN app.checked AS text CHECK (length(VALUE) < 99);
			CREATE DOMAIN app.moody AS app."Mood"; CREATE DOMAIN app.nested AS app.small; CREATE TYPE app.pair AS (a int, b text); CREATE TYPE app.span AS RANGE (subtype = float8)`)
		conn := source.Connect(t, dsn)
		types := rows(t, conn, `SELECT t.typname, pg_catalog.format_type(t.oid, NULL) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
			WHERE n.nspname = 'pg_catalog' AND t.typtype IN ('b','r','m') AND t.typcategory <> 'Z' AND t.typrelid = 0 AND NOT EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typtype IN ('c','p')) AND t.typname <> '_cstring' AND t.typname !~ '^_?pg_(node_tree|ndistinct|dependencies|mcv_list|brin)' ORDER BY t.typname`)
		var create, columns, insert []string
		var cat, held strings.Builder
		add := func(i int, typ, value string) {
			name := fmt.Sprintf("c%d", i)
			create = append(create, name+" "+typ)
			columns = append(columns, name)
			insert = append(insert, value)
			cat.WriteString(column(name, strings.ReplaceAll(typ, `"`, `\"`), "behaviour", ""))
			fmt.Fprintf(&held, "          - {name: %s, form: clear}\n", name)
		}
		n := 0
		for _, line := range types {
			name, typ, _ := strings.Cut(line, "|")
			value := samples[name]
			if elem, ok := strings.CutPrefix(name, "_"); ok && samples[elem] != "" {
				value = "ARRAY[" + samples[elem] + "::" + strings.TrimSuffix(typ, "[]") + ", NULL]"
			}
			if value == "" {
				value = "NULL"
			} else {
				value = "(" + value + ")::" + typ
			}
			add(n, typ, value)
			n++
		}
		for typ, value := range map[string]string{`app."Mood"`: "'it''s ok'", `app."Mood"[]`: `ARRAY['sad','it''s ok']::app."Mood"[]`, "app.small": "7", "app.small[]": "ARRAY[7,8]::app.small[]",
			"app.checked": "'x'", "app.moody": "'sad'", "app.nested": "9", "app.pair": "ROW(1,'a,b')::app.pair", "app.span": "'[1,2)'", "character(5)": "'ab'", "character varying(5)[]": "'{ab}'",
			"numeric(10,2)[]": "'{1.5}'", "timestamp(3) with time zone": "now()", "bit(3)": "B'101'"} {
			add(n, typ, value)
			n++
		}
		f := setupOn(t, source, dsn, datasetCluster(t), fmt.Sprintf("CREATE TABLE app.t (id int PRIMARY KEY, %s); INSERT INTO app.t (id, %s) SELECT i, %s FROM generate_series(1, 3) i",
			strings.Join(create, ", "), strings.Join(columns, ", "), strings.Join(insert, ", ")),
			wholeCatalog("person: {table: app.t, key: id, residence: id}\ntables:\n  - table: app.t\n    subject: {nobody: true}\n    columns:\n"+column("id", "integer", "behaviour", "")+cat.String()),
			"version: 1\ndatasets:\n  - name: NAME\n    cluster: inside\n    purpose: research\n    source: app\n    rows: {residence: [EEA]}\n    tables:\n      - table: app.t\n        columns:\n          - {name: id, form: clear}\n"+held.String())
		f.build()
		f.verified()
		list := strings.Join(columns, ", ")
		want, got := rows(t, conn, "SELECT id, "+list+" FROM app.t ORDER BY id"), f.rows("SELECT id, "+list+" FROM app.t ORDER BY id")
		if len(want) != 3 || strings.Join(want, "\n") != strings.Join(got, "\n") {
			for i, w := range strings.Split(want[0], "|") {
				if g := strings.Split(got[0], "|"); i < len(g) && g[i] != w {
					t.Errorf("column %d: %s is held as %s", i, w, g[i])
				}
			}
			t.Fatalf("%d columns of clear values differ", n)
		}
		if n < 100 {
			t.Errorf("only %d types were tried", n)
		}
		if typ := f.one(`SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'app.t'::regclass AND attname = 'id'`); typ != "integer" {
			t.Errorf("id is %s", typ)
		}
	})
}

// TestFormsOfEveryTypeReadBack builds pseudonyms and generalisations of every type that has
// them: PostgreSQL takes each, and prints it as the transform wrote it.
func TestFormsOfEveryTypeReadBack(t *testing.T) {
	t.Parallel()
	forms := []struct{ typ, value, form string }{
		{"bigint", "i", "pseudonymised"}, {"integer", "-i", "pseudonymised"}, {"smallint", "i", "pseudonymised"}, {"numeric(20,0)", "i", "pseudonymised"},
		{"uuid", "md5(i::text)::uuid", "pseudonymised"}, {"text", "'t' || i", "pseudonymised"}, {"character varying(20)", "i::text", "pseudonymised"}, {"character(30)", "i::text", "pseudonymised"},
		{"name", "i::text::name", "pseudonymised"}, {"bytea", "int4send(i)", "pseudonymised"}, {"inet", "'10.0.0.0'::inet + i", "pseudonymised"}, {"inet", "'2001:db8::'::inet + i", "pseudonymised"},
		{"cidr", "'10.0.0.0/8'", "pseudonymised"}, {"macaddr", "'08:00:2b:01:02:03'", "pseudonymised"}, {"macaddr8", "'08:00:2b:01:02:03:04:05'", "pseudonymised"},
		{"bigint[]", "ARRAY[i, NULL, -i]", "pseudonymised"}, {"text[]", "ARRAY['a', 'b,\"c']", "pseudonymised"}, {"uuid[]", "ARRAY[md5(i::text)::uuid]", "pseudonymised"}, {"bytea[]", "ARRAY[int4send(i)]", "pseudonymised"},
		{"date", "date '0044-03-15 BC' + i", "generalised, by: year"}, {"date", "'infinity'", "generalised, by: month"}, {"timestamp with time zone", "now() - i * interval '1 day'", "generalised, by: hour"},
		{"timestamp without time zone", "'9999-12-31 23:59:59.9'", "generalised, by: day"}, {"timestamp(0) with time zone", "'-infinity'", "generalised, by: year"}, {"time without time zone", "'23:59:59.9'", "generalised, by: hour"},
		{"text", "repeat('é', i)", "generalised, by: 'prefix:2'"}, {"character(8)", "'abcdef'", "generalised, by: 'prefix:2'"}, {"inet", "'10.1.2.3'", "generalised, by: net"}, {"inet", "'::5'", "generalised, by: net"},
		{"cidr", "'2001:db8:1::/64'", "generalised, by: net"}, {"text", "'192.168.1.77'", "generalised, by: net"}, {"integer", "-i", "generalised, by: 'bucket:10'"}, {"bigint", "i * 1000", "generalised, by: 'bucket:7'"},
		{"numeric(10,2)", "i * 1.5", "generalised, by: 'bucket:5'"}, {"numeric", "-i * 1.5", "generalised, by: 'bucket:5'"}, {"double precision", "i * 1e14", "generalised, by: 'bucket:3'"},
		{"real", "i * 1e5", "generalised, by: 'bucket:3'"}, {"numeric(10,2)[]", "ARRAY[i * 1.5]", "generalised, by: 'bucket:5'"}, {"app.mood", "'sad'", "generalised, by: lookup, lookup: {sad: ok}"},
		{"boolean", "true", "generalised, by: lookup, lookup: {t: 'false'}"}, {"character(4)", "'ab'", "generalised, by: lookup, lookup: {ab: cd}"}, {"app.mail", "'a@b'", "pseudonymised"}, {"app.num[]", "ARRAY[i]::app.num[]", "pseudonymised"},
		{"xml", "'<a/>'", "withheld, 'null': true"}, {"jsonb", `'{"a": {"id": 5, "é": [1, 2]}, "b": 1.50}'`, `paths: {/a/id: {form: pseudonymised}, /b: {form: clear}, /a/é: {form: clear}}`},
	}
	var create, columns, insert []string
	var cat, held strings.Builder
	for n, f := range forms {
		name := fmt.Sprintf("c%d", n)
		create, columns, insert = append(create, name+" "+f.typ), append(columns, name), append(insert, f.value)
		cat.WriteString(column(name, f.typ, "behaviour", ""))
		form := "form: " + f.form
		if strings.HasPrefix(f.form, "paths") {
			form = f.form
		}
		fmt.Fprintf(&held, "          - {name: %s, %s}\n", name, form)
	}
	f := setup(t, fmt.Sprintf(`CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('sad', 'ok'); CREATE DOMAIN app.mail AS text CHECK (VALUE LIKE '%%@%%'); CREATE DOMAIN app.num AS integer;
		CREATE TABLE app.t (id int PRIMARY KEY, %s); INSERT INTO app.t (id, %s) SELECT i, %s FROM generate_series(1, 40) i`,
		strings.Join(create, ", "), strings.Join(columns, ", "), strings.Join(insert, ", ")),
		wholeCatalog("person: {table: app.t, key: id, residence: id}\ntables:\n  - table: app.t\n    subject: {nobody: true}\n    columns:\n"+column("id", "integer", "behaviour", "")+cat.String()),
		"version: 1\ndatasets:\n  - name: NAME\n    cluster: inside\n    purpose: research\n    source: app\n    rows: {residence: [EEA]}\n    tables:\n      - table: app.t\n        columns:\n          - {name: id, form: pseudonymised}\n"+held.String())
	r := f.build()
	if r.Measured.BadValues != 0 || r.Measured.Rows != 40 {
		t.Errorf("measured %+v", r.Measured)
	}
	f.verified()
}
