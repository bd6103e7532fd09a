package model

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// lines reads a text file line by line and knows where it is.
type lines struct {
	file string
	in   *bufio.Reader
	line int // of text
	from int // bytes before text
	next int // bytes before the line after text
	text string

	buffer []byte // of the line, used again
}

// maxLine bounds one line: the longest hold one number a leaf.
const maxLine = 16 << 20

// scan goes to the next line. It returns io.EOF after the last.
func (l *lines) scan() error {
	long := l.buffer[:0]
	for {
		part, err := l.in.ReadSlice('\n')
		long = append(long, part...)
		if len(long) > maxLine {
			return &Error{l.file, l.line + 1, 0, fmt.Sprintf("the line is longer than %d bytes", maxLine)}
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) && len(long) > 0 {
			err = nil
		}
		if err != nil {
			return err
		}
		break
	}
	l.buffer = long
	l.line++
	l.from, l.next = l.next, l.next+len(long)
	l.text = strings.TrimRight(string(long), "\r\n")
	return nil
}

func (l *lines) errorf(format string, args ...any) error {
	return &Error{l.file, l.line, 0, fmt.Sprintf(format, args...)}
}

// value is what follows "key=" and the line it stands in.
type value struct {
	text string
	line int
}

// block reads "key=value" lines up to an empty line or the end of the file. Every key must be
// known, and none may come twice. bare names keys that have no value.
func (l *lines) block(known []string, bare string) (map[string]value, error) {
	out := map[string]value{}
	for {
		err := l.scan()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if l.text == "" {
			return out, nil
		}
		key, text, ok := strings.Cut(l.text, "=")
		switch {
		case !ok && (key != bare || bare == ""):
			return nil, l.errorf("%q is no \"key=value\"", clip(l.text))
		case !slices.Contains(known, key) && key != bare:
			return nil, l.errorf("unknown key %q: this version of the format is not understood", clip(key))
		}
		if _, twice := out[key]; twice {
			return nil, l.errorf("key %q comes twice", key)
		}
		out[key] = value{text, l.line}
	}
}

// at returns an error at a value's line.
func (l *lines) at(v value, format string, args ...any) error {
	return &Error{l.file, v.line, 0, fmt.Sprintf(format, args...)}
}

// whole parses a key's whole number between low and high.
func (l *lines) whole(b map[string]value, key string, low, high int) (int, error) {
	v, ok := b[key]
	if !ok {
		return 0, l.errorf("%s is missing", key)
	}
	n, err := strconv.Atoi(v.text)
	if err != nil || n < low || n > high {
		return 0, l.at(v, "%s is no whole number between %d and %d", key, low, high)
	}
	return n, nil
}

// list parses a key's n numbers, separated by single spaces.
func list[T any](l *lines, b map[string]value, key string, n int, parse func(string) (T, error)) ([]T, error) {
	v, ok := b[key]
	if !ok {
		return nil, l.errorf("%s is missing", key)
	}
	if n == 0 && v.text == "" {
		return nil, nil
	}
	if have := strings.Count(v.text, " ") + 1; have != n || v.text == "" {
		return nil, l.at(v, "%s has %d values, want %d", key, have, n)
	}
	out := make([]T, 0, n)
	for word := range strings.SplitSeq(v.text, " ") {
		x, err := parse(word)
		if err != nil {
			return nil, l.at(v, "%s: value %d %s", key, len(out), err)
		}
		out = append(out, x)
	}
	return out, nil
}

func parseFinite(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !finite(v) {
		return 0, errors.New("is no finite number")
	}
	return v, nil
}

func parseInt32(s string) (int32, error) {
	v, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, errors.New("is no whole number of 32 bits")
	}
	return int32(v), nil
}

func parseUint32(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, errors.New("is no whole number of 32 bits")
	}
	return uint32(v), nil
}
