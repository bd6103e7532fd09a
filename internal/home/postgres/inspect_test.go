package postgres_test

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

const hardSchema = `
CREATE SCHEMA "Odd.Schema""x";
CREATE SCHEMA other;
CREATE TYPE other.mood AS ENUM ('sad', 'it''s ok', 'glücklich');
CREATE DOMAIN other.short AS varchar(10) NOT NULL CHECK (VALUE <> '');
CREATE DOMAIN other.shorter AS other.short CHECK (length(VALUE) < 5);
CREATE TYPE other.pair AS (a int, "B c" text);
CREATE TABLE "Odd.Schema""x"."Select.From" (
	"Order" bigint GENERATED ALWAYS AS IDENTITY,
	"group" int NOT NULL DEFAULT 7,
	"naïve ""col""" other.shorter,
	moods other.mood[],
	doc jsonb,
	twice int GENERATED ALWAYS AS ("group" * 2) STORED,
	cased text COLLATE "C",
	amount numeric(10,2),
	p other.pair,
	PRIMARY KEY ("Order", "group"),
	CONSTRAINT positive CHECK ("group" > 0)
);
CREATE INDEX odd_lower ON "Odd.Schema""x"."Select.From" (lower(cased)) INCLUDE (amount) WHERE "group" > 3;
CREATE TABLE other.child (
	id serial PRIMARY KEY, o bigint, g int, u uuid UNIQUE,
	CONSTRAINT to_odd FOREIGN KEY (o, g) REFERENCES "Odd.Schema""x"."Select.From" ("Order", "group") ON DELETE CASCADE
);
CREATE TABLE other.events (at timestamptz NOT NULL, who int REFERENCES other.child (id), n int) PARTITION BY RANGE (at);
CREATE TABLE other.events_2025 PARTITION OF other.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE other.events_rest PARTITION OF other.events DEFAULT;
CREATE UNLOGGED TABLE other.scratch (x int);
ALTER TABLE other.scratch REPLICA IDENTITY FULL;
ALTER TABLE other.child REPLICA IDENTITY USING INDEX child_pkey;
CREATE VIEW other.v AS SELECT 1 AS one;
INSERT INTO other.events SELECT '2025-06-01', NULL, i FROM generate_series(1, 500) i;
ANALYZE other.events_2025;
`

func TestInspectReadsWhatNobodyTailored(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, c *pgtest.Cluster) {
		dsn := c.Database(t)
		c.Exec(t, dsn, hardSchema)
		s, err := postgres.Inspect(testContext(t), c.Connect(t, dsn))
		if err != nil {
			t.Fatal(err)
		}
		odd := s.Table(`Odd.Schema"x.Select.From`)
		if odd == nil {
			t.Fatalf("the table with odd names is not found among %d tables", len(s.Tables))
		}
		if got := odd.Quoted(); got != `"Odd.Schema""x"."Select.From"` {
			t.Errorf("quoted name %s", got)
		}
		if !reflect.DeepEqual(odd.PrimaryKey.Columns, []string{"Order", "group"}) {
			t.Errorf("primary key %v", odd.PrimaryKey.Columns)
		}
		checkColumns(t, odd)
		child := s.Table("other.child")
		if len(child.ForeignKeys) != 1 || child.ForeignKeys[0].Table != odd.Name || child.ForeignKeys[0].OnDelete != "cascade" ||
			!reflect.DeepEqual(child.ForeignKeys[0].Of, []string{"Order", "group"}) {
			t.Errorf("foreign keys %+v", child.ForeignKeys)
		}
		if child.ReplicaIdentity != "index" || !child.Identified() || !child.UniqueOver("u") || child.UniqueOver("o") {
			t.Errorf("identity of child: %s, unique over u %v, over o %v", child.ReplicaIdentity, child.UniqueOver("u"), child.UniqueOver("o"))
		}
		events, part := s.Table("other.events"), s.Table("other.events_2025")
		if events.Kind != postgres.Partitioned || part.Parent == nil || *part.Parent != events.Name || !strings.HasPrefix(part.Bound, "FOR VALUES FROM") {
			t.Errorf("partitions: %+v, %+v", events, part)
		}
		if events.Rows != 500 || events.PartitionKey != "RANGE (at)" || events.Identified() {
			t.Errorf("partitioned table: %d rows, key %q, identified %v", events.Rows, events.PartitionKey, events.Identified())
		}
		if len(part.ForeignKeys) != 0 || len(events.ForeignKeys) != 1 {
			t.Errorf("inherited foreign keys are listed on the parent only: %d, %d", len(part.ForeignKeys), len(events.ForeignKeys))
		}
		if sc := s.Table("other.scratch"); !sc.Unlogged || !sc.Identified() {
			t.Errorf("unlogged %v, identified %v", sc.Unlogged, sc.Identified())
		}
		if len(s.Views) != 1 || len(s.Roots()) != 4 || s.WALLevel != "logical" || s.Encoding != "UTF8" {
			t.Errorf("views %v, roots %d, wal_level %s, encoding %s", s.Views, len(s.Roots()), s.WALLevel, s.Encoding)
		}
		if len(s.Domains) != 2 || len(s.Composites) != 1 || s.Composites[0].Fields[1] != `"B c" text` {
			t.Errorf("domains %d, composites %+v", len(s.Domains), s.Composites)
		}
	})
}

func checkColumns(t *testing.T, odd *postgres.Table) {
	t.Helper()
	for _, want := range []struct{ name, typ, kind, base, elem, identity, generated string }{
		{"Order", "bigint", "base", "bigint", "", "always", ""},
		{`naïve "col"`, "other.shorter", "domain", "character varying(10)", "", "", ""},
		{"moods", "other.mood[]", "array", "other.mood[]", "other.mood", "", ""},
		{"doc", "jsonb", "base", "jsonb", "", "", ""},
		{"twice", "integer", "base", "integer", "", "", "stored"},
		{"amount", "numeric(10,2)", "base", "numeric(10,2)", "", "", ""},
		{"p", "other.pair", "composite", "other.pair", "", "", ""},
	} {
		c := odd.Column(want.name)
		if c == nil {
			t.Errorf("column %s is missing", want.name)
			continue
		}
		if c.Type != want.typ || c.TypeKind != want.kind || c.BaseType != want.base || c.ElemType != want.elem || c.Identity != want.identity || c.Generated != want.generated {
			t.Errorf("column %s: %+v", want.name, c)
		}
	}
	if c := odd.Column("moods"); !reflect.DeepEqual(c.Enum, []string{"sad", "it's ok", "glücklich"}) || c.ElemKind != "enum" {
		t.Errorf("labels %q of %s", c.Enum, c.ElemKind)
	}
	if c := odd.Column(`naïve "col"`); !c.NotNull {
		t.Error("a domain's NOT NULL is not seen")
	}
	if c := odd.Column("cased"); c.Collation != `pg_catalog."C"` {
		t.Errorf("collation %q", c.Collation)
	}
	for _, ix := range odd.Indexes {
		if ix.Name == "odd_lower" && (ix.Predicate == "" || !ix.Expressions || !reflect.DeepEqual(ix.Include, []string{"amount"}) || !reflect.DeepEqual(ix.Columns, []string{""})) {
			t.Errorf("index %+v", ix)
		}
	}
}

func TestInspectNamesWhatTheRoleMayNotRead(t *testing.T) {
	c := pgtest.Start(t)
	dsn := c.Database(t)
	c.Exec(t, dsn, `
		CREATE TABLE open (a int, b int); CREATE TABLE half (a int, b int); CREATE TABLE shut (a int);
		CREATE SCHEMA hidden; CREATE TABLE hidden.t (a int);
		DROP ROLE IF EXISTS peeker; CREATE ROLE peeker LOGIN PASSWORD 'x';
		GRANT SELECT ON open TO peeker; GRANT SELECT (a) ON half TO peeker`)
	t.Cleanup(func() { c.Exec(t, dsn, "DROP OWNED BY peeker; DROP ROLE peeker") })
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Inspect(testContext(t), c.Connect(t, c.SocketDSN("peeker", "x", cfg.Database)))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"schema hidden: no USAGE", "table public.half: no SELECT on 1 of 2 columns", "table public.shut: no SELECT"}
	if !reflect.DeepEqual(s.Unreadable, want) {
		t.Errorf("unreadable: %q", s.Unreadable)
	}
}

func TestInspectInALATIN1DatabaseGivesUTF8Names(t *testing.T) {
	c := pgtest.Start(t)
	dsn := c.DatabaseWith(t, "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
	c.Exec(t, dsn, "SET client_encoding = 'UTF8'", `CREATE TABLE "élèves" ("prénom" text)`)
	s, err := postgres.Inspect(testContext(t), c.Connect(t, dsn))
	if err != nil {
		t.Fatal(err)
	}
	if tb := s.Table("public.élèves"); tb == nil || tb.Column("prénom") == nil || s.Encoding != "LATIN1" {
		t.Errorf("names %v in %s", s.Tables[0].Name, s.Encoding)
	}
}
