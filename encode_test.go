package trefoil_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// fullBody is a body of each kind with every field set, so that a field without a place in
// the format shows.
func fullBody(t testing.TB, kind trefoil.Kind) *trefoil.Body {
	t.Helper()
	b := &trefoil.Body{At: time.Date(2026, 11, 21, 9, 8, 7, 6005_000, time.UTC), Kind: kind, Origin: origin}
	part := reflect.ValueOf(b).Elem()
	for i := range part.NumField() {
		f := part.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() == reflect.Pointer && name == partName(kind) {
			part.Field(i).Set(reflect.New(f.Type.Elem()))
			fill(part.Field(i).Elem(), name)
		}
	}
	return b
}

func partName(kind trefoil.Kind) string {
	switch kind {
	case trefoil.KindApproval, trefoil.KindRevocation:
		return "grant"
	}
	return string(kind)
}

// fill sets every field below v to something that is not its zero value.
func fill(v reflect.Value, name string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(name + "-é\"\\\n\x01\u2028")
	case reflect.Int64:
		v.SetInt(1<<53 - 1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), name+"0")
		fill(v.Index(1), name+"1")
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range []string{"b", "a", "Z"} {
			value := reflect.New(v.Type().Elem()).Elem()
			fill(value, key)
			v.SetMapIndex(reflect.ValueOf(key), value)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), v.Type().Field(i).Name)
		}
	}
}

var kinds = []trefoil.Kind{trefoil.KindSession, trefoil.KindSummary, trefoil.KindRelease, trefoil.KindRefusal, trefoil.KindGrant, trefoil.KindApproval,
	trefoil.KindRevocation, trefoil.KindPolicy, trefoil.KindCatalog, trefoil.KindSite, trefoil.KindIncident, trefoil.KindKey, trefoil.KindModel, trefoil.KindPermit, trefoil.KindOrder}

func TestEveryKindSurvivesEncoding(t *testing.T) {
	for _, kind := range kinds {
		for name, b := range map[string]*trefoil.Body{"full": fullBody(t, kind), "empty": emptyBody(t, kind)} {
			enc, err := trefoil.EncodeBody(b)
			if err != nil {
				t.Fatalf("%s %s: %v", kind, name, err)
			}
			back, err := trefoil.DecodeBody(enc)
			if err != nil {
				t.Fatalf("%s %s: %v", kind, name, err)
			}
			again, err := trefoil.EncodeBody(back)
			if err != nil || !bytes.Equal(enc, again) {
				t.Fatalf("%s %s: differs after a round trip", kind, name)
			}
			if name == "full" && !reflect.DeepEqual(b, back) {
				t.Fatalf("%s: a field was lost", kind)
			}
			checkSorted(t, enc)
		}
	}
}

func emptyBody(t testing.TB, kind trefoil.Kind) *trefoil.Body {
	b := fullBody(t, kind)
	part := reflect.ValueOf(b).Elem()
	for i := range part.NumField() {
		if f := part.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			f.Elem().SetZero()
		}
	}
	return b
}

// checkSorted reads the keys in the order they stand there, with another decoder.
func checkSorted(t *testing.T, enc []byte) {
	t.Helper()
	var compact bytes.Buffer
	if err := json.Compact(&compact, enc); err != nil || compact.Len() != len(enc) {
		t.Fatalf("white space in %s (%v)", enc, err)
	}
	type level struct {
		object bool
		last   string
		value  bool // the next token of an object is a value
	}
	var stack []level
	for dec := json.NewDecoder(bytes.NewReader(enc)); ; {
		token, err := dec.Token()
		if err != nil {
			return
		}
		if d, ok := token.(json.Delim); ok && (d == '}' || d == ']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if n := len(stack); n > 0 && stack[n-1].object {
			top := &stack[n-1]
			if key, ok := token.(string); ok && !top.value {
				if key <= top.last {
					t.Fatalf("key %q after %q", key, top.last)
				}
				top.last, top.value = key, true
				continue
			}
			top.value = false
		}
		if d, ok := token.(json.Delim); ok {
			stack = append(stack, level{object: d == '{'})
		}
	}
}

// TestOtherSpellingsAreRefused: one record, one spelling. Anything else would be a second
// record with the same meaning, and a second leaf.
func TestOtherSpellingsAreRefused(t *testing.T) {
	enc, err := trefoil.EncodeBody(&trefoil.Body{At: time.Date(2026, 11, 21, 9, 8, 7, 0, time.UTC), Kind: trefoil.KindIncident, Origin: origin,
		Incident: &trefoil.IncidentBody{Event: "opened", ID: "1", Reason: "a/b"}})
	if err != nil {
		t.Fatal(err)
	}
	good := string(enc)
	want := `{"at":"2026-11-21T09:08:07.000000Z","incident":{"event":"opened","id":"1","reason":"a/b"},"kind":"incident","origin":"log.example/dublin-1"}`
	if good != want {
		t.Fatalf("encoding\n%s\nwant\n%s", good, want)
	}
	replace := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for name, bad := range map[string]string{
		"unknown key":            replace(`"kind"`, `"extra":1,"kind"`),
		"repeated key":           replace(`"id":"1"`, `"id":"1","id":"1"`),
		"another case":           replace(`"id"`, `"ID"`),
		"another order":          replace(`"event":"opened","id":"1"`, `"id":"1","event":"opened"`),
		"missing key":            replace(`"id":"1",`, ``),
		"null for a string":      replace(`"id":"1"`, `"id":null`),
		"white space":            replace(`,"kind"`, `, "kind"`),
		"newline at the end":     good + "\n",
		"second value":           good + "{}",
		"escape that is not due": replace(`a/b`, `a\/b`),
		"unicode escape":         replace(`opened`, `\u006fpened`),
		"fewer digits of time":   replace(`.000000Z`, `Z`),
		"offset":                 replace(`.000000Z`, `.000000+00:00`),
		"two parts":              replace(`"incident"`, `"grant":{"dataset":"","event":"","grant":"","hash":"","key":"","principal":"","until":"0001-01-01T00:00:00.000000Z"},"incident"`),
		"part of another kind":   replace(`"kind":"incident"`, `"kind":"key"`),
		"unknown kind":           replace(`"kind":"incident"`, `"kind":"other"`),
		"no kind":                replace(`"kind":"incident"`, `"kind":""`),
		"no part":                `{"at":"2026-11-21T09:08:07.000000Z","kind":"incident","origin":"o"}`,
		"no origin":              replace(origin, ""),
		"invalid UTF-8":          replace("a/b", "a\xffb"),
		"lone surrogate":         replace("a/b", `a\ud800b`),
		"array":                  "[" + good + "]",
		"empty":                  "",
		"deep":                   strings.Repeat("[", 1<<19),
		"cut":                    good[:len(good)-1],
	} {
		if _, err := trefoil.DecodeBody([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "dublin") {
			t.Errorf("%s: the error quotes the body: %v", name, err)
		}
	}
}

func TestNumbersThatAreNotIntegersAreRefused(t *testing.T) {
	r := release(t, nil)
	for _, n := range []string{"3.0", "3e0", "-0", "03", "9007199254740992", "-9007199254740992", "1e99", `"3"`, "NaN", "true"} {
		bad := bytes.Replace(r.Body, []byte(`"rows":3`), []byte(`"rows":`+n), 1)
		if _, err := trefoil.DecodeBody(bad); err == nil {
			t.Errorf("%s: accepted", n)
		}
	}
	b := fullBody(t, trefoil.KindRelease)
	b.Release.Rows = 1 << 53
	if _, err := trefoil.EncodeBody(b); err == nil {
		t.Error("2^53 is encoded")
	}
}

func TestBodiesAreBounded(t *testing.T) {
	b := &trefoil.Body{At: time.Now(), Kind: trefoil.KindIncident, Origin: origin, Incident: &trefoil.IncidentBody{Reason: strings.Repeat("x", trefoil.MaxBodySize)}}
	if _, err := trefoil.EncodeBody(b); err == nil {
		t.Error("a body beyond the bound is encoded")
	}
	if _, err := trefoil.DecodeBody(make([]byte, trefoil.MaxBodySize+1)); err == nil {
		t.Error("a body beyond the bound is decoded")
	}
	for name, bad := range map[string]*trefoil.Body{"nil": nil, "zero": {}, "kind without a part": {At: time.Now(), Kind: trefoil.KindBan, Origin: origin}} {
		if _, err := trefoil.EncodeBody(bad); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestTimesKeepTheirMicrosecondsInAnyZone(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 8, 7, 123456789, time.FixedZone("", 3600))
	b := fullBody(t, trefoil.KindIncident)
	b.At = at
	enc, err := trefoil.EncodeBody(b)
	if err != nil || !bytes.Contains(enc, []byte(`"at":"2026-11-21T09:08:07.123456Z"`)) {
		t.Fatalf("%s, %v", enc, err)
	}
}

func TestSaltHidesEqualBodies(t *testing.T) {
	b := fullBody(t, trefoil.KindIncident)
	one, err := trefoil.NewRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	two, err := trefoil.NewRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(one.Leaf(), two.Leaf()) || len(one.Leaf()) != trefoil.LeafSize || one.Leaf()[0] != trefoil.LeafVersion {
		t.Fatal("leaves of equal bodies are equal, or not of their form")
	}
}
