package wire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// frame feeds stream to a framer in parts and returns each message's type and payload.
func frame(t testing.TB, f *Framer, stream []byte, part func(left int) int) (types []byte, payloads [][]byte, err error) {
	t.Helper()
	var body []byte
	length := 0
	for len(stream) > 0 {
		n := min(max(1, part(len(stream))), len(stream))
		chunk := stream[:n]
		stream = stream[n:]
		for len(chunk) > 0 {
			p, used, err := f.Next(chunk)
			if err != nil {
				return types, payloads, err
			}
			if used <= 0 || used > len(chunk) || len(p.Body) > used {
				t.Fatalf("used %d of %d bytes, body %d", used, len(chunk), len(p.Body))
			}
			chunk = chunk[used:]
			if p.Type == 0 {
				if len(chunk) != 0 || f.AtBoundary() {
					t.Fatal("an incomplete header with bytes left")
				}
				continue
			}
			if p.First {
				body, length = nil, p.Length
			}
			body = append(body, p.Body...)
			if p.Length != length {
				t.Fatal("the length changes inside a message")
			}
			if p.Last != (len(body) == length) || p.Last != f.AtBoundary() {
				t.Fatalf("last %v after %d of %d bytes", p.Last, len(body), length)
			}
			if p.Last {
				types, payloads = append(types, p.Type), append(payloads, body)
			}
		}
	}
	return types, payloads, nil
}

func TestFramerYieldsMessagesHoweverTheyArrive(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var stream []byte
	var want [][]byte
	types := []byte{Query, Parse, Bind, Sync, CopyData, Execute, Flush, Terminate}
	for range 500 {
		typ := types[r.IntN(len(types))]
		var body []byte
		if frontend[typ] != empty {
			body = bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(300))
		}
		want = append(want, append([]byte{typ}, body...))
		stream = AppendMessage(stream, typ, body)
	}
	for name, part := range map[string]func(int) int{
		"a byte at a time": func(int) int { return 1 },
		"at once":          func(left int) int { return left },
		"at random":        func(int) int { return r.IntN(50) },
	} {
		f := NewFramer(FromFrontend, Limits{})
		got, bodies, err := frame(t, &f, stream, part)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: %d messages, want %d: %v", name, len(got), len(want), err)
		}
		for i := range got {
			if !bytes.Equal(append([]byte{got[i]}, bodies[i]...), want[i]) {
				t.Fatalf("%s: message %d differs", name, i)
			}
		}
	}
}

func TestFramerRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		dir  Direction
		in   []byte
		size bool
	}{
		"length below four":         {FromFrontend, []byte{'Q', 0, 0, 0, 3}, false},
		"negative length":           {FromFrontend, []byte{'Q', 0xff, 0xff, 0xff, 0xff}, false},
		"least negative length":     {FromFrontend, []byte{'Q', 0x80, 0, 0, 0}, false},
		"oversized":                 {FromFrontend, []byte{'Q', 0, 1, 0, 0}, true},
		"short message too long":    {FromFrontend, []byte{'E', 0, 0, 0x20, 0}, true},
		"payload where none is":     {FromFrontend, []byte{'S', 0, 0, 0, 5}, true},
		"unknown type":              {FromFrontend, []byte{'!'}, false},
		"type of the other side":    {FromFrontend, []byte{'T'}, false},
		"unknown type from server":  {FromBackend, []byte{'Q'}, false},
		"no direction, any message": {0, []byte{'Q', 0, 0, 0, 4}, false},
	} {
		f := NewFramer(c.dir, Limits{Small: 100, Message: 1000})
		_, n, err := f.Next(c.in)
		if !errors.Is(err, ErrFrame) || errors.Is(err, ErrTooLarge) != c.size || n != 0 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if _, _, again := f.Next([]byte{'S', 0, 0, 0, 4}); again != err || f.AtBoundary() {
			t.Errorf("%s: goes on after the error: %v", name, again)
		}
	}
	var zero Framer
	if _, _, err := zero.Next([]byte{'Q', 0, 0, 0, 4}); err == nil {
		t.Error("the zero framer takes a message")
	}
}

func TestFramerDoesNotAllocate(t *testing.T) {
	stream := AppendMessage(nil, DataRow, make([]byte, 100))
	f := NewFramer(FromBackend, Limits{})
	if n := testing.AllocsPerRun(1000, func() {
		for off := 0; off < len(stream); {
			_, used, err := f.Next(stream[off:])
			if err != nil {
				t.Fatal(err)
			}
			off += used
		}
	}); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}

func FuzzFrontend(f *testing.F) { fuzzFramer(f, FromFrontend) }
func FuzzBackend(f *testing.F)  { fuzzFramer(f, FromBackend) }

// fuzzFramer: whatever the cut, the framer sees the same messages and the same error.
func fuzzFramer(f *testing.F, d Direction) {
	f.Add([]byte("Q\x00\x00\x00\x0dselect 1\x00S\x00\x00\x00\x04"), uint8(3))
	f.Add([]byte("Z\x00\x00\x00\x05ID\x00\x00\x00\x06\x00\x00"), uint8(1))
	f.Add([]byte("d\xff\xff\xff\xff"), uint8(2))
	f.Add(AppendErrorResponse(nil, ErrorFields{Severity: Fatal, SQLState: "08P01", Message: "m"}), uint8(7))
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		one := NewFramer(d, Limits{Small: 64, Message: 4096})
		many := one
		t1, p1, err1 := frame(t, &one, stream, func(left int) int { return left })
		t2, p2, err2 := frame(t, &many, stream, func(int) int { return int(step) + 1 })
		if !bytes.Equal(t1, t2) || (err1 == nil) != (err2 == nil) {
			t.Fatalf("at once %q %v, in parts %q %v", t1, err1, t2, err2)
		}
		for i := range p1 {
			if !bytes.Equal(p1[i], p2[i]) || len(p1[i]) > 4096 {
				t.Fatalf("message %d differs", i)
			}
		}
	})
}

func BenchmarkFramer(b *testing.B) {
	var stream []byte
	for range 500 {
		stream = AppendMessage(stream, DataRow, make([]byte, 100))
	}
	f := NewFramer(FromBackend, Limits{})
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		for off := 0; off < len(stream); {
			_, used, err := f.Next(stream[off:])
			if err != nil {
				b.Fatal(err)
			}
			off += used
		}
	}
}

// TestRunTakesWhatNextWould: the short cut for rows counts the same messages and stops before
// everything that is not one of them, whole and within its bound.
func TestRunTakesWhatNextWould(t *testing.T) {
	row := func(n int) []byte { return AppendMessage(nil, DataRow, make([]byte, n)) }
	for name, c := range map[string]struct {
		b    []byte
		k, n int
	}{
		"none":           {AppendReadyForQuery(nil, 'I'), 0, 0},
		"two and a part": {append(append(row(3), row(0)...), row(9)[:12]...), 2, 13},
		"then another":   {append(row(1), AppendReadyForQuery(nil, 'I')...), 1, 6},
		"too long":       {append(row(1), row(200)...), 1, 6},
		"length below 4": {append(row(1), 'D', 0, 0, 0, 3, 0, 0), 1, 6},
		"negative":       {append(row(1), 'D', 0xff, 0xff, 0xff, 0xff, 0), 1, 6},
		"only a header":  {row(7)[:5], 0, 0},
	} {
		f := NewFramer(FromBackend, Limits{Message: 100})
		if k, n := f.Run(c.b, DataRow); k != c.k || n != c.n {
			t.Errorf("%s: %d messages, %d bytes, want %d and %d", name, k, n, c.k, c.n)
		}
		if k, _ := f.Run(row(1), Bind); k != 0 {
			t.Errorf("%s: took messages of a type that the direction does not know", name)
		}
	}
	f := NewFramer(FromBackend, Limits{})
	if _, _, err := f.Next(row(4)[:7]); err != nil {
		t.Fatal(err)
	}
	if k, n := f.Run(row(4), DataRow); k != 0 || n != 0 {
		t.Error("took messages in the middle of another")
	}
}
