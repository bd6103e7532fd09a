package flow

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
)

// message builds the bytes of a message: numbers by their width, strings ended by zero.
func message(kind byte, parts ...any) []byte {
	b := []byte{kind}
	for _, p := range parts {
		switch v := p.(type) {
		case byte:
			b = append(b, v)
		case int16:
			b = binary.BigEndian.AppendUint16(b, uint16(v))
		case uint32:
			b = binary.BigEndian.AppendUint32(b, v)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		case string:
			b = append(append(b, v...), 0)
		case []byte:
			b = append(b, v...)
		}
	}
	return b
}

func field(s string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{'t'}, uint32(len(s))), s...)
}

var samples = map[string]struct {
	bytes []byte
	want  any
}{
	"begin":    {message('B', uint64(7), uint64(1), uint32(9)), Begin{Final: 7, XID: 9}},
	"commit":   {message('C', byte(0), uint64(7), uint64(8), uint64(1)), Commit{Start: 7, End: 8}},
	"origin":   {message('O', uint64(1), "elsewhere"), Ignored{'O'}},
	"type":     {message('Y', uint32(5), "app", "mood"), Ignored{'Y'}},
	"note":     {message('M', byte(1), uint64(5), "prefix", uint32(3), []byte("abc")), Ignored{'M'}},
	"truncate": {message('T', uint32(2), byte(0), uint32(5), uint32(6)), Truncate{Relations: []uint32{5, 6}}},
	"relation": {message('R', uint32(5), "app", "person", byte('d'), int16(1), byte(1), "id", uint32(20), uint32(0xffffffff)),
		Relation{OID: 5, Schema: "app", Name: "person", Identity: 'd', Columns: []RelationColumn{{Name: "id", Key: true, Type: 20, Mod: -1}}}},
	"insert": {message('I', uint32(5), byte('N'), int16(2), field("1"), byte('n')),
		Change{Relation: 5, Insert: true, New: []Value{{'t', []byte("1")}, {Kind: 'n'}}}},
	"update of a key": {message('U', uint32(5), byte('K'), int16(1), field("1"), byte('N'), int16(2), field("2"), byte('u')),
		Change{Relation: 5, Old: []Value{{'t', []byte("1")}}, New: []Value{{'t', []byte("2")}, {Kind: 'u'}}}},
	"delete":        {message('D', uint32(5), byte('K'), int16(1), field("1")), Change{Relation: 5, Old: []Value{{'t', []byte("1")}}}},
	"stream start":  {message('S', uint32(9), byte(1)), StreamStart{XID: 9, First: true}},
	"stream stop":   {message('E'), StreamStop{}},
	"stream commit": {message('c', uint32(9), byte(0), uint64(7), uint64(8), uint64(1)), StreamCommit{XID: 9, Start: 7, End: 8}},
	"stream abort":  {message('A', uint32(9), uint32(10)), StreamAbort{XID: 9, Sub: 10}},
	"abort, v4":     {message('A', uint32(9), uint32(10), uint64(1), uint64(1)), StreamAbort{XID: 9, Sub: 10}},
	"prepare":       {message('P', byte(0), uint64(7), uint64(8), uint64(1), uint32(9), "gid"), Prepared{Kind: 'P', XID: 9, Start: 7, End: 8}},
	"begin prepare": {message('b', uint64(7), uint64(8), uint64(1), uint32(9), "gid"), Prepared{Kind: 'b', XID: 9, Start: 7, End: 8}},
	"rollback":      {message('r', byte(0), uint64(7), uint64(8), uint64(1), uint64(1), uint32(9), "gid"), Prepared{Kind: 'r', XID: 9, Start: 7, End: 8}},
}

func TestDecodeEveryKind(t *testing.T) {
	for name, s := range samples {
		got, err := new(Decoder).Decode(s.bytes)
		if err != nil || !reflect.DeepEqual(got, s.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for i := range s.bytes { // whatever is cut off is noticed
			if name == "abort, v4" && i == len(samples["stream abort"].bytes) {
				continue
			}
			if m, err := new(Decoder).Decode(s.bytes[:i]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut to %d bytes: %+v, %v", name, i, m, err)
			}
		}
		if m, err := new(Decoder).Decode(append(s.bytes[:len(s.bytes):len(s.bytes)], 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a byte more: %+v, %v", name, m, err)
		}
	}
}

func TestStreamedChangesNameTheirTransaction(t *testing.T) {
	var d Decoder
	for _, m := range [][]byte{message('S', uint32(9), byte(1)), message('I', uint32(9), uint32(5), byte('N'), int16(0))} {
		if _, err := d.Decode(m); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCountsThatLieAllocateNothing(t *testing.T) {
	for name, m := range map[string][]byte{
		"columns":     message('R', uint32(5), "app", "person", byte('d'), int16(32767)),
		"values":      message('I', uint32(5), byte('N'), int16(32767)),
		"negative":    message('I', uint32(5), byte('N'), int16(-1)),
		"a length":    message('I', uint32(5), byte('N'), int16(1), byte('t'), uint32(0x7fffffff)),
		"relations":   message('T', uint32(0xffffffff), byte(0)),
		"a message":   message('M', byte(0), uint64(0), "p", uint32(0xfffffff0)),
		"value kinds": message('I', uint32(5), byte('N'), int16(1), byte('z')),
		"no new row":  message('U', uint32(5), byte('K'), int16(0)),
	} {
		allocated := testing.AllocsPerRun(1, func() {
			if _, err := new(Decoder).Decode(m); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
		})
		if allocated > 40 {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

func TestSnapshotSees(t *testing.T) {
	s, err := ParseSnapshot("4294967290:4294967300:4294967295,4294967298") // crosses 2^32
	if err != nil {
		t.Fatal(err)
	}
	for xid, want := range map[uint32]bool{4294967289: true, 4294967295: false, 4294967294: true, 2: false, 3: true, 4: false, 9: false} {
		if s.Sees(xid) != want {
			t.Errorf("sees %d: %v", xid, !want)
		}
	}
	for _, bad := range []string{"", "1:2", "a:b:c", "1:x:", "1:2:x"} {
		if _, err := ParseSnapshot(bad); err == nil {
			t.Errorf("%q is no snapshot", bad)
		}
	}
}

func FuzzPgoutput(f *testing.F) {
	for _, s := range samples {
		f.Add(s.bytes)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, d := range []*Decoder{{}, {streaming: true}} {
			m, err := d.Decode(data)
			if (m == nil) != (err != nil) {
				t.Fatalf("message %v, error %v", m, err)
			}
			if r, ok := m.(Relation); ok && len(r.Columns)*10 > len(data) {
				t.Fatal("more columns than bytes")
			}
		}
	})
}
