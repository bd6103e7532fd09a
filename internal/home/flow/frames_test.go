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
	const most = 64
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &Stream{cfg: Config{MaxRows: most, MaxBytes: 1 << 20, Tables: map[string]Table{"app.person": {Key: []string{"id"}, Columns: []string{"id"}}}},
			wake: make(chan struct{}, 1), open: newBatch(), relations: map[uint32]*followed{}}
		s.space.L = &s.mu
		l := &link{to: s}
		for len(in) >= 2 {
			n := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
			b := in[2 : 2+n]
			in = in[2+n:]
			err := l.data(b)
			var drift *DriftError
			switch {
			case errors.Is(err, ErrMalformed), errors.As(err, &drift):
				return
			case err != nil:
				t.Fatalf("an error of no kind: %v", err)
			case s.current != nil && len(s.current.changes) >= most:
				t.Fatalf("%d changes are held", len(s.current.changes))
			}
			batch, err := s.Take()
			if err != nil {
				t.Fatal(err)
			}
			if batch.Len() > 2*most {
				t.Fatalf("%d rows are held", batch.Len())
			}
			for table, rows := range batch.Tables {
				if table != "app.person" || len(rows.List) == 0 && !batch.Truncated[table] {
					t.Fatalf("a table that nobody asked for: %s", table)
				}
			}
		}
	})
}
