package decision_test

import (
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// made gives a decision of n items with 12 features of the kinds that platforms send.
func made(subject string, at time.Time, n int, r *rand.Rand) *decision.Decision {
	d := &decision.Decision{ID: decision.NewID(at), Surface: "for-you", Subject: subject,
		Model: decision.Hash{1}, Features: decision.Hash{2}, Scores: decision.Hash{3},
		Settings: features.Settings{Profiling: true, Off: []string{"region-trend"},
			Topics: map[string]features.Want{"cooking": features.More, "cars": features.Less}}}
	for range n {
		values := make([]float64, 12)
		for f := range 7 {
			// six significant digits, as a service prints a float
			values[f], _ = strconv.ParseFloat(strconv.FormatFloat(r.ExpFloat64(), 'g', 6, 64), 64)
		}
		if r.IntN(5) == 0 {
			values[2] = math.NaN()
		}
		values[7], values[8], values[9] = float64(r.IntN(2)), float64(r.IntN(60)), float64(r.IntN(6))
		values[10], values[11] = float64(r.IntN(24)), float64(r.IntN(4))
		d.Items = append(d.Items, decision.Item{ID: strconv.FormatUint(r.Uint64()>>1, 10), Values: values,
			Topic: "topic " + strconv.Itoa(r.IntN(24)), Region: []string{"IE", "FR", "NO"}[r.IntN(3)], Creator: []string{"small", "large"}[r.IntN(2)]})
	}
	return d
}

func random() *rand.Rand { return rand.New(rand.NewPCG(7, 7)) }

func equal(t *testing.T, got, want *decision.Decision) {
	t.Helper()
	g, w := *got, *want
	if len(g.Items) != len(w.Items) {
		t.Fatalf("%d items came back of %d", len(g.Items), len(w.Items))
	}
	for i := range w.Items {
		for f, v := range w.Items[i].Values {
			if b := g.Items[i].Values[f]; math.Float64bits(b) != math.Float64bits(v) && !(b != b && v != v) {
				t.Fatalf("a value of feature %d changed", f)
			}
		}
		a, b := g.Items[i], w.Items[i]
		a.Values, b.Values = nil, nil
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("an item changed: %+v, not %+v", a, b)
		}
	}
	g.Items, w.Items = nil, nil
	if !reflect.DeepEqual(g, w) {
		t.Fatalf("%+v\nis not\n%+v", g, w)
	}
}

func TestWhatIsStoredComesBackToTheBit(t *testing.T) {
	r := random()
	columns := map[string]func() float64{
		"doubles":    r.NormFloat64,
		"float32":    func() float64 { return float64(float32(r.NormFloat64())) },
		"huge":       func() float64 { return r.NormFloat64() * 1e300 },
		"tiny":       func() float64 { return r.NormFloat64() * 1e-310 },
		"minus zero": func() float64 { return math.Copysign(0, float64(r.IntN(2))-0.5) },
		"missing":    math.NaN,
		"decimals":   func() float64 { return float64(r.IntN(1e9)) / 1e4 },
		"powers":     func() float64 { return math.Pow10(r.IntN(40) - 20) },
		"integers":   func() float64 { return float64(r.IntN(1e9) - 5e8) },
	}
	for name, draw := range columns {
		t.Run(name, func(t *testing.T) {
			d := made("s", noon, 77, r)
			for i := range d.Items {
				d.Items[i].Values[3] = draw()
				d.Items[i].ID = "v-" + d.Items[i].ID
			}
			enc, err := d.Encode()
			if err != nil {
				t.Fatal(err)
			}
			back := &decision.Decision{ID: d.ID, Surface: d.Surface, Subject: d.Subject}
			if err := back.Decode(enc); err != nil {
				t.Fatal(err)
			}
			equal(t, back, d)
		})
	}
}

func TestTwoHundredItemsFitEightKilobytes(t *testing.T) {
	enc, err := made("s", noon, 200, random()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(enc))
	if len(enc) > 8192 {
		t.Errorf("200 items take %d bytes", len(enc))
	}
}

func TestAnIDLeadsToItsDayAndCannotBeGuessed(t *testing.T) {
	a, b := decision.NewID(noon), decision.NewID(noon)
	if a == b || !a.At().Equal(noon) {
		t.Fatalf("%s and %s of %s", a, b, a.At())
	}
	if back, err := decision.ParseID(a.String()); err != nil || back != a {
		t.Errorf("%s came back as %s: %v", a, back, err)
	}
	for _, bad := range []string{"", "zz", a.String() + "0", strings.Repeat("g", 32), a.String()[1:]} {
		if _, err := decision.ParseID(bad); err == nil {
			t.Errorf("%q was an id", bad)
		}
	}
}

func TestADecisionBeyondTheBoundsIsNotStored(t *testing.T) {
	long := made("s", noon, 2, random())
	long.Items[1].ID = strings.Repeat("x", decision.MaxText+1)
	ragged := made("s", noon, 2, random())
	ragged.Items[1].Values = ragged.Items[1].Values[1:]
	for name, d := range map[string]*decision.Decision{"no items": {ID: decision.NewID(noon)}, "a long id": long, "ragged rows": ragged,
		"too many": made("s", noon, decision.MaxItems+1, random())} {
		if _, err := d.Encode(); err == nil {
			t.Errorf("%s: stored", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for n := range 4 {
		enc, err := made("s", noon, n*30+1, random()).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, enc []byte) {
		var d decision.Decision
		if d.Decode(enc) != nil {
			return
		}
		again, err := d.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		var back decision.Decision
		if err := back.Decode(again); err != nil {
			t.Fatal(err)
		}
		equal(t, &back, &d)
	})
}
