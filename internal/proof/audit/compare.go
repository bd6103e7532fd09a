package audit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
)

// Report is what an audit found.
type Report struct {
	Session    string `json:"session"`
	Connection string `json:"connection"`
	Holds      bool   `json:"holds"`

	Ciphertext int64  `json:"ciphertext_bytes"`
	Suite      string `json:"cipher_suite,omitempty"`
	TLSRecords int    `json:"tls_records"`
	Updates    int    `json:"key_updates"`

	Bytes    int64 `json:"bytes"`            // of data that went to the client
	Chunks   int   `json:"chunks_recorded"`  // release records
	Matched  int   `json:"chunks_matched"`   // whose digest the bytes have
	Released int64 `json:"bytes_matched"`    // in them
	Others   int64 `json:"bytes_of_session"` // the rest: catalog reads under the session's permit, and fixed messages
	Stated   int64 `json:"bytes_stated"`     // what the session's records allow the rest to be
	Unread   int64 `json:"bytes_not_compared,omitempty"`

	Differences []Difference `json:"differences,omitempty"`
	Notes       []string     `json:"notes,omitempty"`
}

// mostFixed bounds the gateway's own messages of a session that has no end record.
const mostFixed = 16 << 10

// mostWork bounds how many bytes are hashed in search of one chunk that is not where it
// should be, and mostInAll of all of them.
const mostWork, mostInAll = 8 << 30, 64 << 30

// span is a run of data that belongs to no chunk.
type span struct{ from, to int64 }

// comparison is one run of Compare.
type comparison struct {
	*Report
	x      *Stream
	c      *Claims
	at     int64   // behind the last chunk that was found
	rest   []span  // what belongs to no chunk
	absent []Chunk // recorded and not found, in order
	before int     // of absent, how many have a found chunk behind them
	work   int64
}

// Compare compares a session's data with its records. The errors are of the disk.
func Compare(x *Stream, c *Claims) (*Report, error) {
	m := &comparison{Report: &Report{Session: c.Session, Bytes: x.Size, Chunks: len(c.Chunks), Suite: x.Suite,
		TLSRecords: x.Records, Updates: x.Updates}, x: x, c: c}
	m.Differences = append(m.Differences, c.Bad...)
	if err := m.chunks(); err != nil {
		return nil, err
	}
	if m.at < x.Size {
		m.rest = append(m.rest, span{m.at, x.Size})
	}
	m.Others = x.Size - m.Released
	if err := m.totals(); err != nil {
		return nil, err
	}
	m.Holds = len(m.Differences) == 0
	return m.Report, nil
}

func (m *comparison) differs(rule string, s span, record *uint64, format string, args ...any) {
	m.Differences = append(m.Differences, Difference{Rule: rule, Text: fmt.Sprintf(format, args...), Record: record, From: s.from, To: s.to})
}

// chunks looks for each recorded chunk behind the one before.
func (m *comparison) chunks() error {
	var sum int64
	for i, k := range m.c.Chunks {
		sum += k.Bytes
		if k.Number != int64(i) || k.Cumulative != sum || k.Bytes <= 0 {
			m.differs("record", span{m.at, m.at}, &k.Index, "record %d is not the next of its session: chunk %d, %d bytes in all", k.Index, k.Number, k.Cumulative)
			sum = k.Cumulative
		}
		from, found, err := m.find(k)
		if err != nil {
			return err
		}
		if !found {
			m.absent = append(m.absent, k)
			continue
		}
		if from > m.at {
			m.rest = append(m.rest, span{m.at, from})
		}
		m.at = from + k.Bytes
		m.Matched++
		m.Released += k.Bytes
		m.before = len(m.absent)
	}
	return nil
}

// find looks for a chunk's bytes from m.at on. A chunk begins a TLS record: whoever lets it
// out writes it by itself.
func (m *comparison) find(k Chunk) (int64, bool, error) {
	if k.Salt == nil || k.Bytes <= 0 {
		return 0, false, nil
	}
	buf := make([]byte, 64<<10)
	limit := m.work + mostWork
	for i := m.x.find(m.at); i < len(m.x.data); i++ {
		from := m.x.data[i].plain
		if m.x.data[i].size == 0 || from < m.at {
			continue
		}
		if from+k.Bytes > m.x.Size || m.work+k.Bytes > min(limit, mostInAll) {
			break
		}
		m.work += k.Bytes
		h := sha256.New()
		h.Write(k.Salt)
		if _, err := io.CopyBuffer(h, io.NewSectionReader(m.x, from, k.Bytes), buf); err != nil {
			return 0, false, fmt.Errorf("compare chunk %d: %w", k.Number, err)
		}
		if bytes.Equal(h.Sum(nil), k.Result) {
			return from, true, nil
		}
	}
	return 0, false, nil
}

// totals judges what was not found, and what belongs to no chunk.
func (m *comparison) totals() error {
	end := m.c.End
	switch {
	case end != nil:
		m.Stated = end.Covered + end.Fixed
		m.checkEnd()
	case m.c.Started:
		m.Stated = m.c.Allowance + mostFixed
		m.note("the session has no end record: what belongs to no chunk is held against its allowance and %d bytes of the gateway's own", mostFixed)
	default:
		m.Stated = mostFixed
		m.note("the session has no start record that verifies: nothing but %d bytes of the gateway's own is allowed", mostFixed)
	}
	differing := m.judgeAbsent()
	over := m.Others - m.Unread - differing - m.Stated
	if over > 0 {
		if err := m.unrecorded(over); err != nil {
			return err
		}
	}
	if over < 0 && end != nil {
		m.note("%d bytes fewer than the records say came to the valve: the connection was cut", -over)
	}
	return nil
}

func (m *comparison) checkEnd() {
	var sum int64
	for _, k := range m.c.Chunks {
		sum += k.Bytes
	}
	if end := m.c.End; end.Released > sum || end.Covered > m.c.Allowance || end.Released < m.Released {
		m.differs("totals", span{0, m.Bytes}, nil, "the session's end says %d released and %d covered; its release records hold %d bytes, %d of them are here, and its permitted allowance is %d",
			end.Released, end.Covered, sum, m.Released, m.c.Allowance)
	}
}

// judgeAbsent says of each chunk that was not found whether other bytes went in its place. It
// returns how many bytes such chunks have. Chunks at the end may never have been sent, and one
// may have been cut.
func (m *comparison) judgeAbsent() (differing int64) {
	outstanding := int64(-1) // of what the end says was released, how much is not found
	if m.c.End != nil {
		outstanding = m.c.End.Released - m.Released
	}
	cut := false
	for i, k := range m.absent {
		left := m.Bytes - m.at
		gap := m.gap(k, i)
		switch {
		case k.Salt == nil:
			m.differs("chunk-differs", gap, &k.Index, "record %d (chunk %d, %d bytes) cannot be compared: its opening is gone", k.Index, k.Number, k.Bytes)
		case i < m.before:
			m.differs("chunk-differs", gap, &k.Index, "record %d (chunk %d): its %d bytes are not the ones that were sent", k.Index, k.Number, k.Bytes)
		case cut || left == 0 || outstanding == 0:
			continue // never sent
		case left >= k.Bytes && (outstanding < 0 || outstanding >= k.Bytes):
			m.differs("chunk-differs", gap, &k.Index, "record %d (chunk %d): its %d bytes are not the ones that were sent", k.Index, k.Number, k.Bytes)
			outstanding -= min(outstanding, k.Bytes)
		default:
			cut = true
			m.Unread = min(left, k.Bytes)
			if outstanding > 0 { // an end is there: what it says of the rest is not of this chunk
				m.Unread = max(0, min(m.Unread, outstanding, m.Others-m.Stated-differing))
			}
			m.note("the last %d bytes are of record %d (chunk %d, %d bytes), which was cut off: they cannot be compared", m.Unread, k.Index, k.Number, k.Bytes)
			continue
		}
		differing += k.Bytes
	}
	return min(differing, m.Others)
}

// gap is where absent chunk i should have been.
func (m *comparison) gap(k Chunk, i int) span {
	if i >= m.before {
		return span{m.at, m.Bytes}
	}
	for _, s := range m.rest {
		if s.to-s.from >= k.Bytes {
			return s
		}
	}
	return span{0, m.Bytes}
}

func (m *comparison) note(format string, args ...any) {
	m.Notes = append(m.Notes, fmt.Sprintf(format, args...))
}

// unrecorded says where bytes are that no record has.
func (m *comparison) unrecorded(over int64) error {
	m.differs("unrecorded-bytes", span{0, m.Bytes}, nil, "%d bytes went to the client that no record has", over)
	for i, s := range m.rest {
		if i == mostSpans {
			m.note("%d more runs that belong to no release record", len(m.rest)-i)
			return nil
		}
		what, err := m.describe(s)
		if err != nil {
			return err
		}
		m.note("bytes %d to %d belong to no release record: %s", s.from, s.to, what)
	}
	return nil
}
