package model

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Error is why a model file is refused. Line and Column count from 1; 0 is unknown.
type Error struct {
	File         string
	Line, Column int
	Message      string
}

// Error returns file:line:column: message.
func (e *Error) Error() string {
	switch {
	case e.Line == 0:
		return e.File + ": " + e.Message
	case e.Column == 0:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// errTooLarge ends the reading of a file that is larger than MaxBytes.
var errTooLarge = fmt.Errorf("is larger than %d bytes", MaxBytes)

// bounded gives at most MaxBytes, and then errTooLarge instead of more.
type bounded struct {
	r    io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		var one [1]byte
		if n, err := b.r.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, errTooLarge
	}
	if len(p) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}

// Read reads a model of either format: XGBoost's JSON begins with a brace, LightGBM's text with
// "tree". name is what errors call the file. Every refusal is an *Error.
func Read(name string, r io.Reader) (*Model, error) {
	sum := sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(&bounded{r, MaxBytes}, sum), 64<<10)
	m, err := read(name, in)
	if errors.Is(err, errTooLarge) {
		err = &Error{File: name, Message: errTooLarge.Error()}
	}
	if err != nil {
		return nil, err
	}
	m.Hash = hex.EncodeToString(sum.Sum(nil))
	return m, nil
}

func read(name string, in *bufio.Reader) (*Model, error) {
	first, err := in.Peek(1)
	if errors.Is(err, io.EOF) {
		return nil, &Error{File: name, Message: "is empty"}
	}
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", name, err)
	}
	var m *Model
	switch first[0] {
	case 't':
		m, err = readLightGBM(name, in)
	case '{', ' ', '\n', '\r', '\t':
		m, err = readXGBoost(name, in)
	default:
		return nil, &Error{File: name, Line: 1, Message: "is neither LightGBM's text format (begins with \"tree\") nor XGBoost's JSON (begins with \"{\"; binary formats are not read: save the model as .json)"}
	}
	if err != nil {
		return nil, err
	}
	if err := m.finish(name); err != nil {
		return nil, err
	}
	m.prepare()
	return m, nil
}

// ReadFile reads the model in a file.
func ReadFile(path string) (*Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	defer f.Close()
	return Read(filepath.Base(path), f)
}
