package decision

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// level of compression: the levels above save one per cent and take twice the time.
const level = 3

// version is the first byte of an encoded decision; what follows is deflated.
const version = 1

// How a feature's column is written. missing is added where a bitmap of NaNs precedes it.
const (
	columnConstant = iota // one value
	columnInteger         // zigzag varints
	columnDecimal         // exponents, then zigzag varint mantissas: value = mantissa / 10^exponent
	columnFloat32         // four planes of bytes
	columnFloat64         // eight planes of bytes
	columnMissing  = 0x80
)

// Encode writes all of d but its id, surface and subject, which a store keeps beside it.
func (d *Decision) Encode() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("encode decision: %w", err)
	}
	b := make([]byte, 0, 16<<10)
	for _, h := range []Hash{d.Model, d.Features, d.Scores} {
		b = append(b, h[:]...)
	}
	b = appendSettings(b, d.Settings)
	b = binary.AppendUvarint(b, uint64(len(d.Items)))
	b = appendIDs(b, d.Items)
	for _, of := range []func(*Item) string{topic, region, creator} {
		b = appendNames(b, d.Items, of)
	}
	b = binary.AppendUvarint(b, uint64(len(d.Items[0].Values)))
	column := make([]float64, len(d.Items))
	for f := range d.Items[0].Values {
		for i := range d.Items {
			column[i] = d.Items[i].Values[f]
		}
		b = appendColumn(b, column)
	}
	return deflate(b)
}

func appendSettings(b []byte, s features.Settings) []byte {
	b = append(b, flag(s.Profiling)|flag(s.Reset)<<1)
	b = appendStrings(b, s.Off)
	for _, want := range []features.Want{features.Less, features.More} {
		var topics []string
		for t, w := range s.Topics {
			if w == want {
				topics = append(topics, t)
			}
		}
		slices.Sort(topics)
		b = appendStrings(b, topics)
	}
	return b
}

func topic(i *Item) string   { return i.Topic }
func region(i *Item) string  { return i.Region }
func creator(i *Item) string { return i.Creator }

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func deflate(b []byte) ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte(version)
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		return nil, fmt.Errorf("encode decision: %w", err)
	}
	if _, err := w.Write(b); err != nil {
		return nil, fmt.Errorf("encode decision: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encode decision: %w", err)
	}
	return out.Bytes(), nil
}

func appendStrings(b []byte, s []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	for _, x := range s {
		b = appendString(b, x)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendIDs writes ids that are plain decimal numbers as varints, others as text.
func appendIDs(b []byte, items []Item) []byte {
	numbers := make([]uint64, len(items))
	for i := range items {
		n, err := strconv.ParseUint(items[i].ID, 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != items[i].ID {
			b = append(b, 0)
			for j := range items {
				b = appendString(b, items[j].ID)
			}
			return b
		}
		numbers[i] = n
	}
	b = append(b, 1)
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// appendNames writes the distinct texts once, then each item's number among them.
func appendNames(b []byte, items []Item, of func(*Item) string) []byte {
	index, names := map[string]int{}, []string{}
	for i := range items {
		if s := of(&items[i]); index[s] == 0 {
			names = append(names, s)
			index[s] = len(names)
		}
	}
	b = appendStrings(b, names)
	for i := range items {
		b = binary.AppendUvarint(b, uint64(index[of(&items[i])]-1))
	}
	return b
}

// appendColumn picks the shortest way that gives every value back to the bit.
func appendColumn(b []byte, column []float64) []byte {
	values, holes := withoutHoles(column)
	kind := columnFloat64
	exponents, mantissas := []byte(nil), []int64(nil)
	switch {
	case all(values, func(v float64) bool { return same(v, values[0]) }):
		kind = columnConstant
	case all(values, isInteger):
		kind = columnInteger
	case all(values, func(v float64) bool { return same(float64(float32(v)), v) }):
		kind = columnFloat32
	default:
		var ok bool
		if exponents, mantissas, ok = decimals(values); ok {
			kind = columnDecimal
		}
	}
	if holes != nil {
		b = append(append(b, byte(kind)|columnMissing), holes...)
	} else {
		b = append(b, byte(kind))
	}
	switch kind {
	case columnConstant:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(values[0]))
	case columnInteger:
		for _, v := range values {
			b = binary.AppendVarint(b, int64(v))
		}
		return b
	case columnDecimal:
		b = append(b, exponents...)
		for _, m := range mantissas {
			b = binary.AppendVarint(b, m)
		}
		return b
	case columnFloat32:
		return appendPlanes(b, values, 4, func(v float64) uint64 { return uint64(math.Float32bits(float32(v))) })
	}
	return appendPlanes(b, values, 8, math.Float64bits)
}

// withoutHoles replaces NaN by the first value that is none, and returns a bitmap of where.
func withoutHoles(column []float64) (values []float64, holes []byte) {
	values = append(make([]float64, 0, len(column)), column...)
	filler := 0.0
	for _, v := range column {
		if v == v {
			filler = v
			break
		}
	}
	for i, v := range column {
		if v == v {
			continue
		}
		if holes == nil {
			holes = make([]byte, (len(column)+7)/8)
		}
		holes[i/8] |= 1 << (i % 8)
		values[i] = filler
	}
	return values, holes
}

func all(values []float64, holds func(float64) bool) bool {
	for _, v := range values {
		if !holds(v) {
			return false
		}
	}
	return true
}

func same(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }

func isInteger(v float64) bool {
	return math.Abs(v) < 1<<31 && same(float64(int64(v)), v)
}

// maxExponent keeps 10^e exact in a float64, so that one division rounds correctly.
const maxExponent = 22

// decimal finds the shortest mantissa and exponent with v = mantissa / 10^exponent exactly
// as a float64, up to nine digits: longer ones are shorter as float32 or float64.
func decimal(v float64) (mantissa int64, exponent int, ok bool) {
	var buf [32]byte
	s := strconv.AppendFloat(buf[:0], v, 'e', -1, 64) // d.ddde±dd
	digits, exp10, ok := bytes.Cut(s, []byte("e"))
	if !ok || len(digits) > 11 {
		return 0, 0, false
	}
	e, err := strconv.Atoi(string(exp10))
	if err != nil {
		return 0, 0, false
	}
	whole, fraction, _ := bytes.Cut(digits, []byte("."))
	mantissa, err = strconv.ParseInt(string(append(append([]byte{}, whole...), fraction...)), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	for exponent = len(fraction) - e; exponent < 0; exponent++ {
		if mantissa *= 10; mantissa > 1<<52 || mantissa < -1<<52 {
			return 0, 0, false
		}
	}
	if exponent > maxExponent || !same(undecimal(mantissa, exponent), v) {
		return 0, 0, false
	}
	return mantissa, exponent, true
}

func undecimal(mantissa int64, exponent int) float64 {
	return float64(mantissa) / math.Pow10(exponent)
}

// decimals takes every value apart, or says that one of them is no short decimal.
func decimals(values []float64) (exponents []byte, mantissas []int64, ok bool) {
	exponents, mantissas = make([]byte, len(values)), make([]int64, len(values))
	for i, v := range values {
		m, e, ok := decimal(v)
		if !ok {
			return nil, nil, false
		}
		exponents[i], mantissas[i] = byte(e), m
	}
	return exponents, mantissas, true
}

// appendPlanes writes the first byte of every value, then the second of every value, and so
// on: alike bytes stand together.
func appendPlanes(b []byte, values []float64, size int, bits func(float64) uint64) []byte {
	for shift := 8 * (size - 1); shift >= 0; shift -= 8 {
		for _, v := range values {
			b = append(b, byte(bits(v)>>shift))
		}
	}
	return b
}
