package transform

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// generalise compiles a generalisation of t.
func generalise(form catalog.DatasetColumn, t Type) (*Transform, error) {
	out := &Transform{OutType: t.String(), Plain: true}
	if t.citext() {
		out.OutType = "text" // a dataset cluster has no extensions
	}
	unit, arg, _ := strings.Cut(form.By, ":")
	var f Func
	var err error
	switch unit {
	case "year", "month", "day", "hour":
		f, err = truncation(unit, t)
	case "prefix":
		out.Plain = false
		f, err = prefix(arg, t)
	case "net":
		f, err = network(t, out)
	case "bucket":
		f, err = bucket(arg, t)
	case "lookup":
		out.Plain = false
		f, err = lookup(form.Lookup, t)
	case "":
		err = errors.New("generalised needs by: year, month, day, hour, prefix:N, net, bucket:N or lookup")
	default:
		err = fmt.Errorf("generalisation %q is not known", form.By)
	}
	if err != nil {
		return nil, err
	}
	out.make = func(*int64) Func { return f } // no scratch: one function serves all
	return out, nil
}

func positive(arg, what string) (int64, error) {
	n, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || n <= 0 || n > 1e18 {
		return 0, fmt.Errorf("%s needs a whole number above 0, as in %s:10", what, what)
	}
	return n, nil
}

// prefix keeps the first n characters; char(n) is padded again.
func prefix(arg string, t Type) (Func, error) {
	n, err := positive(arg, "prefix")
	if err != nil {
		return nil, err
	}
	if t.family() != famText {
		return nil, fmt.Errorf("prefix is for texts, not for %s", t)
	}
	return func(dst, src []byte) ([]byte, bool) {
		end := 0
		for i := int64(0); i < n && end < len(src); i++ {
			_, size := utf8.DecodeRune(src[end:])
			end += size
		}
		return pad(append(dst, src[:end]...), src[:end], t), true
	}, nil
}

// pad appends the blanks that char(n) stores after value.
func pad(dst, value []byte, t Type) []byte {
	if !t.padded() {
		return dst
	}
	for n := utf8.RuneCount(value); n < t.chars(); n++ {
		dst = append(dst, ' ')
	}
	return dst
}

// network keeps /24 and /48. A cidr stays a cidr; a text keeps its type where the result
// fits it.
func network(t Type, out *Transform) (Func, error) {
	switch t.family() {
	case famInet:
		return netInet, nil
	case famCidr:
		return netFunc, nil
	case famText:
		if t.chars() > 0 {
			out.OutType = "text"
		}
		return func(dst, src []byte) ([]byte, bool) { return netFunc(dst, bytes.TrimRight(src, " ")) }, nil
	}
	return nil, fmt.Errorf("net is for inet, cidr and texts that hold addresses, not for %s", t)
}

// netInet is netFunc for inet, which prints no mask when it is full.
func netInet(dst, src []byte) ([]byte, bool) { return netFunc(dst, src) }

// bucket rounds down to a multiple of n.
func bucket(arg string, t Type) (Func, error) {
	n, err := positive(arg, "bucket")
	if err != nil {
		return nil, err
	}
	switch t.family() {
	case famInt:
		low := int64(-1) << (t.intBits() - 1)
		if n > -(low + 1) {
			return nil, fmt.Errorf("bucket:%d is larger than any %s", n, t)
		}
		return func(dst, src []byte) ([]byte, bool) {
			v, ok := parseInt(src)
			if !ok {
				return dst, false
			}
			v, ok = floorTo(v, n)
			if !ok || v < low {
				return dst, false
			}
			return strconv.AppendInt(dst, v, 10), true
		}, nil
	case famNumeric:
		return bucketNumeric(n, t), nil
	case famFloat:
		return bucketFloat(float64(n), t), nil
	}
	return nil, fmt.Errorf("bucket is for numbers, not for %s", t)
}

// floorTo is the greatest multiple of n that is not above v.
func floorTo(v, n int64) (int64, bool) {
	r := v % n
	if r < 0 {
		r += n
	}
	if v < math.MinInt64+r {
		return 0, false
	}
	return v - r, true
}

// bucketNumeric works on decimal text of up to 18 whole digits, and prints the scale that
// the type asks for.
func bucketNumeric(n int64, t Type) Func {
	digits, scale := 1000, 0
	if len(t.Mods) > 0 {
		digits = t.Mods[0]
	}
	if len(t.Mods) > 1 {
		scale = t.Mods[1]
	}
	return func(dst, src []byte) ([]byte, bool) {
		whole, frac, _ := bytes.Cut(src, []byte{'.'})
		if len(whole) > 19 {
			return dst, false
		}
		v, ok := parseInt(whole)
		if !ok {
			return dst, false
		}
		for _, c := range frac {
			if c < '0' || c > '9' {
				return dst, false
			}
		}
		if src[0] == '-' && bytes.Trim(frac, "0") != nil && len(bytes.Trim(frac, "0")) > 0 {
			if v == math.MinInt64 {
				return dst, false
			}
			v--
		}
		if v, ok = floorTo(v, n); !ok {
			return dst, false
		}
		mark := len(dst)
		dst = strconv.AppendInt(dst, v, 10)
		if wide := len(dst) - mark; v != 0 && wide-signLen(v) > digits-scale {
			return dst[:mark], false
		}
		if scale > 0 {
			dst = append(dst, '.')
			for range scale {
				dst = append(dst, '0')
			}
		}
		return dst, true
	}
}

func signLen(v int64) int {
	if v < 0 {
		return 1
	}
	return 0
}

// bucketFloat prints as PostgreSQL does: shortest digits, an exponent from 1e15 (1e6 for
// real) on.
func bucketFloat(n float64, t Type) Func {
	bits, limit := 64, 1e15
	if t.Base == "real" {
		bits, limit = 32, 1e6
	}
	return func(dst, src []byte) ([]byte, bool) {
		v, err := strconv.ParseFloat(view(src), bits)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return dst, false
		}
		v = math.Floor(v/n) * n
		if bits == 32 {
			v = float64(float32(v))
		}
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return dst, false
		}
		if v == 0 {
			return append(dst, '0'), true
		}
		format := byte('f')
		if math.Abs(v) >= limit {
			format = 'e'
		}
		return strconv.AppendFloat(dst, v, format, -1, bits), true
	}
}

// lookup maps values; others become NULL.
func lookup(table map[string]string, t Type) (Func, error) {
	if len(table) == 0 {
		return nil, errors.New("lookup has no values")
	}
	m := make(map[string]string, len(table))
	for from, to := range table {
		value, err := storable(to, t)
		if err != nil {
			return nil, err
		}
		m[strings.TrimRight(from, padding(t))] = value
	}
	return func(dst, src []byte) ([]byte, bool) {
		v, ok := m[string(bytes.TrimRight(src, padding(t)))]
		if !ok {
			return dst, false
		}
		return append(dst, v...), true
	}, nil
}

func padding(t Type) string {
	if t.padded() || t.Base == "bpchar" {
		return " "
	}
	return ""
}

// storable checks a lookup's result against the column's type, and returns it as stored.
func storable(v string, t Type) (string, error) {
	switch t.family() {
	case famText:
		if n := t.chars(); n > 0 && utf8.RuneCountInString(v) > n {
			return "", fmt.Errorf("a lookup result is longer than %s", t)
		}
		if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
			return "", errors.New("a lookup result is not UTF-8 text")
		}
		return string(pad([]byte(v), []byte(v), t)), nil
	case famInt:
		n, err := strconv.ParseInt(v, 10, t.intBits())
		if err != nil {
			return "", fmt.Errorf("a lookup result is no %s", t)
		}
		return strconv.FormatInt(n, 10), nil
	case famEnum:
		for _, label := range t.Enum {
			if label == v {
				return v, nil
			}
		}
		return "", fmt.Errorf("a lookup result is no label of %s", t)
	case famBool:
		switch v {
		case "t", "true":
			return "t", nil
		case "f", "false":
			return "f", nil
		}
		return "", errors.New("a lookup result is neither true nor false")
	}
	return "", fmt.Errorf("lookup is for texts, whole numbers, enums and booleans, not for %s", t)
}
