package dataset

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// canarySource plants a value nowhere else to be found in a column of each form, in every
// kind of column a dataset does not show as it is.
const canarySource = `
CREATE SCHEMA app;
CREATE TABLE app.person (id bigint PRIMARY KEY, email text NOT NULL, bio text, secret text, phone varchar(20), born timestamptz, country char(2), doc jsonb, tags text[], ident uuid, postcode text, raw bytea);
CREATE INDEX person_email ON app.person (email); CREATE INDEX person_lower ON app.person (lower(email)); CREATE INDEX person_secret ON app.person (secret);
INSERT INTO app.person SELECT 7700000000000000 + i, 'canaryemail' || i || '@example.org', repeat('canarybio ', 500) || i, 'canarysecret' || i, '+35377' || 12000000 + i,
	timestamptz '1971-03-04 05:06:07.891' + i * interval '1 hour', 'IE', jsonb_build_object('canarykey', 'canaryjson' || i, 'n', i), ARRAY['canarytag' || i], md5('canary' || i)::uuid, 'QZXJ' || i,
	decode(md5('rawcanary' || i), 'hex') FROM generate_series(1, 200) i;
CREATE TABLE app.message (id bigint PRIMARY KEY, person bigint NOT NULL REFERENCES app.person, body text);
INSERT INTO app.message SELECT i, 7700000000000000 + 1 + i % 200, 'canarybody' || i FROM generate_series(1, 500) i;
CHECKPOINT;`

var canaryCatalog = wholeCatalog("person: {table: app.person, key: id, residence: country}\ntables:\n  - table: app.person\n    subject: {self: true}\n    columns:\n" +
	column("id", "bigint", "identifier", ", domain: person, trait: key") + column("email", "text", "contact", "") + column("bio", "text", "content", "") + column("secret", "text", "special", "") +
	column("phone", "character varying(20)", "contact", "") + column("born", "timestamp with time zone", "behaviour", ", trait: birth") + column("country", "character(2)", "location", ", trait: residence") +
	column("doc", "jsonb", "device", "") + column("tags", "text[]", "device", "") + column("ident", "uuid", "device", "") + column("postcode", "text", "location", "") + column("raw", "bytea", "device", "") +
	"  - table: app.message\n    subject: {column: person}\n    columns:\n" + column("id", "bigint", "identifier", ", domain: message") + column("person", "bigint", "identifier", ", domain: person") + column("body", "text", "content", ""))

const canaryDatasets = `version: 1
datasets:
  - name: NAME
    cluster: CLUSTER
    purpose: research
    source: app
    k: 5
    rows: {residence: [EEA]}
    tables:
      - table: app.person
        columns:
          - {name: id, form: pseudonymised}
          - {name: email, form: pseudonymised}
          - {name: bio, form: withheld, 'null': true}
          - {name: phone, form: pseudonymised}
          - {name: born, form: generalised, by: year}
          - {name: doc, paths: {/canarykey: {form: pseudonymised}}}
          - {name: tags, form: pseudonymised}
          - {name: ident, form: pseudonymised}
          - {name: postcode, form: generalised, by: 'prefix:1'}
          - {name: raw, form: pseudonymised}
      - table: app.message
        columns: [{name: id, form: pseudonymised}, {name: person, form: pseudonymised}]
`

// canaries in the encodings that PostgreSQL, or a careless copy, could store them in.
func canaries() map[string][]byte {
	out := map[string][]byte{}
	for _, s := range []string{"canaryemail17@", "canarybio canarybio", "canarysecret17", "+3537712000017", "canaryjson17", "canarytag17", "QZXJ17", "canarybody17", "1971-03-04 ", "7700000000000017"} {
		out[s] = []byte(s)
		out[s+" in UTF-16"] = utf16le(s)
		out[s+" in base64"] = []byte(base64.StdEncoding.EncodeToString([]byte(s))[:len(s)/3*4])
		out[s+" in hex"] = []byte(hex.EncodeToString([]byte(s)))
	}
	uuid, raw := md5.Sum([]byte("canary17")), md5.Sum([]byte("rawcanary17"))
	out["uuid in binary"], out["uuid in hex"] = uuid[:], []byte(hex.EncodeToString(uuid[:])[:8])
	out["bytea in binary"] = raw[:]
	out["bigint in binary"] = binary.LittleEndian.AppendUint64(nil, 7700000000000017)
	return out
}

func utf16le(s string) []byte {
	var b []byte
	for _, c := range []byte(s) {
		b = append(b, c, 0)
	}
	return b
}

// TestCanariesAreNowhereInTheCluster searches every file of the dataset cluster, WAL, logs
// and temporary files included, after it found the same values at the source.
func TestCanariesAreNowhereInTheCluster(t *testing.T) {
	t.Parallel()
	f := setup(t, canarySource, canaryCatalog, strings.Replace(canaryDatasets, "CLUSTER", "outside", 1))
	f.build()
	f.target.Exec(t, f.target.SuperuserDSN(f.name), "SELECT count(*) FROM app.person p JOIN app.message m ON m.person = p.id", "CHECKPOINT")
	f.source.Exec(t, f.dsn, "CHECKPOINT")
	plain := 0
	atSource := search(t, f.source.Directory(), canaries())
	for name := range canaries() {
		if strings.HasSuffix(name, "in binary") || !strings.Contains(name, " in ") {
			if !atSource[name] && name != "canarybio canarybio" && name != "1971-03-04 " && name != "7700000000000017" { // compressed, or stored as numbers
				t.Errorf("the search does not find %s at the source", name)
			}
			plain++
		}
	}
	if plain < 8 {
		t.Errorf("only %d canaries", plain)
	}
	for name := range search(t, f.target.Directory(), canaries()) {
		t.Errorf("the dataset cluster holds %s", name)
	}
	if files, _ := filepath.Glob(filepath.Join(f.dir, "trefoil-spill-*")); len(files) > 0 {
		t.Errorf("spill files are left: %d", len(files))
	}
}

func search(t *testing.T, dir string, what map[string][]byte) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // a file that went away while PostgreSQL runs
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		files++
		for name, value := range what {
			if bytes.Contains(b, value) {
				found[name] = true
			}
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Fatalf("searched %d files: %v", files, err)
	}
	return found
}

// TestWithheldValuesDoNotInterfere builds from two sources that differ only in withheld
// values: their dumps are equal to the byte.
func TestWithheldValuesDoNotInterfere(t *testing.T) {
	t.Parallel()
	dump := func(change string) string {
		f := setup(t, canarySource+change, canaryCatalog, strings.Replace(canaryDatasets, "CLUSTER", "outside", 1))
		for _, key := range []string{"pseudonyms.key", "digests.key"} { // both with the same keys
			if err := os.WriteFile(filepath.Join(f.dir, key), bytes.Repeat([]byte{3}, 32), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f.b = f.open(canaryCatalog, strings.Replace(canaryDatasets, "CLUSTER", "outside", 1), nil)
		f.build()
		cmd := exec.CommandContext(testContext(t), f.target.Programs().Path("pg_dump"), "-N", infoSchema, "-N", careSchema, f.target.SuperuserDSN(f.name))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(out), "\n")
		kept := lines[:0]
		for _, l := range lines {
			if !strings.HasPrefix(l, `\restrict`) && !strings.HasPrefix(l, `\unrestrict`) { // random by design of pg_dump
				kept = append(kept, l)
			}
		}
		f.target.Exec(t, f.target.SuperuserDSN("postgres"), "DROP DATABASE "+f.name+" WITH (FORCE)")
		return strings.Join(kept, "\n")
	}
	a := dump("")
	b := dump(`UPDATE app.person SET bio = 'other', secret = 'other' || id; UPDATE app.message SET body = NULL WHERE id % 2 = 0; UPDATE app.person SET doc = doc || '{"n": 5, "more": {"x": 1}}';`)
	if a != b {
		t.Error("withheld values show in the dump")
	}
	if c := dump(`UPDATE app.person SET email = 'changed' WHERE id = 7700000000000001`); a == c {
		t.Error("the comparison does not see a held value that changed")
	}
}
