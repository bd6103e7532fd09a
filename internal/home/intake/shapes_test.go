package intake

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestShapesOfValues(t *testing.T) {
	for value, want := range map[string]string{
		"aoife@mail.example":                     shapeEmail,
		"+353 1 555 0100":                        shapePhone,
		"0221 / 555000":                          shapePhone,
		"192.0.2.17":                             shapeIP,
		"2001:db8::1":                            shapeIP,
		"198.51.100.0/24":                        shapeIP,
		"DE89 3704 0044 0532 0130 00":            shapeIBAN,
		"4111 1111 1111 1111":                    shapeCard,
		"0f8fad5b-d9cb-469f-a165-70867728950e":   shapeUUID,
		"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9x1": shapeToken,
		"IE":                                     shapeCountry,
		"https://example.eu/x":                   shapeURL,
		"1971-04-30":                             shapeBirth,
		"00:1a:2b:3c:4d:5e":                      shapeMAC,
	} {
		if got := shapesOf(value, noon); !slices.Contains(got, want) {
			t.Errorf("%s is seen as %v, want %s", value, got, want)
		}
	}
	for value, not := range map[string]string{
		"DE89370400440532013001": shapeIBAN, // wrong check digits
		"4111111111111112":       shapeCard,
		"2024-05-01":             shapePhone,
		"20240501":               shapePhone,
		"2025-05-01":             shapeBirth,
		"ZZ":                     shapeCountry,
		"ie":                     shapeCountry,
		"internationalization":   shapeToken,
		"1.2.3":                  shapeIP,
	} {
		if got := shapesOf(value, noon); slices.Contains(got, not) {
			t.Errorf("%s is seen as %s", value, not)
		}
	}
}

func TestWordsOfNames(t *testing.T) {
	for name, want := range map[string][]string{
		"CustomerID": {"customer", "id"}, "e_mail": {"e", "mail"}, "HTTPServerName": {"http", "server", "name"},
		"Straße Nr.": {"strasse", "nr"}, "prénom": {"prenom"}, "created_at": {"created", "at"}, "IDNumber": {"id", "number"},
		"address2": {"address2"}, "": nil, "___": nil,
	} {
		if got := words(name); !reflect.DeepEqual(got, want) {
			t.Errorf("words of %q are %q, want %q", name, got, want)
		}
	}
	for column, want := range map[string]string{
		"customer_id": "customer", "idClient": "client", "KundenNr": "kunde", "userid": "user", "id": "", "name": "", "order_item_id": "orderitem",
	} {
		if got := thing(column); got != want {
			t.Errorf("%s refers to %q, want %q", column, got, want)
		}
	}
}

// TestAcceptChangesOneWordOnly: comments, layout and everything unnamed stay as they are.
func TestAcceptChangesOneWordOnly(t *testing.T) {
	const src = `# head: reviewed: false
version: 1
database: d
person: {table: s.p, key: id, residence: c}
tables:
  - table: s.p
    subject: {self: true}
    columns:
      - {name: id, type: bigint, category: identifier, trait: key, reviewed: false, why: "é: reviewed: false"} # keep
      - name: naïve
        type: text
        category: contact
        reviewed: false
      - {name: "ü", type: text, category: contact, reviewed: false}
`
	ds := &catalog.Datasets{Version: 1, Datasets: []catalog.Dataset{{Name: "a", Source: "d", Tables: []catalog.DatasetTable{
		{Table: "s.p", Columns: []catalog.DatasetColumn{{Name: "id", Form: law.Pseudonymised}}}}}}}
	out, accepted, unknown, err := Accept("c.yaml", []byte(src), ds, []string{"a", "s.p.ü", "s.nothing"})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.Replace(src, "trait: key, reviewed: false", "trait: key, reviewed: true", 1), "name: \"ü\", type: text, category: contact, reviewed: false", "name: \"ü\", type: text, category: contact, reviewed: true", 1)
	if string(out) != want {
		t.Errorf("the text became\n%s", out)
	}
	if len(accepted) != 2 || !reflect.DeepEqual(unknown, []string{"s.nothing"}) {
		t.Errorf("accepted %v, unknown %v", accepted, unknown)
	}
}

func TestSourceDSNsKeepPasswordsOut(t *testing.T) {
	reader, service, control, pass, err := sourceDSNs(`postgres://re%3Aader:p%3Aw%5C@db.internal:5433/Shop%20x?sslmode=require`, "/e/keys/pgpass")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{reader, service, control} {
		if strings.Contains(s, "p%3Aw") || strings.Contains(s, "p:w") || !strings.Contains(s, "sslmode=require") || !strings.Contains(s, "db.internal:5433") {
			t.Errorf("DSN %s", s)
		}
	}
	if pass != "*:*:*:re\\:ader:p\\:w\\\\\n" {
		t.Errorf("pgpass line %q", pass)
	}
	if _, _, _, _, err := sourceDSNs("host=x password=geheim", "/p"); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("keyword DSN: %v", err)
	}
}

// FuzzNames: names of other people's tables are outside bytes.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"CustomerID", "a\"b.c", "É", "\xff\xfe", "İI", strings.Repeat("x_", 50)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, w := range words(name) {
			if w == "" {
				t.Errorf("an empty word in %q", name)
			}
		}
		thing(name)
		stem(name)
		if n := fileName(name); n == "" || len(n) > 50 || strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("file name %q of %q", n, name)
		}
		for i := range concepts {
			named(name, concepts[i].terms)
		}
	})
}

// FuzzShapes: no value may stop init.
func FuzzShapes(f *testing.F) {
	for _, s := range []string{"", "DE89370400440532013000", "4111111111111111", "1971-02-30", "::1%eth0", "+", "é@é.é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, s := range shapesOf(value, noon) {
			if s == "" {
				t.Error("a shape without a name")
			}
		}
	})
}
