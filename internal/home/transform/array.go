package transform

import "bytes"

// arrayOf applies elem to every element of an array's text. An element that does not fit
// becomes NULL, an array that cannot be read becomes NULL as a whole; both are counted.
func arrayOf(elem *Transform) func(*int64) Func {
	return func(bad *int64) Func {
		a := &arrayWalk{elem: elem.New(bad)}
		return func(dst, src []byte) ([]byte, bool) {
			out, ok := a.walk(dst, src)
			if !ok {
				*bad++
				return dst, false
			}
			return out, true
		}
	}
}

// arrayWalk reads PostgreSQL's array text ([0:1]={{1,2},{3,NULL}}) and writes the same
// shape with other elements.
type arrayWalk struct {
	elem     Func
	raw, out []byte
}

func (a *arrayWalk) walk(dst, src []byte) ([]byte, bool) {
	i := 0
	if len(src) > 0 && src[0] == '[' {
		if i = bytes.IndexByte(src, '='); i < 0 {
			return dst, false
		}
		i++
		for _, c := range src[:i-1] {
			if (c < '0' || c > '9') && c != '[' && c != ']' && c != ':' && c != '-' {
				return dst, false
			}
		}
		dst = append(dst, src[:i]...)
	}
	depth, want := 0, true // want: an element or an opening brace may stand here
	for i < len(src) {
		switch c := src[i]; {
		case c == '{' && want:
			depth, i = depth+1, i+1
			dst = append(dst, c)
			want = true
		case c == '}' && depth > 0 && (!want || src[i-1] == '{'):
			depth, i = depth-1, i+1
			dst = append(dst, c)
			want = false
			if depth == 0 {
				return dst, i == len(src)
			}
		case c == ',' && depth > 0 && !want:
			i++
			dst = append(dst, c)
			want = true
		case depth > 0 && want:
			var ok bool
			if dst, i, ok = a.element(dst, src, i); !ok {
				return dst, false
			}
			want = false
		default:
			return dst, false
		}
	}
	return dst, false
}

// element transforms the element that starts at src[i] and returns where it ends.
func (a *arrayWalk) element(dst, src []byte, i int) ([]byte, int, bool) {
	a.raw = a.raw[:0]
	quoted := src[i] == '"'
	if quoted {
		i++
	}
	for ; i < len(src); i++ {
		c := src[i]
		if quoted && c == '"' || !quoted && (c == ',' || c == '}') {
			break
		}
		if !quoted && (c == '{' || c == '"') {
			return dst, i, false
		}
		if c == '\\' {
			if i++; i == len(src) {
				return dst, i, false
			}
			c = src[i]
		}
		a.raw = append(a.raw, c)
	}
	if i == len(src) {
		return dst, i, false
	}
	if quoted {
		i++
	} else if string(a.raw) == "NULL" {
		return append(dst, "NULL"...), i, true
	}
	out, ok := a.elem(a.out[:0], a.raw)
	if a.out = out; !ok {
		return append(dst, "NULL"...), i, true
	}
	return appendElement(dst, out), i, true
}

// appendElement quotes as array_out does.
func appendElement(dst, v []byte) []byte {
	if len(v) > 0 && !bytes.ContainsAny(v, "\"\\{}, \t\n\r\v\f") && !bytes.EqualFold(v, []byte("NULL")) {
		return append(dst, v...)
	}
	dst = append(dst, '"')
	for _, c := range v {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
