package accesslog

import (
	"bytes"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// FuzzReadEntry: whatever a disk holds, an entry that reads as live is exactly what was
// written, and nothing panics or asks for unbounded memory.
func FuzzReadEntry(f *testing.F) {
	r := trefoil.Record{Body: []byte("{}"), Salt: make([]byte, trefoil.SaltSize)}
	e := &entry{at: time.Unix(1, 0), opening: 3, payload: bodyPayload(r, []byte("abc"))}
	copy(e.leaf[:], r.Leaf())
	f.Add(appendEntry(nil, e))
	f.Add([]byte("TFR1\x02"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := readEntry(bytes.NewReader(data), 0)
		if err != nil || e.state != stateLive {
			return
		}
		again := appendEntry(nil, e)
		// Bytes that the format leaves zero may differ only where the checksum says so.
		if !bytes.Equal(again[entryHeader:], data[entryHeader:len(again)]) {
			t.Fatal("an entry is not what was written")
		}
		if record, _, err := e.record(); err == nil && !bytes.Equal(record.Leaf(), e.leaf[:]) {
			t.Fatal("a body that its leaf does not commit to")
		}
	})
}

// FuzzParseTile: every accepted path is the one spelling of one tile, and stays below tile/.
func FuzzParseTile(f *testing.F) {
	for _, path := range []string{"tile/0/000", "tile/entries/x001/x234/067.p/8", "tile/63/../../.state", "tile/0/x000/001", "tile/1/999.p/255"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, ok := parseTile(path)
		if !ok {
			return
		}
		want := trefoil.EntriesPath(name.index, name.width)
		if name.level >= 0 {
			want = trefoil.TilePath(name.level, name.index, name.width)
		}
		if path != want {
			t.Fatalf("%q is taken for %q", path, want)
		}
	})
}
