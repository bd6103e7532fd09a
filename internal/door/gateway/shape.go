package gateway

import "hash/maphash"

// shapeChunk is how much of a shape is hashed at a time, in bytes: it lies on the stack.
const shapeChunk = 1024

// masker hashes a statement's shape: its text with literals and comments left out. Texts of
// one shape have one fingerprint, so that each shape is parsed once, however many texts a
// client that writes its values into them sends.
type masker struct {
	seed maphash.Seed
	buf  [shapeChunk]byte
	n    int
}

// Marks of what was left out. No statement that is masked holds these bytes itself.
const (
	markString  = 1
	markInteger = 2
	markDecimal = 3 // and integers that may not fit: the grammar tells them apart
)

// classes of bytes, for a scan that looks each byte up once.
const (
	plainByte  = iota // copied as it is
	wordByte          // part of a word
	digitByte         // part of a word, or the begin of a number
	quoteByte         // ' begins a string
	nameByte          // " begins a quoted name
	dollarByte        // part of a word, a parameter, or a quoted string
	dashByte          // may begin a comment
	slashByte         // may begin a comment
	endByte           // ; ends a statement
	oddByte           // not masked: control characters
)

var shapeClass = func() (c [256]uint8) {
	for i := range c {
		b := byte(i)
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == '_', b >= 0x80:
			c[i] = wordByte
		case b >= '0' && b <= '9':
			c[i] = digitByte
		case b < ' ' && b != '\t' && b != '\n' && b != '\r' && b != '\f', b == 0x7f:
			c[i] = oddByte
		}
	}
	c['\''], c['"'], c['$'], c['-'], c['/'], c[';'] = quoteByte, nameByte, dollarByte, dashByte, slashByte, endByte
	return c
}()

// hashShape returns the hash of a statement's shape. Where leaving literals out could join
// statements of different meaning, or is not plain, the whole text is hashed: a text of its
// own costs a parse, a wrong shape would cost a wrong attribution.
func hashShape(seed maphash.Seed, sql []byte) uint64 {
	if !maskable(sql) {
		return maphash.Bytes(seed, sql)
	}
	m := masker{seed: seed}
	if !m.scan(sql) {
		return maphash.Bytes(seed, sql)
	}
	return maphash.Bytes(seed, m.buf[:m.n])
}

// maskable reports whether a text begins with one of the words after which literals are
// values. In utility statements (SET, COPY, CREATE FUNCTION …) they are more than that.
func maskable(sql []byte) bool {
	i := 0
	for i < len(sql) && (sql[i] == ' ' || sql[i] == '\n' || sql[i] == '\t' || sql[i] == '\r') {
		i++
	}
	if len(sql)-i < 6 {
		return false
	}
	switch string(lower(sql[i : i+6])) {
	case "select", "insert", "update", "delete", "values":
		return true
	}
	return string(lower(sql[i:i+4])) == "with"
}

func lower(b []byte) []byte {
	var a [6]byte
	for i, c := range b {
		a[i] = c | 0x20
	}
	return a[:len(b)]
}

// put appends one byte, and folds a full buffer into its hash.
func (m *masker) put(b byte) {
	if m.n == len(m.buf) {
		h := maphash.Bytes(m.seed, m.buf[:])
		for i := range 8 {
			m.buf[i] = byte(h >> (8 * i))
		}
		m.n = 8
	}
	m.buf[m.n] = b
	m.n++
}

// scan puts a text's shape. ok is false for a text that is not to be masked.
func (m *masker) scan(sql []byte) (ok bool) {
	word := false // the byte before is part of a word
	for i := 0; i < len(sql); {
		b := sql[i]
		next := i + 1
		inWord := false
		switch shapeClass[b] {
		case plainByte:
			m.put(b)
		case wordByte:
			inWord = true
			m.put(b)
		case digitByte:
			if word {
				inWord = true
				m.put(b)
				break
			}
			if next = numberEnd(sql, i); next < 0 {
				return false
			}
			m.put(numberMark(sql[i:next]))
		case quoteByte:
			if next = stringEnd(sql, i, word); next < 0 {
				return false
			}
			m.put(markString)
		case nameByte:
			if next = m.name(sql, i); next < 0 {
				return false
			}
		case dollarByte:
			if !word && (i+1 == len(sql) || shapeClass[sql[i+1]] != digitByte) {
				return false // a string in dollars
			}
			inWord = true
			m.put(b)
		case dashByte, slashByte:
			if next = commentEnd(sql, i); next < 0 {
				return false
			}
			if next == i+1 {
				m.put(b)
			} else {
				m.put(' ')
			}
		case endByte:
			for _, c := range sql[i+1:] {
				if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
					return false // another statement follows
				}
			}
			m.put(b)
		default:
			return false
		}
		i, word = next, inWord
	}
	return true
}

// name copies a quoted name; it returns what follows, or -1.
func (m *masker) name(sql []byte, i int) int {
	m.put('"')
	for i++; i < len(sql); i++ {
		if shapeClass[sql[i]] == oddByte {
			return -1
		}
		m.put(sql[i])
		if sql[i] == '"' {
			return i + 1 // a doubled quote begins another name: the shape is the same
		}
	}
	return -1
}

// numberEnd returns what follows a number, or -1: digits that run into a word mean different
// things to different versions of PostgreSQL.
func numberEnd(sql []byte, i int) int {
	digits := func() {
		for i < len(sql) && (shapeClass[sql[i]] == digitByte || sql[i] == '.') {
			i++
		}
	}
	digits()
	if i < len(sql) && sql[i]|0x20 == 'e' {
		j := i + 1
		if j < len(sql) && (sql[j] == '+' || sql[j] == '-') {
			j++
		}
		if j < len(sql) && shapeClass[sql[j]] == digitByte {
			i = j
			digits()
		}
	}
	if i < len(sql) {
		if c := shapeClass[sql[i]]; c == wordByte || c == dollarByte {
			return -1
		}
	}
	return i
}

// numberMark returns the mark of a number.
func numberMark(b []byte) byte {
	if len(b) > 9 {
		return markDecimal
	}
	for _, c := range b {
		if shapeClass[c] != digitByte {
			return markDecimal
		}
	}
	return markInteger
}

// stringEnd returns what follows a string, or -1. A backslash means different things by
// prefix and setting, and after U& the string may be followed by its escape character.
func stringEnd(sql []byte, i int, prefixed bool) int {
	if i > 0 && sql[i-1] == '&' {
		return -1
	}
	if prefixed {
		return -1 // E'', B'', X'', N'': seldom, and each its own
	}
	for i++; i < len(sql); i++ {
		switch sql[i] {
		case '\\':
			return -1
		case '\'':
			if i+1 == len(sql) || sql[i+1] != '\'' {
				return i + 1
			}
			i++
		}
	}
	return -1
}

// commentEnd returns what follows a comment, i+1 where there is none, or -1.
func commentEnd(sql []byte, i int) int {
	if i+1 == len(sql) || sql[i+1] != sql[i] && !(sql[i] == '/' && sql[i+1] == '*') {
		return i + 1
	}
	if sql[i] == '/' && sql[i+1] == '/' {
		return i + 1
	}
	if sql[i] == '-' {
		for i += 2; i < len(sql); i++ {
			if sql[i] == '\n' || sql[i] == '\r' {
				return i
			}
		}
		return i
	}
	depth := 0
	for ; i+1 < len(sql); i++ {
		switch {
		case sql[i] == '/' && sql[i+1] == '*':
			depth++
			i++
		case sql[i] == '*' && sql[i+1] == '/':
			i++
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}
