package trefoil

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// MaxBodySize bounds an encoded body, in bytes.
const MaxBodySize = 1 << 20

// maxInteger is the largest magnitude of an integer: every language reads it exactly.
const maxInteger = 1<<53 - 1

// timeLayout is RFC 3339 in UTC with exactly six digits of a second's fraction.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// EncodeBody returns the deterministic JSON of b: keys in byte order, no white space,
// integers only, times in UTC with microseconds. It fails on a body without exactly the
// one part its Kind names, on invalid UTF-8, on integers beyond 2^53-1 and beyond MaxBodySize.
func EncodeBody(b *Body) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("encode body: %w", err)
	}
	enc, err := encodeJSON(b)
	if err != nil {
		return nil, fmt.Errorf("encode body: %w", err)
	}
	if len(enc) > MaxBodySize {
		return nil, fmt.Errorf("encode body: %d bytes, more than %d", len(enc), MaxBodySize)
	}
	return enc, nil
}

// DecodeBody reads a body that EncodeBody wrote and nothing else: an unknown or repeated
// key, another order, white space, a second part, another spelling of a value are errors.
func DecodeBody(enc []byte) (*Body, error) {
	if len(enc) > MaxBodySize {
		return nil, fmt.Errorf("decode body: %d bytes, more than %d", len(enc), MaxBodySize)
	}
	b := new(Body)
	if err := json.Unmarshal(enc, b); err != nil {
		// The decoder's own text may quote the input.
		return nil, fmt.Errorf("decode body: not the JSON of a record")
	}
	again, err := EncodeBody(b)
	if err != nil {
		return nil, fmt.Errorf("decode body: %w", err)
	}
	if !bytes.Equal(enc, again) {
		return nil, fmt.Errorf("decode body: not in its one deterministic form (unknown key, order, spelling or white space)")
	}
	return b, nil
}

// check requires the header and exactly the part that Kind names.
func (b *Body) check() error {
	if b == nil {
		return fmt.Errorf("no body")
	}
	if b.Origin == "" || b.At.IsZero() {
		return fmt.Errorf("origin or time is missing")
	}
	want, known := partOf[b.Kind]
	if !known {
		return fmt.Errorf("unknown kind")
	}
	for _, p := range b.parts() {
		if p.present != (p.name == want) {
			return fmt.Errorf("kind %s must have exactly the part %s", b.Kind, want)
		}
	}
	return nil
}

// partOf names the part that a body of each kind has. Kinds that no part exists for yet
// cannot be encoded: a record nobody can read proves nothing.
var partOf = map[Kind]string{
	KindApproval:   "grant",
	KindCatalog:    "catalog",
	KindGrant:      "grant",
	KindIncident:   "incident",
	KindKey:        "key",
	KindModel:      "model",
	KindOrder:      "order",
	KindPermit:     "permit",
	KindPolicy:     "policy",
	KindRefusal:    "refusal",
	KindRelease:    "release",
	KindRevocation: "grant",
	KindSession:    "session",
	KindSite:       "site",
	KindSummary:    "summary",
}

// part says whether a body has one of its parts.
type part struct {
	name    string
	present bool
}

func (b *Body) parts() [13]part {
	return [...]part{
		{"catalog", b.Catalog != nil},
		{"grant", b.Grant != nil},
		{"incident", b.Incident != nil},
		{"key", b.Key != nil},
		{"model", b.Model != nil},
		{"order", b.Order != nil},
		{"permit", b.Permit != nil},
		{"policy", b.Policy != nil},
		{"refusal", b.Refusal != nil},
		{"release", b.Release != nil},
		{"session", b.Session != nil},
		{"site", b.Site != nil},
		{"summary", b.Summary != nil},
	}
}

// encodeJSON writes v, made of the kinds of value that records have, deterministically.
func encodeJSON(v any) ([]byte, error) {
	return appendValue(make([]byte, 0, 1024), reflect.ValueOf(v))
}

var timeType = reflect.TypeFor[time.Time]()

func appendValue(dst []byte, v reflect.Value) ([]byte, error) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		return appendValue(dst, v.Elem())
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case reflect.Int, reflect.Int64:
		if n := v.Int(); n > maxInteger || n < -maxInteger {
			return nil, fmt.Errorf("an integer is beyond 2^53-1")
		}
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case reflect.String:
		return appendString(dst, v.String())
	case reflect.Slice:
		return appendSlice(dst, v)
	case reflect.Map:
		return appendMap(dst, v)
	case reflect.Struct:
		if v.Type() == timeType {
			return appendTime(dst, v.Interface().(time.Time))
		}
		return appendStruct(dst, v)
	}
	return nil, fmt.Errorf("a %s has no place in a record", v.Kind())
}

func appendTime(dst []byte, t time.Time) ([]byte, error) {
	t = t.UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return nil, fmt.Errorf("a year is outside 1 to 9999")
	}
	dst = append(dst, '"')
	dst = t.AppendFormat(dst, timeLayout)
	return append(dst, '"'), nil
}

func appendSlice(dst []byte, v reflect.Value) (_ []byte, err error) {
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendValue(dst, v.Index(i)); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendMap(dst []byte, v reflect.Value) (_ []byte, err error) {
	keys := make([]string, 0, v.Len())
	for _, k := range v.MapKeys() {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	dst = append(dst, '{')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendString(dst, k); err != nil {
			return nil, err
		}
		dst = append(dst, ':')
		if dst, err = appendValue(dst, v.MapIndex(reflect.ValueOf(k))); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// field is one key of a struct: its prefix is `"name":`.
type field struct {
	index     int
	name      string
	prefix    string
	omitEmpty bool
}

// fieldCache keeps the sorted keys of each struct type (reflect.Type → []field): a cache
// of facts about types, not state.
var fieldCache sync.Map

func fieldsOf(t reflect.Type) []field {
	if f, ok := fieldCache.Load(t); ok {
		return f.([]field)
	}
	var fields []field
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields = append(fields, field{index: i, name: name, prefix: strconv.Quote(name) + ":", omitEmpty: options == "omitempty"})
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	fieldCache.Store(t, fields)
	return fields
}

func appendStruct(dst []byte, v reflect.Value) (_ []byte, err error) {
	dst = append(dst, '{')
	first := true
	for _, f := range fieldsOf(v.Type()) {
		fv := v.Field(f.index)
		if f.omitEmpty && isEmpty(fv) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, f.prefix...)
		if dst, err = appendValue(dst, fv); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	}
	return v.IsZero()
}

const hexDigits = "0123456789abcdef"

// appendString escapes what RFC 8785 section 3.2.2.2 escapes, in its spelling.
func appendString(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("a string is not UTF-8")
	}
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case strings.IndexByte("\b\t\n\f\r", c) >= 0:
			dst = append(dst, '\\', "btn_fr"[c-'\b'])
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(dst, '"'), nil
}
