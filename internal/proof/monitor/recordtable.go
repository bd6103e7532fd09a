package monitor

// recordKey names a record of a watched log.
type recordKey struct {
	log   int // index into the watched logs
	index uint64
}

// record is what is kept in memory of a record whose body is in the journal. Its salt is there too.
type record struct {
	body      span
	leaf      halfLeaf
	permitted bool
	expires   int64
	epoch     uint64
}

// halfLeaf is the first half of a leaf hash: enough to tell another record at the same place,
// which also would take a log that two signatures show to have split.
type halfLeaf [16]byte

func half(leaf [32]byte) halfLeaf { return halfLeaf(leaf[:16]) }

// chunkSize is how many records of neighbouring indexes are kept together.
const chunkSize = 1024

// slot is a record in 40 bytes. A zero off is none: the journal's first bytes are a frame's.
type slot struct {
	off       int64
	leaf      halfLeaf
	len       uint32
	expires   uint32 // Unix seconds, to the year 2106
	epoch     uint32
	hdr       uint16
	permitted bool
}

// recordTable holds records by log and index: 40 bytes each where they lie close together, as the
// records of a log do.
type recordTable struct {
	chunks map[recordKey]*[chunkSize]slot // by log and index ÷ chunkSize
}

func newRecordTable() *recordTable {
	return &recordTable{chunks: map[recordKey]*[chunkSize]slot{}}
}

func (t *recordTable) has(k recordKey) bool {
	c := t.chunks[recordKey{k.log, k.index / chunkSize}]
	return c != nil && c[k.index%chunkSize].off != 0
}

// get returns a copy of a record, nil if there is none.
func (t *recordTable) get(k recordKey) *record {
	c := t.chunks[recordKey{k.log, k.index / chunkSize}]
	if c == nil || c[k.index%chunkSize].off == 0 {
		return nil
	}
	s := &c[k.index%chunkSize]
	return &record{body: span{s.off, int(s.len), int(s.hdr)}, leaf: s.leaf, permitted: s.permitted, expires: int64(s.expires), epoch: uint64(s.epoch)}
}

// put keeps a record in the place of what was there.
func (t *recordTable) put(k recordKey, r *record) {
	at := recordKey{k.log, k.index / chunkSize}
	c := t.chunks[at]
	if c == nil {
		c = new([chunkSize]slot)
		t.chunks[at] = c
	}
	c[k.index%chunkSize] = slot{off: r.body.off, leaf: r.leaf, len: uint32(r.body.len), expires: uint32(r.expires), epoch: uint32(r.epoch),
		hdr: uint16(r.body.hdr), permitted: r.permitted}
}
