package transform

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

const base32lower = "abcdefghijklmnopqrstuvwxyz234567"

// pseudonym compiles the keyed permutation or hash of t.
func (k *Keys) pseudonym(in Input, t Type) (*Transform, error) {
	own, err := ShapeOf(t)
	if err != nil {
		return nil, err
	}
	shape := own
	if in.Shape != nil {
		shape = *in.Shape
	}
	d, err := k.derive(in.Purpose, catalog.DomainOf(in.Table, in.Column), in.Epoch)
	if err != nil {
		return nil, err
	}
	if _, err := d.cipher(); err != nil {
		return nil, err
	}
	out := &Transform{OutType: t.String(), Plain: true, Domain: catalog.DomainOf(in.Table, in.Column)}
	switch shape.fam {
	case famInt:
		out.OutType = intName(t, shape.Bits)
		out.make = func(*int64) Func { return integerFunc(d, shape.Bits) }
	case famText:
		if t.chars() == 0 {
			out.OutType = "text"
		}
		out.make = func(*int64) Func { return tokenFunc(d, shape.Chars, t) }
	case famUUID:
		out.make = func(*int64) Func { return uuidFunc(d) }
		if sabotage.Active("absence") {
			out.make = func(*int64) Func { return func(dst, src []byte) ([]byte, bool) { return append(dst, src...), true } }
		}
	case famBytea:
		out.Plain = false
		out.make = func(*int64) Func { return byteaFunc(d) }
	case famInet:
		out.OutType = "inet"
		out.make = func(*int64) Func { return inetFunc(d) }
	case famMac:
		out.make = func(*int64) Func { return macFunc(d, uint(shape.Bits)) }
	}
	return out, nil
}

// intName is the type a pseudonym of a shape's width needs.
func intName(t Type, bits int) string {
	if t.family() == famNumeric {
		return "numeric"
	}
	switch bits {
	case 16:
		return "smallint"
	case 32:
		return "integer"
	}
	return "bigint"
}

func mustFeistel(d domainKeys, half uint) *feistel {
	f, err := newFeistel(d, half)
	if err != nil {
		// derive gives 32-byte keys, and pseudonym has made a cipher of this very key.
		panic("transform: " + err.Error())
	}
	return f
}

// integerFunc permutes the full range of its width: two's complement, so negative values
// have pseudonyms like any other.
func integerFunc(d domainKeys, bits int) Func {
	f := mustFeistel(d, uint(bits/2))
	shift := 64 - uint(bits)
	return func(dst, src []byte) ([]byte, bool) {
		v, ok := parseInt(src)
		if !ok || v<<shift>>shift != v {
			return dst, false
		}
		w := f.word(uint64(v))
		return strconv.AppendInt(dst, int64(w)<<shift>>shift, 10), true
	}
}

// parseInt reads a decimal integer; a fraction of zeros is allowed, for numeric.
func parseInt(b []byte) (int64, bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if i := bytes.IndexByte(b, '.'); i > 0 {
		for _, c := range b[i+1:] {
			if c != '0' {
				return 0, false
			}
		}
		b = b[:i]
	}
	if len(b) == 0 {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		c -= '0'
		if c > 9 || v > (1<<63)/10 {
			return 0, false
		}
		v = v*10 + uint64(c)
	}
	switch {
	case neg && v <= 1<<63:
		return -int64(v), true
	case !neg && v < 1<<63:
		return int64(v), true
	}
	return 0, false
}

// tokenizer is one keyed hash state, used again for every value.
type tokenizer struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

func newTokenizer(d domainKeys) *tokenizer { return &tokenizer{mac: hmac.New(sha256.New, d.mac)} }

func (t *tokenizer) hash(src []byte) []byte {
	t.mac.Reset()
	t.mac.Write(src)
	return t.mac.Sum(t.sum[:0])
}

// appendToken appends n ≤ 24 base32 characters of a hash.
func appendToken(dst, sum []byte, n int) []byte {
	var acc uint32
	var have uint
	for _, b := range sum {
		acc, have = acc<<8|uint32(b), have+8
		for have >= 5 {
			have -= 5
			dst = append(dst, base32lower[acc>>have&31])
			if n--; n == 0 {
				return dst
			}
		}
	}
	return dst
}

// tokenFunc hashes texts. Trailing blanks of char(n) are no part of the value, and citext
// compares without case, so equal values have equal tokens.
func tokenFunc(d domainKeys, n int, t Type) Func {
	tk := newTokenizer(d)
	pad := 0
	if t.padded() {
		pad = t.chars() - n
	}
	fold := t.citext()
	return func(dst, src []byte) ([]byte, bool) {
		if t.padded() || t.Base == "bpchar" {
			src = bytes.TrimRight(src, " ")
		}
		if fold {
			src = bytes.ToLower(src)
		}
		dst = appendToken(dst, tk.hash(src), n)
		for range pad {
			dst = append(dst, ' ')
		}
		return dst, true
	}
}

// byteaFunc hashes hex output (\x…) to 16 bytes.
func byteaFunc(d domainKeys) Func {
	tk := newTokenizer(d)
	return func(dst, src []byte) ([]byte, bool) {
		if len(src) < 2 || src[0] != '\\' || src[1] != 'x' {
			return dst, false
		}
		dst = append(dst, '\\', 'x')
		return hex.AppendEncode(dst, tk.hash(src)[:16]), true
	}
}

// uuidFunc permutes all 128 bits: version and variant are not kept, the text is valid.
func uuidFunc(d domainKeys) Func {
	f := mustFeistel(d, 64)
	return func(dst, src []byte) ([]byte, bool) {
		var u [16]byte
		if !parseUUID(&u, src) {
			return dst, false
		}
		f.bytes16(&u)
		for i, b := range u {
			if i == 4 || i == 6 || i == 8 || i == 10 {
				dst = append(dst, '-')
			}
			dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
		}
		return dst, true
	}
}

const hexDigits = "0123456789abcdef"

func parseUUID(u *[16]byte, src []byte) bool {
	if len(src) != 36 || src[8] != '-' || src[13] != '-' || src[18] != '-' || src[23] != '-' {
		return false
	}
	n := 0
	for i := 0; i < 36; i++ {
		if src[i] == '-' {
			if i != 8 && i != 13 && i != 18 && i != 23 {
				return false
			}
			continue
		}
		v, ok := unhex(src[i])
		if !ok {
			return false
		}
		u[n/2] = u[n/2]<<4 | v
		n++
	}
	return n == 32
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// macFunc permutes 48 or 64 bits.
func macFunc(d domainKeys, bits uint) Func {
	f := mustFeistel(d, bits/2)
	size := int(bits / 8)
	return func(dst, src []byte) ([]byte, bool) {
		if len(src) != size*3-1 {
			return dst, false
		}
		var v uint64
		for i := 0; i < len(src); i += 3 {
			hi, ok1 := unhex(src[i])
			lo, ok2 := unhex(src[i+1])
			if !ok1 || !ok2 || i > 0 && src[i-1] != ':' {
				return dst, false
			}
			v = v<<8 | uint64(hi<<4|lo)
		}
		v = f.word(v)
		for i := size - 1; i >= 0; i-- {
			b := byte(v >> (8 * uint(i)))
			dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
			if i > 0 {
				dst = append(dst, ':')
			}
		}
		return dst, true
	}
}
