package pool

import "bytes"

// kind of a token.
type kind uint8

const (
	endOfText kind = iota
	word           // unquoted identifier or key word: lower-cased
	quoted         // "identifier": as it is
	mark           // one character of punctuation
	literal        // string, number, parameter: not looked into
	broken         // text that PostgreSQL would refuse, or that only it can read
)

// token is one token. text is valid until the next one.
type token struct {
	kind kind
	text []byte
	char byte // of a mark
}

// lexer cuts SQL into tokens as PostgreSQL's scanner does, as far as needed to tell words from
// strings and comments. It assumes standard_conforming_strings=on and an encoding in which no
// byte of a multi-byte character is ASCII; the caller knows whether that holds.
type lexer struct {
	src  []byte
	at   int
	fold [64]byte
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// next returns the next token.
func (l *lexer) next() token {
	if !l.space() {
		return token{kind: broken}
	}
	if l.at >= len(l.src) {
		return token{kind: endOfText}
	}
	c := l.src[l.at]
	switch {
	case letter(c):
		return l.word()
	case digit(c):
		l.number()
		return token{kind: literal}
	case c == '\'':
		return l.until('\'', false, literal)
	case c == '"':
		return l.until('"', false, quoted)
	case c == '$':
		return l.dollar()
	}
	l.at++
	return token{kind: mark, char: c}
}

// space skips white space and comments; false when a comment does not end.
func (l *lexer) space() bool {
	for l.at < len(l.src) {
		c := l.src[l.at]
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			l.at++
		case c == '-' && bytes.HasPrefix(l.src[l.at:], []byte("--")):
			if i := bytes.IndexAny(l.src[l.at:], "\r\n"); i >= 0 {
				l.at += i
			} else {
				l.at = len(l.src)
			}
		case c == '/' && bytes.HasPrefix(l.src[l.at:], []byte("/*")):
			if !l.comment() {
				return false
			}
		default:
			return true
		}
	}
	return true
}

// comment skips a comment; they nest.
func (l *lexer) comment() bool {
	depth := 0
	for l.at+1 < len(l.src) {
		switch {
		case l.src[l.at] == '/' && l.src[l.at+1] == '*':
			depth++
			l.at += 2
		case l.src[l.at] == '*' && l.src[l.at+1] == '/':
			depth--
			l.at += 2
		default:
			l.at++
		}
		if depth == 0 {
			return true
		}
	}
	return false
}

// word takes an identifier, or the string or identifier that it introduces (E'…', U&"…").
func (l *lexer) word() token {
	from := l.at
	for l.at < len(l.src) && (letter(l.src[l.at]) || digit(l.src[l.at]) || l.src[l.at] == '$') {
		l.at++
	}
	w := l.src[from:l.at]
	if l.at < len(l.src) && len(w) == 1 {
		switch next := l.src[l.at]; {
		case next == '\'' && w[0]|0x20 == 'e':
			return l.until('\'', true, literal)
		case next == '\'' && (w[0]|0x20 == 'b' || w[0]|0x20 == 'x' || w[0]|0x20 == 'n'):
			return l.until('\'', false, literal)
		case next == '&' && w[0]|0x20 == 'u' && l.at+1 < len(l.src) && (l.src[l.at+1] == '\'' || l.src[l.at+1] == '"'):
			return token{kind: broken} // escapes in an identifier: not worth reading
		}
	}
	if len(w) > len(l.fold) {
		return token{kind: word, text: w[:0]} // longer than any name
	}
	for i, c := range w {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		l.fold[i] = c
	}
	return token{kind: word, text: l.fold[:len(w)]}
}

// until takes a quoted text; the quote, doubled, stands for itself.
func (l *lexer) until(quote byte, escapes bool, k kind) token {
	l.at++
	from := l.at
	for l.at < len(l.src) {
		switch c := l.src[l.at]; {
		case escapes && c == '\\':
			l.at += 2
		case c != quote:
			l.at++
		case l.at+1 < len(l.src) && l.src[l.at+1] == quote:
			l.at += 2
		default:
			l.at++
			return token{kind: k, text: l.src[from : l.at-1]}
		}
	}
	return token{kind: broken}
}

// number takes a number, or more: what stands directly behind digits does not matter here.
func (l *lexer) number() {
	for l.at < len(l.src) && (digit(l.src[l.at]) || l.src[l.at] == '.') {
		l.at++
	}
}

// dollar takes a parameter, a dollar-quoted string, or a lone dollar sign.
func (l *lexer) dollar() token {
	i := l.at + 1
	if i < len(l.src) && digit(l.src[i]) {
		for i < len(l.src) && digit(l.src[i]) {
			i++
		}
		l.at = i
		return token{kind: literal}
	}
	for i < len(l.src) && (letter(l.src[i]) || digit(l.src[i])) {
		i++
	}
	if i >= len(l.src) || l.src[i] != '$' {
		l.at++
		return token{kind: mark, char: '$'}
	}
	tag := l.src[l.at : i+1]
	end := bytes.Index(l.src[i+1:], tag)
	if end < 0 {
		return token{kind: broken}
	}
	l.at = i + 1 + end + len(tag)
	return token{kind: literal}
}
