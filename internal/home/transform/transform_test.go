package transform

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// testKeys are fixed, so that vectors stay.
func testKeys(t testing.TB) *Keys {
	t.Helper()
	k, err := NewKeys(bytes.Repeat([]byte{7}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func input(typ string, form catalog.DatasetColumn) Input {
	return Input{Table: "app.t", Column: catalog.Column{Name: "c", Domain: "d"}, Form: form, Type: ParseType(typ), Purpose: "research", Epoch: 1}
}

var pseudonymised = catalog.DatasetColumn{Form: law.Pseudonymised}

func by(unit string) catalog.DatasetColumn {
	return catalog.DatasetColumn{Form: law.Generalised, By: unit}
}

// compiled gives a function that returns "NULL" for what does not fit.
func compiled(t testing.TB, in Input) func(string) string {
	t.Helper()
	tr, err := testKeys(t).Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	var bad int64
	f := tr.New(&bad)
	return func(s string) string {
		before := bad
		out, ok := f([]byte("kept"), []byte(s))
		if !bytes.HasPrefix(out, []byte("kept")) {
			t.Fatalf("%s of %q overwrote what was there", in.Form.Form, s)
		}
		if !ok {
			if bad == before {
				t.Fatalf("%q did not fit and was not counted", s)
			}
			return "NULL"
		}
		return string(out[4:])
	}
}

func TestEverySmallintHasItsOwnPseudonym(t *testing.T) {
	f := compiled(t, input("smallint", pseudonymised))
	seen := map[string]bool{}
	same := 0
	for v := -32768; v <= 32767; v++ {
		s := strconv.Itoa(v)
		p := f(s)
		if n, err := strconv.ParseInt(p, 10, 16); err != nil || seen[p] {
			t.Fatalf("pseudonym %s of a smallint is %d, seen %v: %v", p, n, seen[p], err)
		}
		seen[p] = true
		if p == s {
			same++
		}
	}
	if same > 10 {
		t.Errorf("%d of 65536 values are their own pseudonym", same)
	}
}

func TestSampledKeysDoNotCollide(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, typ := range []string{"integer", "bigint", "uuid", "inet", "macaddr", "text"} {
		f := compiled(t, input(typ, pseudonymised))
		seen := map[string]string{}
		for range 20000 {
			s := sample(r, typ)
			p := f(s)
			if p == "NULL" {
				t.Fatalf("%s: a valid value did not fit", typ)
			}
			if q, ok := seen[p]; ok && q != s {
				t.Fatalf("%s: two values have one pseudonym", typ)
			}
			seen[p] = s
		}
	}
}

func sample(r *rand.Rand, typ string) string {
	switch typ {
	case "integer":
		return strconv.Itoa(int(int32(r.Uint32())))
	case "bigint":
		return strconv.FormatInt(int64(r.Uint64()), 10)
	case "uuid":
		var b [16]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		h := strings.ToLower(strconv.FormatUint(r.Uint64()|1<<63, 16) + strconv.FormatUint(r.Uint64()|1<<63, 16))
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	case "inet":
		return strconv.Itoa(r.IntN(256)) + "." + strconv.Itoa(r.IntN(256)) + "." + strconv.Itoa(r.IntN(256)) + "." + strconv.Itoa(r.IntN(256))
	case "macaddr":
		h := strconv.FormatUint(r.Uint64()|1<<63, 16)
		return h[:2] + ":" + h[2:4] + ":" + h[4:6] + ":" + h[6:8] + ":" + h[8:10] + ":" + h[10:12]
	}
	return strconv.FormatUint(r.Uint64(), 36) + "@example.org"
}

func TestWidthBoundariesArePermutedWithinTheWidth(t *testing.T) {
	for typ, values := range map[string][]string{
		"smallint": {"-32768", "32767", "0"}, "integer": {"-2147483648", "2147483647"},
		"bigint": {"-9223372036854775808", "9223372036854775807", "0", "-1"},
	} {
		f := compiled(t, input(typ, pseudonymised))
		bits := map[string]int{"smallint": 16, "integer": 32, "bigint": 64}[typ]
		for _, v := range values {
			if _, err := strconv.ParseInt(f(v), 10, bits); err != nil {
				t.Errorf("%s %s: %v", typ, v, err)
			}
		}
	}
	for typ, v := range map[string]string{"smallint": "32768", "integer": "2147483648", "bigint": "9223372036854775808"} {
		if got := compiled(t, input(typ, pseudonymised))(v); got != "NULL" {
			t.Errorf("%s out of range gave %s", typ, got)
		}
	}
}

func TestMixedWidthsOfOneDomainAgree(t *testing.T) {
	shape, err := ShapeOf(ParseType("integer"), ParseType("bigint"), ParseType("numeric(12,0)"), ParseType("bigint[]"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, typ := range []string{"integer", "bigint", "numeric(12,0)"} {
		in := input(typ, pseudonymised)
		in.Shape = &shape
		out = append(out, compiled(t, in)("42"))
	}
	in := input("bigint[]", pseudonymised)
	in.Shape = &shape
	if a := compiled(t, in)("{42}"); out[0] != out[1] || out[1] != out[2] || a != "{"+out[0]+"}" {
		t.Errorf("one key, several pseudonyms: %v %s", out, a)
	}
	if _, err := ShapeOf(ParseType("integer"), ParseType("text")); err == nil {
		t.Error("an integer and a text share a domain")
	}
}

func TestPurposesDomainsAndEpochsAreUnrelated(t *testing.T) {
	base := input("bigint", pseudonymised)
	seen := map[string]string{}
	for name, change := range map[string]func(*Input){
		"base": func(*Input) {}, "purpose": func(i *Input) { i.Purpose = "other" }, "epoch": func(i *Input) { i.Epoch = 2 },
		"domain": func(i *Input) { i.Column.Domain = "e" }, "own domain": func(i *Input) { i.Column.Domain = "" },
		"shifted": func(i *Input) { i.Purpose, i.Column.Domain = "researchd", "" }, // no two triples spell one string
	} {
		in := base
		change(&in)
		p := compiled(t, in)("1")
		if other, ok := seen[p]; ok {
			t.Errorf("%s and %s give one pseudonym", name, other)
		}
		seen[p] = name
	}
}

func TestGeneralisations(t *testing.T) {
	for _, c := range []struct{ typ, by, in, out string }{
		{"date", "year", "1987-06-05", "1987-01-01"}, {"date", "month", "1987-06-05", "1987-06-01"},
		{"date", "year", "0044-03-15 BC", "0044-01-01 BC"}, {"date", "year", "infinity", "infinity"}, {"date", "year", "-infinity", "-infinity"},
		{"date", "month", "12345-06-07", "12345-06-01"}, {"date", "year", "4714-12-31 BC", "NULL"}, {"date", "year", "1987-13-05", "NULL"}, {"date", "year", "", "NULL"},
		{"timestamp with time zone", "hour", "2024-02-29 23:59:59.999999+00", "2024-02-29 23:00:00+00"},
		{"timestamp with time zone", "day", "2024-02-29 23:59:59+00", "2024-02-29 00:00:00+00"},
		{"timestamp with time zone", "year", "0044-03-15 12:00:00+00 BC", "0044-01-01 00:00:00+00 BC"},
		{"timestamp with time zone", "hour", "2024-02-29 23:59:59+05:30", "NULL"}, // another zone than UTC was not asked for
		{"timestamp(3) without time zone", "month", "2024-02-29 23:59:59.5", "2024-02-01 00:00:00"},
		{"time without time zone", "hour", "23:59:59.5", "23:00:00"},
		{"text", "year", "1987-06-05", "1987"}, {"text", "month", "1987-06-05T10:00", "1987-06"}, {"text", "year", "June", "NULL"},
		{"text", "prefix:3", "žluťoučký", "žlu"}, {"character(5)", "prefix:2", "abcde", "ab   "}, {"text", "prefix:3", "", ""},
		{"inet", "net", "192.168.17.5", "192.168.17.0/24"}, {"inet", "net", "10.0.0.0/8", "10.0.0.0/8"}, {"inet", "net", "2001:db8:1:2::5", "2001:db8:1::/48"},
		{"text", "net", "192.168.17.5", "192.168.17.0/24"}, {"text", "net", "not an address", "NULL"}, {"cidr", "net", "2001:db8::/32", "2001:db8::/32"},
		{"integer", "bucket:10", "19", "10"}, {"integer", "bucket:10", "-1", "-10"}, {"smallint", "bucket:1000", "-32768", "NULL"},
		{"bigint", "bucket:7", "-9223372036854775808", "NULL"}, {"numeric(6,2)", "bucket:50", "199.99", "150.00"}, {"numeric(3,0)", "bucket:100", "-950", "NULL"},
		{"numeric", "bucket:5", "-0.5", "-5"}, {"numeric", "bucket:5", "NaN", "NULL"}, {"double precision", "bucket:10", "1e+300", "1e+300"},
		{"double precision", "bucket:10", "-0.1", "-10"}, {"real", "bucket:10", "Infinity", "NULL"},
		{"integer[]", "bucket:10", "{19,NULL,25}", "{10,NULL,20}"}, {"text[]", "prefix:1", `{"a,b",NULL,"NULL",""}`, `{a,NULL,N,""}`},
		{"integer[]", "bucket:10", "[0:1]={{1},{15}}", "[0:1]={{0},{10}}"}, {"integer[]", "bucket:10", "{}", "{}"}, {"integer[]", "bucket:10", "{1", "NULL"},
	} {
		if got := compiled(t, input(c.typ, by(c.by)))(c.in); got != c.out {
			t.Errorf("%s by %s of %q is %q, not %q", c.typ, c.by, c.in, got, c.out)
		}
	}
}

func TestLookupGivesOnlyWhatItLists(t *testing.T) {
	f := compiled(t, input("text", catalog.DatasetColumn{Form: law.Generalised, By: "lookup", Lookup: map[string]string{"IE": "north", "ES": "south"}}))
	if f("IE") != "north" || f("secret") != "NULL" {
		t.Error("a lookup gives what it does not list")
	}
	enum := input("app.mood", catalog.DatasetColumn{Form: law.Generalised, By: "lookup", Lookup: map[string]string{"sad": "gone"}})
	enum.Type.Enum = []string{"sad", "ok"}
	if _, err := testKeys(t).Compile(enum); err == nil {
		t.Error("a lookup gives a label that the enum does not have")
	}
}

func TestDocumentsHoldTheListedPathsAlone(t *testing.T) {
	in := input("jsonb", catalog.DatasetColumn{Name: "c", Paths: map[string]catalog.DatasetColumn{
		"/age": by("bucket:10"), "/device/model": pseudonymised, "/events/*/at": by("month"), "/plan": {Form: law.Clear}, "/note": {Form: law.Withheld},
		"/gone": {Form: law.Withheld, Null: true}, "/a~1b": {Form: law.Clear}}})
	f := compiled(t, in)
	got := f(`{"age": 37, "name": "SECRET", "plan": {"z": 1.50, "yy": "q\"\n"}, "device": {"model": "m1", "serial": "SECRET"}, "note": "SECRET",
		"gone": "SECRET", "a/b": [1, null], "events": [{"at": "2024-05-06", "what": "SECRET"}, 5]}`)
	if strings.Contains(got, "SECRET") || strings.Contains(got, "m1") {
		t.Fatalf("the document shows too much: %s", got)
	}
	want := `{"a/b": [1, null], "age": 30, "gone": null, "plan": {"z": 1.50, "yy": "q\"\n"}, "device": {"model": "`
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, `"}, "events": [{"at": "2024-05"}, null]}`) {
		t.Errorf("document is %s", got)
	}
	for _, broken := range []string{"", "{", `{"age": 1} x`, "[", `"`} {
		if f(broken) != "NULL" {
			t.Errorf("%q is a document", broken)
		}
	}
	if got := f(`{"age": "old", "device": 5}`); got != `{"age": null, "device": null}` {
		t.Errorf("values that do not fit give %s", got)
	}
	in.Form.Paths["/age/deeper"] = pseudonymised
	if _, err := testKeys(t).Compile(in); err == nil {
		t.Error("a path inside another path compiles")
	}
}

func TestTokensRespectTheirColumn(t *testing.T) {
	if got := compiled(t, input("character varying(20)", pseudonymised))("a@b.c"); len(got) != 20 {
		t.Errorf("token of varchar(20) has %d characters", len(got))
	}
	if got := compiled(t, input("character(30)", pseudonymised))("x"); len(got) != 30 || len(strings.TrimRight(got, " ")) != 24 {
		t.Errorf("token of char(30) is %d long", len(got))
	}
	if compiled(t, input("character(30)", pseudonymised))("x   ") != compiled(t, input("character(30)", pseudonymised))("x") {
		t.Error("blanks of char(n) make another value")
	}
	for _, typ := range []string{"character varying(10)", "boolean", "date", "timestamp with time zone", "double precision", "jsonb", "point", "int4range", "xml", "money"} {
		if _, err := testKeys(t).Compile(input(typ, pseudonymised)); err == nil {
			t.Errorf("%s has a pseudonym", typ)
		}
	}
}

func TestEveryRefusalSaysWhy(t *testing.T) {
	for typ, form := range map[string]catalog.DatasetColumn{
		"date": by("day"), "text": by("hour"), "integer": by("prefix:2"), "boolean": by("bucket:2"), "bigint": by("bucket:0"), "inet": by("bucket:5"),
		"jsonb": pseudonymised, "uuid": {}, "bytea": {Form: law.Aggregate}, "smallint": by("bucket:40000"), "interval": by("month"),
	} {
		_, err := testKeys(t).Compile(input(typ, form))
		if err == nil || !strings.HasPrefix(err.Error(), "app.t.c: ") {
			t.Errorf("%s as %+v: %v", typ, form, err)
		}
	}
}

// TestVectorsAreStable keeps pseudonyms from one version to the next: a change here breaks
// every dataset that is not rebuilt.
func TestVectorsAreStable(t *testing.T) {
	path := filepath.Join("testdata", "vectors.json")
	type vector struct{ Type, In, Out string }
	var want []vector
	src, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(src, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(want) < 15 {
		t.Fatalf("%d vectors", len(want))
	}
	for i, v := range want {
		if got := compiled(t, input(v.Type, pseudonymised))(v.In); got != v.Out {
			t.Errorf("vector %d: %s %s gives %s, not %s", i, v.Type, v.In, got, v.Out)
		}
	}
}

func TestKeyFilesAreMadeOnceAndKeptFromOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	a, err := ReadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadKeyFile(path)
	if err != nil || !bytes.Equal(a, b) || len(a) != KeySize {
		t.Fatalf("key changed: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %v: %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyFile(path); err == nil {
		t.Error("a key that others can read is used")
	}
	if err := os.WriteFile(path+"2", []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyFile(path + "2"); err == nil {
		t.Error("a short key is used")
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	for typ, in := range map[string]string{"bigint": "123456", "text": "a@example.org", "uuid": "6f0b0c3e-0f3c-4d0e-9a43-0f0000000001", "inet": "10.0.0.1"} {
		tr, err := testKeys(t).Compile(input(typ, pseudonymised))
		if err != nil {
			t.Fatal(err)
		}
		var bad int64
		f, dst, src := tr.New(&bad), make([]byte, 0, 64), []byte(in)
		if n := testing.AllocsPerRun(200, func() { f(dst, src) }); n > 0 {
			t.Errorf("%s: %v allocations a value", typ, n)
		}
	}
}

// forms are those that the fuzz target tries on any bytes.
func forms() []Input {
	return []Input{
		input("bigint", pseudonymised), input("smallint", pseudonymised), input("numeric(10,2)", pseudonymised), input("uuid", pseudonymised),
		input("text", pseudonymised), input("character(24)", pseudonymised), input("inet", pseudonymised), input("cidr", by("net")), input("macaddr", pseudonymised),
		input("macaddr8", pseudonymised), input("bytea", pseudonymised), input("bigint[]", pseudonymised), input("text[]", by("prefix:2")),
		input("date", by("year")), input("timestamp with time zone", by("hour")), input("timestamp without time zone", by("month")),
		input("time without time zone", by("hour")), input("text", by("year")), input("text", by("net")), input("integer", by("bucket:7")),
		input("numeric(5,2)", by("bucket:7")), input("double precision", by("bucket:3")), input("real", by("bucket:3")),
		input("jsonb", catalog.DatasetColumn{Paths: map[string]catalog.DatasetColumn{"/a/*": pseudonymised, "/b": {Form: law.Clear}, "/c": by("bucket:5")}}),
	}
}

// FuzzTransformsAreTotal: no input raises, what was in dst stays, and what does not fit is
// counted.
func FuzzTransformsAreTotal(f *testing.F) {
	for _, s := range []string{"", "1", "-9223372036854775808", "{1,2,NULL}", `{"a": [1, "x"], "c": 7}`, "2024-02-29 23:59:59+00", "0001-01-01 BC", "infinity",
		"::ffff:1.2.3.4/128", "1.2.3.4/33", `\x00ff`, "08:00:2b:01:02:03", "\xff\xfe", "{\"\\", "NaN", "1e400", "[1:2]={a,b}", "-", "4714-11-24 00:00:00+00 BC"} {
		f.Add([]byte(s))
	}
	type one struct {
		in  Input
		f   Func
		bad *int64
	}
	var all []one
	for _, in := range forms() {
		tr, err := testKeys(f).Compile(in)
		if err != nil {
			f.Fatal(err)
		}
		bad := new(int64)
		all = append(all, one{in, tr.New(bad), bad})
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, o := range all {
			before := *o.bad
			given := append([]byte(nil), src...)
			out, ok := o.f([]byte("kept"), given)
			switch {
			case !bytes.Equal(given, src):
				t.Fatalf("%s changed its input", o.in.Type)
			case !bytes.HasPrefix(out, []byte("kept")):
				t.Fatalf("%s overwrote what was there", o.in.Type)
			case !ok && (len(out) != 4 || *o.bad == before):
				t.Fatalf("%s did not fit and left something, or was not counted", o.in.Type)
			}
		}
	})
}
