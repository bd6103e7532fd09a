package decision

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// maxInflated bounds what a stored decision may unfold to, in bytes.
const maxInflated = 80 << 20

var errMalformed = errors.New("decode decision: not what this program stored")

// Decode reads what Encode wrote into d, whose id, surface and subject stay as they are.
func (d *Decision) Decode(enc []byte) error {
	if len(enc) == 0 || enc[0] != version {
		return fmt.Errorf("%w: unknown version", errMalformed)
	}
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(enc[1:])), maxInflated+1))
	if err != nil || len(raw) > maxInflated {
		return errMalformed
	}
	r := &reader{b: raw}
	for _, h := range []*Hash{&d.Model, &d.Features, &d.Scores} {
		copy(h[:], r.bytes(len(h)))
	}
	d.Settings = r.settings()
	d.Items = make([]Item, r.count(MaxItems))
	r.ids(d.Items)
	r.names(d.Items, func(i *Item, s string) { i.Topic = s })
	r.names(d.Items, func(i *Item, s string) { i.Region = s })
	r.names(d.Items, func(i *Item, s string) { i.Creator = s })
	r.columns(d.Items)
	if r.bad || len(r.b) > 0 || d.check() != nil {
		return errMalformed
	}
	return nil
}

// reader takes values off the front of b. After the first that does not fit it gives zeros,
// and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things that each take at least one byte of what is left.
func (r *reader) count(most int) int {
	n := r.uvarint()
	if n > uint64(most) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) string() string { return string(r.bytes(r.count(MaxText))) }

func (r *reader) strings(most int) []string {
	n := r.count(most)
	if n == 0 {
		return nil
	}
	out := make([]string, n)
	for i := range out {
		out[i] = r.string()
	}
	return out
}

func (r *reader) settings() features.Settings {
	flags := r.byte()
	if flags > 3 {
		r.fail()
	}
	s := features.Settings{Profiling: flags&1 != 0, Reset: flags&2 != 0, Off: r.strings(MaxTopics)}
	for _, want := range []features.Want{features.Less, features.More} {
		for _, t := range r.strings(MaxTopics) {
			if s.Topics == nil {
				s.Topics = map[string]features.Want{}
			}
			s.Topics[t] = want
		}
	}
	return s
}

func (r *reader) ids(items []Item) {
	switch r.byte() {
	case 0:
		for i := range items {
			items[i].ID = r.string()
		}
	case 1:
		for i := range items {
			items[i].ID = strconv.FormatUint(r.uvarint(), 10)
		}
	default:
		r.fail()
	}
}

func (r *reader) names(items []Item, set func(*Item, string)) {
	names := r.strings(MaxItems)
	for i := range items {
		n := r.uvarint()
		if n >= uint64(len(names)) {
			r.fail()
			return
		}
		set(&items[i], names[n])
	}
}

func (r *reader) columns(items []Item) {
	features := r.count(MaxFeatures)
	if r.bad || features > len(r.b) {
		r.fail() // every column has at least its kind
		return
	}
	backing := make([]float64, features*len(items))
	for i := range items {
		items[i].Values = backing[i*features : (i+1)*features : (i+1)*features]
	}
	column := make([]float64, len(items))
	for f := 0; f < features && !r.bad; f++ {
		r.column(column)
		for i := range items {
			items[i].Values[f] = column[i]
		}
	}
}

func (r *reader) column(column []float64) {
	kind := r.byte()
	var holes []byte
	if kind&columnMissing != 0 {
		holes = r.bytes((len(column) + 7) / 8)
	}
	switch kind &^ columnMissing {
	case columnConstant:
		r.planes(column[:min(1, len(column))], 8, math.Float64frombits)
		for i := range column {
			column[i] = column[0]
		}
	case columnInteger:
		for i := range column {
			column[i] = float64(r.varint())
		}
	case columnDecimal:
		r.decimals(column)
	case columnFloat32:
		r.planes(column, 4, func(b uint64) float64 { return float64(math.Float32frombits(uint32(b))) })
	case columnFloat64:
		r.planes(column, 8, math.Float64frombits)
	default:
		r.fail()
	}
	for i := range column {
		if holes != nil && holes[i/8]&(1<<(i%8)) != 0 {
			column[i] = math.NaN()
		}
	}
}

func (r *reader) decimals(column []float64) {
	exponents := r.bytes(len(column))
	for i := range exponents {
		if exponents[i] > maxExponent {
			r.fail()
			return
		}
		column[i] = undecimal(r.varint(), int(exponents[i]))
	}
}

func (r *reader) planes(column []float64, size int, value func(uint64) float64) {
	planes := r.bytes(size * len(column))
	if planes == nil {
		return
	}
	for i := range column {
		var bits uint64
		for p := range size {
			bits = bits<<8 | uint64(planes[p*len(column)+i])
		}
		column[i] = value(bits)
	}
}
