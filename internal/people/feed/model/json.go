package model

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// Bounds of a JSON document.
const (
	maxJSONDepth  = 32
	maxJSONString = 1 << 20
)

// scanner pulls values from a JSON document (RFC 8259), one after the other, without building
// it. Beyond the RFC it knows the numbers NaN, Infinity and -Infinity, which XGBoost writes; who
// asks for a number refuses them.
type scanner struct {
	file         string
	in           *bufio.Reader
	line, column int // of the next byte
	depth        int
	word         []byte
}

// errorf is an error at the next byte.
func (s *scanner) errorf(format string, args ...any) error {
	return &Error{s.file, s.line, s.column, fmt.Sprintf(format, args...)}
}

// fault turns what the reader says into an error of the file.
func (s *scanner) fault(err error) error {
	if errors.Is(err, io.EOF) {
		return s.errorf("the file ends within a value")
	}
	return err
}

func (s *scanner) next() (byte, error) {
	c, err := s.in.ReadByte()
	if err != nil {
		return 0, s.fault(err)
	}
	s.column++
	if c == '\n' {
		s.line, s.column = s.line+1, 1
	}
	return c, nil
}

// peek returns the next byte that is not white space, and leaves it.
func (s *scanner) peek() (byte, error) {
	for {
		c, err := s.in.ReadByte()
		if err != nil {
			return 0, s.fault(err)
		}
		switch c {
		case ' ', '\t', '\r':
			s.column++
		case '\n':
			s.line, s.column = s.line+1, 1
		default:
			return c, s.in.UnreadByte()
		}
	}
}

// want takes one byte after white space.
func (s *scanner) want(c byte) error {
	got, err := s.peek()
	if err != nil {
		return err
	}
	if got != c {
		return s.errorf("want %q, got %q", c, got)
	}
	_, err = s.next()
	return err
}

// object calls visit with every key; visit must take the value. A key that comes twice is an error.
func (s *scanner) object(visit func(key string) error) error {
	seen := map[string]bool{}
	return s.list('{', '}', func(int) error {
		key, err := s.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return s.errorf("key %q comes twice", clip(key))
		}
		seen[key] = true
		if err := s.want(':'); err != nil {
			return err
		}
		return visit(key)
	})
}

// array calls visit before every element; visit must take it.
func (s *scanner) array(visit func(i int) error) error { return s.list('[', ']', visit) }

func (s *scanner) list(open, shut byte, visit func(i int) error) error {
	if err := s.want(open); err != nil {
		return err
	}
	if s.depth++; s.depth > maxJSONDepth {
		return s.errorf("is nested deeper than %d levels", maxJSONDepth)
	}
	c, err := s.peek()
	for i := 0; err == nil && (i > 0 || c != shut); i++ {
		if err = visit(i); err != nil {
			return err
		}
		if c, err = s.peek(); err != nil {
			return err
		}
		if c == shut {
			break
		}
		err = s.want(',')
	}
	if err != nil {
		return err
	}
	s.depth--
	return s.want(shut)
}

// text takes a string.
func (s *scanner) text() (string, error) {
	if err := s.want('"'); err != nil {
		return "", err
	}
	s.word = append(s.word[:0], '"')
	for escaped := false; ; {
		c, err := s.next()
		if err != nil {
			return "", err
		}
		if c < 0x20 {
			return "", s.errorf("a control character stands in a string")
		}
		if s.word = append(s.word, c); len(s.word) > maxJSONString {
			return "", s.errorf("a string is longer than %d bytes", maxJSONString)
		}
		if c == '"' && !escaped {
			return s.unquote()
		}
		escaped = c == '\\' && !escaped
	}
}

// number takes a number.
func (s *scanner) number() (float64, error) {
	c, err := s.peek()
	if err != nil {
		return 0, err
	}
	if err := s.token(); err != nil {
		return 0, err
	}
	switch string(s.word) {
	case "NaN":
		return math.NaN(), nil
	case "Infinity":
		return math.Inf(1), nil
	case "-Infinity":
		return math.Inf(-1), nil
	}
	v, err := strconv.ParseFloat(string(s.word), 64)
	if (c != '-' && (c < '0' || c > '9')) || err != nil {
		return 0, s.errorf("want a number")
	}
	return v, nil
}

// token collects a number or a word into s.word.
func (s *scanner) token() error {
	s.word = s.word[:0]
	for {
		c, err := s.in.ReadByte()
		if errors.Is(err, io.EOF) && len(s.word) > 0 {
			return nil
		}
		if err != nil {
			return s.fault(err)
		}
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.') {
			return s.in.UnreadByte()
		}
		s.column++
		if s.word = append(s.word, c); len(s.word) > 64 {
			return s.errorf("a number is longer than 64 characters")
		}
	}
}

// skip takes any value.
func (s *scanner) skip() error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	switch c {
	case '{':
		return s.object(func(string) error { return s.skip() })
	case '[':
		return s.array(func(int) error { return s.skip() })
	case '"':
		_, err := s.text()
		return err
	case 't', 'f', 'n':
		return s.literal()
	}
	_, err = s.number()
	return err
}

// literal takes true, false or null, and leaves it in s.word.
func (s *scanner) literal() error {
	if err := s.token(); err != nil {
		return err
	}
	switch string(s.word) {
	case "true", "false", "null":
		return nil
	}
	return s.errorf("want a value")
}
