package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// Log is the site's access log as an audit reads it. *accesslog.Reader is one.
type Log interface {
	Checkpoint(ctx context.Context) (*trefoil.Checkpoint, []byte, error)
	Body(index uint64) (trefoil.Record, string, error)
	Opening(index uint64) ([]byte, error)
	Receipt(ctx context.Context, index uint64) (*trefoil.Receipt, error)
}

// saltSize is the size of a result's salt, the first of a record's opening.
const saltSize = 32

// Chunk is what one release record says of the bytes that left.
type Chunk struct {
	Index             uint64 // of the record in the log
	Number            int64
	Bytes, Cumulative int64
	Result            []byte // SHA-256(salt ‖ bytes)
	Salt              []byte // nil: the opening is gone
}

// Claims are what a session's records say.
type Claims struct {
	Session   string
	Started   bool
	Allowance int64
	Chunks    []Chunk // by number
	End       *trefoil.SessionBody
	Bad       []Difference // records that do not verify
}

// Difference is one thing that does not hold.
type Difference struct {
	Rule   string  `json:"rule"` // record, chunk-differs, unrecorded-bytes, totals, tls, handshake, clear-text, connection
	Text   string  `json:"text"`
	Record *uint64 `json:"record,omitempty"` // index in the log
	From   int64   `json:"from"`             // bytes of data in the session, from its beginning
	To     int64   `json:"to"`
}

// slack is how far before a session's beginning its records may lie by another clock.
const slack = time.Hour

// Collect finds a session's records, which were made after since, and verifies each under t.
func Collect(ctx context.Context, log Log, t *trefoil.Trust, session string, since time.Time) (*Claims, error) {
	c, _, err := log.Checkpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the session's records: %w", err)
	}
	claims := &Claims{Session: session}
	for index := firstAfter(log, c.Size, since.Add(-slack)); index < c.Size && claims.End == nil; index++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		record, _, err := log.Body(index)
		if errors.Is(err, accesslog.ErrNoBody) || err == nil && !bytes.Contains(record.Body, []byte(session)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read record %d: %w", index, err)
		}
		if err := claims.take(ctx, log, t, index, record); err != nil {
			return nil, err
		}
	}
	claims.order()
	return claims, nil
}

// firstAfter is about where the records of a time begin: a log grows with time.
func firstAfter(log Log, size uint64, at time.Time) uint64 {
	return uint64(sort.Search(int(size), func(i int) bool {
		for end := min(uint64(i)+1000, size); uint64(i) < end; i++ { // past bodies that are gone
			record, _, err := log.Body(uint64(i))
			if err != nil {
				continue
			}
			b, err := trefoil.DecodeBody(record.Body)
			return err != nil || b.At.After(at)
		}
		return false
	}))
}

// take adds one record, if it is the session's.
func (c *Claims) take(ctx context.Context, log Log, t *trefoil.Trust, index uint64, record trefoil.Record) error {
	b, err := trefoil.DecodeBody(record.Body)
	if err != nil {
		c.bad(index, "it cannot be read: %v", err)
		return nil
	}
	switch {
	case b.Release != nil && b.Release.Access.Session == c.Session:
	case b.Session != nil && b.Session.Access.Session == c.Session:
	default:
		return nil
	}
	if receipt, err := log.Receipt(ctx, index); err != nil {
		c.bad(index, "it has no receipt: %v", err)
	} else if _, err := t.VerifyReceipt(receipt); err != nil {
		var failed *trefoil.VerifyError
		if !errors.As(err, &failed) || failed.Reason != trefoil.ReasonNoPermit {
			c.bad(index, "it does not verify: %v", err)
		}
		return nil // what was not permitted allows nothing
	}
	switch {
	case b.Release != nil:
		return c.chunk(log, index, b.Release)
	case b.Session.Event == "start":
		c.Started, c.Allowance = true, b.Session.Allowance
	default:
		c.End = b.Session
	}
	return nil
}

func (c *Claims) chunk(log Log, index uint64, r *trefoil.ReleaseBody) error {
	x := Chunk{Index: index, Number: r.Chunk, Bytes: r.Bytes, Cumulative: r.Cumulative}
	var err error
	if x.Result, err = hex.DecodeString(r.Result); err != nil {
		c.bad(index, "its digest is none")
		return nil
	}
	opening, err := log.Opening(index)
	if err != nil && !errors.Is(err, accesslog.ErrNoBody) {
		return fmt.Errorf("read record %d: %w", index, err)
	}
	if len(opening) >= saltSize {
		x.Salt = opening[:saltSize]
	}
	c.Chunks = append(c.Chunks, x)
	return nil
}

func (c *Claims) bad(index uint64, format string, args ...any) {
	c.Bad = append(c.Bad, Difference{Rule: "record", Record: &index, Text: fmt.Sprintf("record %d: %s", index, fmt.Sprintf(format, args...))})
}

// order sorts the chunks. Where a session in the region fell back to another witness, one
// chunk has two records of the same bytes: the later one counts.
func (c *Claims) order() {
	sort.SliceStable(c.Chunks, func(i, j int) bool { return c.Chunks[i].Number < c.Chunks[j].Number })
	kept := c.Chunks[:0]
	for _, x := range c.Chunks {
		if n := len(kept); n > 0 && kept[n-1].Number == x.Number {
			kept[n-1] = x
			continue
		}
		kept = append(kept, x)
	}
	c.Chunks = kept
}
