package wiretest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// fields are the arguments that some message takes; which one takes what is in encode.
type fields struct {
	String, Name, Query, Portal, Statement, Type, Data, Message, Hex string
	OIDs                                                             []uint32
	MaxRows, Function                                                uint32
	ParameterFormats, ResultFormats                                  []uint16
	Parameters                                                       []*string // null = NULL; "\\x…" = bytes in hex
	Repeat                                                           int       // of Data, or of String's "%s"
}

// encode builds a frontend message.
func encode(name, args string) ([]byte, error) {
	var f fields
	if err := decodeArgs(args, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var b []byte
	cstr := func(s string) { b = append(append(b, s...), 0) }
	u16 := func(v int) { b = binary.BigEndian.AppendUint16(b, uint16(v)) }
	u32 := func(v uint32) { b = binary.BigEndian.AppendUint32(b, v) }
	formats := func(list []uint16) {
		u16(len(list))
		for _, v := range list {
			u16(int(v))
		}
	}
	values := func() {
		u16(len(f.Parameters))
		for _, p := range f.Parameters {
			if p == nil {
				u32(0xffffffff)
				continue
			}
			v := []byte(*p)
			if h, ok := strings.CutPrefix(*p, `\x`); ok {
				v, _ = hex.DecodeString(h) // a script's typing error shows in its transcript
			}
			u32(uint32(len(v)))
			b = append(b, v...)
		}
	}
	typ := byte(0)
	switch name {
	case "Query":
		typ = 'Q'
		cstr(strings.Replace(f.String, "%s", strings.Repeat("x", f.Repeat), 1))
	case "Parse":
		typ = 'P'
		cstr(f.Name)
		cstr(f.Query)
		u16(len(f.OIDs))
		for _, o := range f.OIDs {
			u32(o)
		}
	case "Bind":
		typ = 'B'
		cstr(f.Portal)
		cstr(f.Statement)
		formats(f.ParameterFormats)
		values()
		formats(f.ResultFormats)
	case "Describe", "Close":
		typ = map[string]byte{"Describe": 'D', "Close": 'C'}[name]
		b = append(b, f.Type...)
		cstr(f.Name)
	case "Execute":
		typ = 'E'
		cstr(f.Portal)
		u32(f.MaxRows)
	case "CopyData":
		typ = 'd'
		b = append(b, strings.Repeat(f.Data, max(1, f.Repeat))...)
	case "CopyFail":
		typ = 'f'
		cstr(f.Message)
	case "FunctionCall":
		typ = 'F'
		u32(f.Function)
		formats(f.ParameterFormats)
		values()
		formats(f.ResultFormats)
		b = append(b[:len(b)-2*len(f.ResultFormats)-2], 0, 0) // one format, not a list: text
	case "Sync", "Flush", "CopyDone", "Terminate":
		typ = map[string]byte{"Sync": 'S', "Flush": 'H', "CopyDone": 'c', "Terminate": 'X'}[name]
	case "Raw":
		return hex.DecodeString(f.Hex)
	default:
		return nil, fmt.Errorf("unknown frontend message %q", name)
	}
	return message(typ, b), nil
}
