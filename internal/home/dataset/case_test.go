package dataset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/keyring"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// open makes a case of the fixture's dataset and makes it the fixture's own.
func (f *fixture) openCase(subjects ...string) string {
	f.t.Helper()
	of := f.name
	f.name = "case_" + f.name
	if err := f.b.SetCases([]Case{{ID: "00112233445566aa", Name: f.name, Of: of, Subjects: subjects, Until: time.Now().Add(time.Hour)}}); err != nil {
		f.t.Fatal(err)
	}
	name := f.name
	f.t.Cleanup(func() {
		if f.target.Running() {
			f.target.Exec(f.t, f.target.SuperuserDSN("postgres"), `DROP DATABASE IF EXISTS "`+name+`" WITH (FORCE)`, `DROP ROLE IF EXISTS "`+group(name)+`"`)
		}
	})
	return of
}

// whole compares a case with a transform of the whole source, every table read from end to end.
func (f *fixture) whole() *Verification {
	f.t.Helper()
	ctx := testContext(f.t)
	s, err := openSource(ctx, f.dsn, 2)
	if err != nil {
		f.t.Fatal(err)
	}
	defer s.close()
	p, err := f.b.makePlan(f.name, s.schema)
	if err != nil {
		f.t.Fatal(err)
	}
	p.narrow = nil
	conn := f.connect("")
	if err := fix(ctx, conn); err != nil {
		f.t.Fatal(err)
	}
	v, err := f.b.compare(ctx, p, s, conn, compareOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		f.t.Fatal(err)
	}
	return v
}

const ring = `CREATE SCHEMA app;
	CREATE TABLE app.person (id bigint PRIMARY KEY, mail text NOT NULL UNIQUE, friend bigint REFERENCES app.person);
	CREATE TABLE app.shop (code text PRIMARY KEY, label text);
	CREATE TABLE app.post (id bigint PRIMARY KEY, author bigint NOT NULL REFERENCES app.person, newest bigint, shop text REFERENCES app.shop);
	CREATE TABLE app.reply (id bigint PRIMARY KEY, post bigint NOT NULL REFERENCES app.post, writer bigint NOT NULL REFERENCES app.person, answers bigint REFERENCES app.reply, likes int);
	CREATE TABLE app.tag (reply bigint REFERENCES app.reply, word text, PRIMARY KEY (reply, word));
	INSERT INTO app.person SELECT i, 'p' || i || '@example.org', CASE WHEN i > 1 THEN i - 1 END FROM generate_series(1, 2000) i;
	INSERT INTO app.shop SELECT 's' || i, 'shop ' || i FROM generate_series(1, 20) i;
	INSERT INTO app.post SELECT i, 1 + i % 2000, NULL, 's' || 1 + i % 20 FROM generate_series(1, 8000) i;
	INSERT INTO app.reply SELECT i, CASE WHEN i % 2 = 0 THEN i % 2000 + 2000 * (1 + i / 2000 % 3) ELSE 1 + (i * 7) % 8000 END, 1 + i % 2000, CASE WHEN i % 10 > 3 THEN i - 3 END, i % 9 FROM generate_series(1, 20000) i;
	INSERT INTO app.tag SELECT i, 'w' || i % 5 FROM generate_series(1, 20000) i;
	UPDATE app.post SET newest = (SELECT max(r.id) FROM app.reply r WHERE r.post = post.id) WHERE id <= 100;
	ALTER TABLE app.post ADD FOREIGN KEY (newest) REFERENCES app.reply;
	CREATE INDEX ON app.person (friend); CREATE INDEX ON app.post (author); CREATE INDEX ON app.post (newest); CREATE INDEX ON app.reply (post); CREATE INDEX ON app.reply (writer);
	CREATE INDEX ON app.reply (answers); CREATE INDEX ON app.tag (reply); ANALYZE;`

func keyColumn(name, domain string) string {
	return column(name, "bigint", "identifier", ", domain: "+domain+", trait: key")
}

var ringCatalog = wholeCatalog("person: {table: app.person, key: id, residence: mail}\ntables:\n" +
	"  - table: app.person\n    subject: {self: true}\n    references: [{columns: [friend], to: app.person, of: [id]}]\n    columns:\n" + keyColumn("id", "person") + column("mail", "text", "contact", "") + keyColumn("friend", "person") +
	"  - table: app.shop\n    subject: {nobody: true}\n    columns:\n" + column("code", "text", "behaviour", ", trait: neutral") + column("label", "text", "behaviour", ", trait: neutral") +
	"  - table: app.post\n    subject: {column: author}\n    references: [{columns: [author], to: app.person, of: [id]}, {columns: [newest], to: app.reply, of: [id]}, {columns: [shop], to: app.shop, of: [code]}]\n    columns:\n" +
	keyColumn("id", "post") + keyColumn("author", "person") + keyColumn("newest", "reply") + column("shop", "text", "behaviour", ", trait: neutral") +
	"  - table: app.reply\n    subject: {column: writer}\n    references: [{columns: [post], to: app.post, of: [id]}, {columns: [writer], to: app.person, of: [id]}, {columns: [answers], to: app.reply, of: [id]}]\n    columns:\n" +
	keyColumn("id", "reply") + keyColumn("post", "post") + keyColumn("writer", "person") + keyColumn("answers", "reply") + column("likes", "integer", "behaviour", "") +
	"  - table: app.tag\n    subject: {via: reply}\n    references: [{columns: [reply], to: app.reply, of: [id]}]\n    columns:\n" + keyColumn("reply", "reply") + column("word", "text", "behaviour", ", trait: neutral"))

const ringDatasets = `version: 1
datasets:
  - name: NAME
    cluster: outside
    purpose: research
    source: app
    rows: {condition: 'person.id > 0'}
    tables:
      - {table: app.person, columns: [{name: id, form: pseudonymised}, {name: mail, form: pseudonymised}, {name: friend, form: pseudonymised}]}
      - {table: app.shop, columns: [{name: code, form: clear}, {name: label, form: clear}]}
      - {table: app.post, columns: [{name: id, form: pseudonymised}, {name: author, form: pseudonymised}, {name: newest, form: pseudonymised}, {name: shop, form: clear}]}
      - {table: app.reply, columns: [{name: id, form: pseudonymised}, {name: post, form: pseudonymised}, {name: writer, form: pseudonymised}, {name: answers, form: pseudonymised}, {name: likes, form: clear}]}
      - {table: app.tag, columns: [{name: reply, form: pseudonymised}, {name: word, form: clear}]}
`

// A case holds what a standing dataset of the same subjects would, through circles of references,
// references to others and to rows of nobody, and it finds them by index alone.
func TestACaseIsReadByIndexAndHoldsWhatItShould(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, ring, ringCatalog, ringDatasets)
	f.openCase("7", "8", "9", "1998", "no-number", "4000000", "7")
	f.noScans(conn, "shop", func() {
		if r := f.build(); r.Measured.Subjects != 4 {
			t.Errorf("%d subjects", r.Measured.Subjects)
		}
		f.verified()
	})
	if v := f.whole(); !v.Equal {
		t.Errorf("it is not what a reading of the whole source gives: %+v", v.Tables)
	}
	for sql, want := range map[string]string{
		"SELECT count(*) FROM app.person": "4", "SELECT count(*) FROM app.post": "16", "SELECT count(*) FROM app.shop": "20",
		"SELECT count(*) FROM app.person WHERE friend IS NULL": "2", // 7 and 1998 lead out of the case
	} {
		if got := f.one(sql); got != want {
			t.Errorf("%s: %s, not %s", sql, got, want)
		}
	}
	if n := f.one("SELECT count(*) FROM app.tag"); n == "0" {
		t.Error("rows that lead on are not there")
	}
}

func TestACaseFollows(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, ring, ringCatalog, ringDatasets)
	f.openCase("7", "8")
	f.follow()
	f.caughtUp(conn)
	sourceDo(t, conn, "INSERT INTO app.post VALUES (9001, 7, NULL, 's1'), (9002, 11, NULL, 's1')", "INSERT INTO app.reply VALUES (30001, 9001, 7, NULL, 3)", "UPDATE app.reply SET likes = 100 WHERE writer = 8")
	f.caughtUp(conn)
	f.verified()
	if v := f.whole(); !v.Equal {
		t.Errorf("%+v", v.Tables)
	}
	if got := f.one("SELECT count(*) FROM app.reply WHERE likes = 3"); got == "0" {
		t.Error("a new row of a subject is not there")
	}
}

// An analyst asks for a case of one known person, in pseudonymised form, to open it where a
// standing pseudonymised dataset may be opened, or to learn that person's pseudonym there.
func TestACaseSinglesNobodyOut(t *testing.T) {
	t.Parallel()
	f := setup(t, ring, ringCatalog, ringDatasets)
	def, _, err := f.b.Define(f.name)
	if err != nil {
		t.Fatal(err)
	}
	if class, why := catalog.ClassOf(def); class != law.ClassPseudonymised {
		t.Fatalf("the standing dataset is %s: %v", class, why)
	}
	standing := f.name
	f.b.cfg.Hold = nil
	f.openCase("7")
	def, _, err = f.b.Define(f.name)
	if err != nil {
		t.Fatal(err)
	}
	if class, why := catalog.ClassOf(def); class != law.ClassClear || len(why) != 1 || def.Cluster != "inside" {
		t.Errorf("a case of one is %s in the cluster %s: %v", class, def.Cluster, why)
	}
	outside := *def
	outside.Cluster = "outside"
	if err := f.b.allowed(&outside); err == nil {
		t.Error("a case may be built outside")
	}
	f.build()
	mine := f.one("SELECT id FROM app.person")
	f.name = standing
	f.b.cfg.Datasets.Dataset(standing).K = 0
	f.build()
	if slices.Contains(f.rows("SELECT id FROM app.person"), mine) {
		t.Error("the pseudonym of a case is that of the standing dataset")
	}
	if strings.Contains(fmt.Sprint(def.Rows), "7") && def.Rows[CaseRow] == "7" {
		t.Error("the definition names the subject")
	}
	other, err := f.b.newCase(Case{ID: "00112233445566aa", Name: "case_x", Of: standing, Subjects: []string{"8"}, Until: time.Now()})
	if err != nil || trefoil.DefinitionHash(other.def) == trefoil.DefinitionHash(def) {
		t.Errorf("a case of somebody else has the same definition: %v", err)
	}
}

func TestTheEndOfACaseLeavesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, ring, ringCatalog, ringDatasets)
	f.openCase("7", "8", "9")
	var records []trefoil.CatalogBody
	f.b.cfg.Recorder = recorderFunc(func(b trefoil.CatalogBody) { records = append(records, b) })
	f.build()
	admin := f.target.Connect(t, f.target.SuperuserDSN("postgres"))
	files := filepath.Join(rows(t, admin, "SELECT current_setting('data_directory')")[0], "base", rows(t, admin, "SELECT oid FROM pg_database WHERE datname = '"+f.name+"'")[0])
	if _, err := os.Stat(files); err != nil {
		t.Skipf("the cluster's files are not to be seen: %v", err)
	}
	_, hash, err := f.b.Define(f.name)
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.b.EndCase(testContext(t), f.name)
	if err != nil || d.Rows == 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	if left, _ := filepath.Glob(filepath.Join(files, "*")); len(left) > 0 {
		t.Errorf("%d files of it are left", len(left))
	}
	last := records[len(records)-1]
	if last.Event != "dropped" || last.Hash != hash || last.Definition.Name != f.name || last.Measured == nil || last.Measured.Subjects != 3 {
		t.Errorf("the record of the drop is %+v", last)
	}
	if _, err := f.b.BuildReport(testContext(t), f.name); !errors.Is(err, keyring.ErrDestroyed) {
		t.Errorf("it can be built again: %v", err)
	}
	if _, err := f.b.EndCase(testContext(t), f.name); err != nil {
		t.Errorf("ending it twice: %v", err)
	}
}

func TestCasesThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, ring, ringCatalog, ringDatasets)
	good := Case{ID: "00112233445566aa", Name: "case_a", Of: f.name, Subjects: []string{"1"}, Until: time.Now()}
	for name, change := range map[string]func(*Case){
		"no subject": func(c *Case) { c.Subjects = nil }, "no end": func(c *Case) { c.Until = time.Time{} }, "another's name": func(c *Case) { c.Name = f.name },
		"a name that is SQL": func(c *Case) { c.Name = `case_"; DROP` }, "of nothing": func(c *Case) { c.Of = "none" }, "no id": func(c *Case) { c.ID = "" },
		"a whole population": func(c *Case) { c.Subjects = make([]string, caseSubjectsMost+1) },
	} {
		c := good
		change(&c)
		if err := f.b.SetCases([]Case{good, c}); err == nil {
			t.Errorf("%s: taken", name)
		}
		if _, ok := f.b.Case(good.Name); !ok {
			t.Errorf("%s: a good case went with it", name)
		}
	}
}

// recorderFunc is a Recorder that only keeps.
type recorderFunc func(trefoil.CatalogBody)

func (r recorderFunc) Record(_ context.Context, b trefoil.CatalogBody) error {
	r(b)
	return nil
}
