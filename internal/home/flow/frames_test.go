package flow

import (
	"encoding/binary"
	"errors"
	"testing"
)

// frame is what the source sends around a message: kind w, three numbers, the message.
func frame(message []byte) []byte {
	return append(append([]byte{'w'}, make([]byte, 24)...), message...)
}

// FuzzFrames gives a stream whatever a source may send, frame after frame: it takes whole
// transactions, refuses the rest by an error, and holds no more than it may.
func FuzzFrames(f *testing.F) {
	add := func(frames ...[]byte) {
		var in []byte
		for _, b := range frames {
			in = append(binary.BigEndian.AppendUint16(in, uint16(len(b))), b...)
		}
		f.Add(in)
	}
	whole := [][]byte{frame(samples["begin"].bytes), frame(samples["relation"].bytes), frame(samples["insert"].bytes), frame(samples["commit"].bytes)}
	add(whole...)
	add(whole[0], whole[1], whole[2], whole[2])
	add(whole[0], whole[0])
	add(whole[2], whole[3])
	add(append([]byte{'k'}, make([]byte, 17)...))
	add([]byte{'w'}, []byte{'x'}, nil)
	again := make([]uint32, 5000) // one table, told of without end
	truncate := []any{uint32(len(again)), byte(0)}
	for range again {
		truncate = append(truncate, uint32(5))
	}
	add(whole[0], whole[1], frame(message('T', truncate...)), whole[3])
	const most = 4 << 10
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &Stream{cfg: Config{MaxBytes: most, Keys: map[string][]string{"app.person": {"id"}}}, wake: make(chan struct{}, 1), relations: map[uint32]*followed{}}
		for len(in) >= 2 {
			n := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
			b := in[2 : 2+n]
			in = in[2+n:]
			if n == 18 && b[0] == 'k' {
				b[17] = 0 // nobody is there to be answered
			}
			err := s.data(b)
			var drift *DriftError
			switch {
			case errors.Is(err, ErrTooMuch), errors.Is(err, ErrMalformed), errors.As(err, &drift):
				return
			case err != nil:
				t.Fatalf("an error of no kind: %v", err)
			case s.held > most:
				t.Fatalf("%d bytes are held", s.held)
			case s.current != nil && len(s.current.truncated) > 1:
				t.Fatalf("one table was truncated %d times", len(s.current.truncated))
			}
		}
		batch, _ := s.Take(func(uint32) bool { return true })
		for table, keys := range batch.Keys {
			if table != "app.person" || len(keys) == 0 {
				t.Fatalf("a table that nobody asked for: %s", table)
			}
		}
		if s.current == nil && s.held != 0 {
			t.Fatalf("%d bytes are held of nothing", s.held)
		}
	})
}
