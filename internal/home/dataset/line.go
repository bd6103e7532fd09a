package dataset

import "bytes"

// This file reads and writes lines of COPY text (PostgreSQL documentation, COPY, "Text
// Format"): fields between tabs, \N for NULL, backslash escapes.

// splitLine cuts a line without its newline into fields, reusing into.
func splitLine(into [][]byte, line []byte) [][]byte {
	into = into[:0]
	for {
		i := bytes.IndexByte(line, '\t')
		if i < 0 {
			return append(into, line)
		}
		into = append(into, line[:i])
		line = line[i+1:]
	}
}

func isNull(field []byte) bool { return len(field) == 2 && field[0] == '\\' && field[1] == 'N' }

// unescape returns field without escapes: itself when it has none, else a copy in scratch.
func unescape(scratch, field []byte) (value, grown []byte) {
	i := bytes.IndexByte(field, '\\')
	if i < 0 {
		return field, scratch
	}
	scratch = append(scratch[:0], field[:i]...)
	for ; i < len(field); i++ {
		c := field[i]
		if c == '\\' && i+1 < len(field) {
			i++
			c = unescaped(field[i])
		}
		scratch = append(scratch, c)
	}
	return scratch, scratch
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	}
	return c
}

// appendEscaped writes value as COPY TO would.
func appendEscaped(dst, value []byte) []byte {
	for _, c := range value {
		switch c {
		case '\\':
			dst = append(dst, '\\', '\\')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\v':
			dst = append(dst, '\\', 'v')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
