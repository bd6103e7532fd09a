package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// runTrefoil runs one command line in this process and returns what it printed and its error.
func runTrefoil(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	return out.String(), err
}

func loadSchema(t *testing.T, c *pgtest.Cluster, name string) string {
	t.Helper()
	with := ""
	if name == "latin1" {
		with = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
	}
	dsn := c.DatabaseWith(t, with)
	if name == "empty" {
		return dsn
	}
	sql, err := os.ReadFile(filepath.Join("..", "..", "internal", "home", "intake", "testdata", name+".sql"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(string(sql), "CREATE EXTENSION IF NOT EXISTS citext;", ""), "citext", "text")
	c.Exec(t, dsn, "ALTER DATABASE "+cfg.Database+" SET client_encoding = 'UTF8'")
	c.Exec(t, dsn, text, "ANALYZE")
	c.Exec(t, dsn, "ALTER DATABASE "+cfg.Database+" RESET client_encoding")
	return dsn
}

// TestFromADatabaseToReviewedFiles is a newcomer's way on schemas that nobody tailored:
// init, check says what waits, accept, check holds.
func TestFromADatabaseToReviewedFiles(t *testing.T) {
	versions := pgtest.Versions(t)
	for i, name := range []string{"store", "rental", "webapp", "legacy", "hospital", "latin1", "saas"} {
		v := versions[i%len(versions)] // what init proposes is tested on each version beside its code
		t.Run(fmt.Sprintf("%s-pg%d", name, v.Major), func(t *testing.T) {
			c := pgtest.Start(t, pgtest.WithBin(v.Bin))
			dir := filepath.Join(t.TempDir(), "enclave")
			config := filepath.Join(dir, "enclave.yaml")
			out, err := runTrefoil(t, "init", "--from", loadSchema(t, c, name), "--exporter", "Clover Limited", "--country", "IE", dir)
			if err != nil {
				t.Fatalf("init: %v\n%s", err, out)
			}
			noValues(t, name, out)
			out, err = runTrefoil(t, "check", "-c", config)
			if !errors.Is(err, errUnheld) || !strings.Contains(out, "Waits for review") || strings.Contains(out, "Does not hold") {
				t.Fatalf("check of what nobody reviewed: %v\n%s", err, out)
			}
			out, err = runTrefoil(t, "check", "-c", config, "--accept", "analytics")
			if err != nil || strings.HasPrefix(out, "0 columns") {
				t.Fatalf("accept: %v\n%s", err, out)
			}
			if out, err = runTrefoil(t, "check", "-c", config); err != nil {
				t.Fatalf("check of what was reviewed: %v\n%s", err, out)
			}
			noValues(t, name, out)
		})
	}
}

// noValues: what is printed or written about a schema holds none of its rows' values.
func noValues(t *testing.T, schema, out string) {
	t.Helper()
	for _, v := range []string{"@mail.example", "@store.example", "@courriel.example", "@post.example", "@sante.example", "@saas.example", "DE8937", "FR7630", "Main Street", "Hauptstra\u00dfe 1", "198.51.100."} {
		if strings.Contains(out, v) {
			t.Errorf("%s: a value of a row was printed: %s", schema, v)
		}
	}
}

func TestInitWritesNoValueAndNoPasswordIntoAnyFile(t *testing.T) {
	c := pgtest.Start(t)
	dsn := loadSchema(t, c, "webapp")
	dir := filepath.Join(t.TempDir(), "enclave")
	if out, err := runTrefoil(t, "init", "--from", dsn, dir); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		noValues(t, path, string(b))
		info, err := d.Info()
		if err != nil {
			return err
		}
		if strings.Contains(string(b), cfg.Password) && filepath.Base(path) != "pgpass" {
			t.Errorf("%s holds the source's password", path)
		}
		if secret := strings.Contains(path, "/keys/") || strings.HasSuffix(path, ".key"); secret && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func TestInitNeverOverwritesWithoutForce(t *testing.T) {
	c := pgtest.Start(t)
	dsn := loadSchema(t, c, "saas")
	dir := t.TempDir()
	mine := filepath.Join(dir, "catalog.yaml")
	if err := os.WriteFile(mine, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := runTrefoil(t, "init", "--from", dsn, dir); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Fatalf("init over a file: %v", err)
	}
	if b, _ := os.ReadFile(mine); string(b) != "mine" {
		t.Fatal("the file was overwritten")
	}
	if _, err := os.Stat(filepath.Join(dir, "enclave.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("some files were written all the same")
	}
	if _, err := runTrefoil(t, "init", "--force", "--from", dsn, dir); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "keys", "pseudonyms"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runTrefoil(t, "init", "--force", "--from", dsn, dir); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(filepath.Join(dir, "keys", "pseudonyms")); !bytes.Equal(key, again) {
		t.Fatal("--force replaced the key of all pseudonyms")
	}
}

func TestInitOfADatabaseWithoutPersonsSaysWhatToWrite(t *testing.T) {
	c := pgtest.Start(t)
	for _, name := range []string{"weather", "empty"} {
		out, err := runTrefoil(t, "init", "--from", loadSchema(t, c, name), filepath.Join(t.TempDir(), "e"))
		if err == nil || errors.Is(err, errUsage) || errors.Is(err, errUnheld) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "weather" && !strings.Contains(out, "person: {table, key, residence}") {
			t.Errorf("weather: %s", out)
		}
	}
	if _, err := runTrefoil(t, "init", t.TempDir()); !errors.Is(err, errUsage) {
		t.Errorf("init without --from: %v", err)
	}
}

// TestCheckFindsWhatChangedAtTheSource: drift, rights, and the statements that mend them.
func TestCheckFindsWhatChangedAtTheSource(t *testing.T) {
	c := pgtest.Start(t)
	dsn := loadSchema(t, c, "rental")
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	c.Exec(t, dsn, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN PASSWORD 'p:w\\d'", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
	t.Cleanup(func() { c.Exec(t, dsn, "DROP OWNED BY reader", "DROP ROLE reader") })
	dir := filepath.Join(t.TempDir(), "enclave")
	config := filepath.Join(dir, "enclave.yaml")
	if out, err := runTrefoil(t, "init", "--from", c.SocketDSN("reader", "p:w\\d", cfg.Database), "--exporter", "X", "--country", "NO", dir); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	if out, err := runTrefoil(t, "check", "-c", config, "--accept", "analytics"); err != nil {
		t.Fatalf("accept: %v\n%s", err, out)
	}
	out, err := runTrefoil(t, "check", "-c", config)
	if err != nil || !strings.Contains(out, `ALTER ROLE "reader" REPLICATION;`) || !strings.Contains(out, "CREATE PUBLICATION trefoil FOR TABLE") {
		t.Fatalf("check as a reader: %v\n%s", err, out)
	}
	c.Exec(t, dsn,
		"ALTER TABLE rental ADD COLUMN mood text", "CREATE TABLE brand_new (id int)", "ALTER TABLE customer ALTER COLUMN country_code TYPE text",
		"ALTER TABLE inventory DROP CONSTRAINT inventory_store_id_fkey", "DROP VIEW customer_list", "ALTER TABLE film DROP COLUMN rating",
		"REVOKE SELECT ON payment FROM reader", "ALTER TABLE rental DROP CONSTRAINT rental_pkey CASCADE")
	out, err = runTrefoil(t, "check", "-c", config)
	if !errors.Is(err, errUnheld) {
		t.Fatalf("check after changes: %v\n%s", err, out)
	}
	for _, want := range []string{
		"column public.rental.mood (text) is not in the catalog", "table public.brand_new is not in the catalog", "is character(2) in the catalog and text in the database",
		"public.inventory (store_id) is no foreign key", "column public.film.rating is not in the database", `ON "public"."payment" TO "reader";`,
		`ALTER TABLE "public"."rental" REPLICA IDENTITY FULL;`, "catalog.yaml:",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("check does not say: %s", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// TestCheckReportsAllFilesAtOnce: one mistake in each file, all in one answer, with places.
func TestCheckReportsAllFilesAtOnce(t *testing.T) {
	c := pgtest.Start(t)
	dir := filepath.Join(t.TempDir(), "enclave")
	config := filepath.Join(dir, "enclave.yaml")
	if out, err := runTrefoil(t, "init", "--from", loadSchema(t, c, "saas"), dir); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	spoil := func(file, old, new string) {
		t.Helper()
		path := filepath.Join(dir, file)
		b, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(b), old) {
			t.Fatalf("%s: %v, no %q", file, err, old)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	spoil("catalog.yaml", "category: contact", "category: contactt")
	spoil("datasets.yaml", "cluster: outside", "cluster: elsewhere")
	spoil("purposes.yaml", "basis: GDPR art. 6(1)(f)", "basis: ''")
	spoil("people.yaml", "version: 1", "version: 7")
	spoil("policy/open.cedar", "permit", "permitt")
	out, err := runTrefoil(t, "check", "-c", config)
	if !errors.Is(err, errUnheld) {
		t.Fatalf("check: %v\n%s", err, out)
	}
	for _, want := range []string{"enclave.yaml:", "exporter.country", "catalog.yaml:", "contactt", "datasets.yaml:", "inside or outside", "purposes.yaml:", "legal basis", "people.yaml:1", "policy"} {
		if !strings.Contains(out, want) {
			t.Errorf("check does not say: %s", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	if js, err := runTrefoil(t, "check", "--json", "-c", config); !errors.Is(err, errUnheld) || !strings.Contains(js, `"severity": "error"`) {
		t.Errorf("as JSON: %v\n%s", err, js)
	}
}
