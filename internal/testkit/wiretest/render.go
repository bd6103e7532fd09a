package wiretest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// backendTypes maps names to types; names of the other direction are in encode.
var backendTypes = map[string]byte{
	"BindComplete": '2', "CloseComplete": '3', "CommandComplete": 'C', "CopyBothResponse": 'W', "CopyData": 'd',
	"CopyDone": 'c', "CopyInResponse": 'G', "CopyOutResponse": 'H', "DataRow": 'D', "EmptyQueryResponse": 'I',
	"ErrorResponse": 'E', "FunctionCallResponse": 'V', "NoData": 'n', "NoticeResponse": 'N',
	"NotificationResponse": 'A', "ParameterDescription": 't', "ParameterStatus": 'S', "ParseComplete": '1',
	"PortalSuspended": 's', "ReadyForQuery": 'Z', "RowDescription": 'T',
}

func typeName(t byte) string {
	for name, typ := range backendTypes {
		if typ == t {
			return name
		}
	}
	return fmt.Sprintf("unknown(%q)", t)
}

// cursor takes fields from a payload; what is missing reads as zero and marks it bad.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return make([]byte, max(0, min(n, 8)))
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}
func (c *cursor) u16() int    { return int(binary.BigEndian.Uint16(c.take(2))) }
func (c *cursor) u32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *cursor) cstr() string {
	i := strings.IndexByte(string(c.b), 0)
	if i < 0 {
		c.bad = true
		return ""
	}
	return string(c.take(i + 1)[:i])
}

// render writes a backend message as one line, without what is a server's own by nature.
func render(typ byte, payload []byte) string {
	c := &cursor{b: payload}
	out := typeName(typ)
	add := func(format string, args ...any) { out += " " + fmt.Sprintf(format, args...) }
	switch typ {
	case 'C':
		add("%q", c.cstr())
	case 'Z':
		add("%s", c.take(1))
	case 'S':
		name, value := c.cstr(), c.cstr()
		add("%s=%q", name, value)
	case 'A':
		c.u32() // the notifying process
		channel, payload := c.cstr(), c.cstr()
		add("%q %q", channel, payload)
	case 'E', 'N':
		for len(c.b) > 1 && !c.bad {
			if code, value := c.take(1)[0], c.cstr(); strings.IndexByte("VCMDHPnct", code) >= 0 {
				add("%c=%q", code, value)
			}
		}
		c.take(1)
	case 'T':
		for n := c.u16(); n > 0 && !c.bad; n-- {
			name := c.cstr()
			c.take(6) // table and column: object ids
			oid, size, mod, format := c.u32(), int16(c.u16()), int32(c.u32()), c.u16()
			add("%s:%s/%d/%d/%d", name, oidName(oid), size, mod, format)
		}
	case 'D':
		for n := c.u16(); n > 0 && !c.bad; n-- {
			add("%s", value(c))
		}
	case 'V':
		add("%s", value(c))
	case 't':
		for n := c.u16(); n > 0 && !c.bad; n-- {
			add("%s", oidName(c.u32()))
		}
	case 'G', 'H', 'W':
		add("%d", c.take(1)[0])
		for n := c.u16(); n > 0 && !c.bad; n-- {
			add("%d", c.u16())
		}
	default:
		add("%s", show(c.take(len(c.b))))
		out = strings.TrimSuffix(out, ` ""`)
	}
	if c.bad || len(c.b) > 0 {
		out += " MALFORMED"
	}
	return out
}

// oidName keeps built-in types' numbers and hides those a database gave away.
func oidName(oid uint32) string {
	if oid >= 16384 {
		return "own"
	}
	return strconv.Itoa(int(oid))
}

func value(c *cursor) string {
	n := int32(c.u32())
	if n < 0 {
		return "NULL"
	}
	return show(c.take(int(n)))
}

// show quotes short values and digests long ones.
func show(v []byte) string {
	if len(v) > 100 {
		sum := sha256.Sum256(v)
		return fmt.Sprintf("bytes(%d,%x)", len(v), sum[:8])
	}
	if !utf8.Valid(v) {
		return fmt.Sprintf("x%x", v)
	}
	return strconv.Quote(string(v))
}
