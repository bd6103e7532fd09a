// Package strict decodes the YAML files that an operator writes.
//
// The invariant it keeps: nothing in a file is ignored. An unknown key, a key given twice, a
// value of the wrong type, a second document, an anchor or an alias is an error with file,
// line and column, and all errors of a file are reported at once. Input is bounded in size
// and depth, and no error repeats a value (it may be a secret).
//
// It implements the part of YAML 1.2 that the configuration needs: mappings with text keys,
// sequences and scalars. It does not know what a file means: required keys and cross
// references are checked by who owns the type, with the positions kept here.
package strict

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of what is decoded.
const (
	MaxSize   = 32 << 20 // bytes of one file
	MaxDepth  = 32       // nested mappings and sequences
	maxErrors = 200      // reported for one file; more are counted
)

// Error is one finding in a file. Line and Column count from 1; 0 means the whole file.
type Error struct {
	File    string
	Line    int
	Column  int
	Message string
}

// Error returns file:line:column: message.
func (e Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Errors is every finding in one or more files, by file and position.
type Errors []Error

// Error returns one finding a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Err sorts the findings by file, line and column and returns them as an error, or nil if
// there is none.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	sort.SliceStable(e, func(i, j int) bool {
		a, b := e[i], e[j]
		switch {
		case a.File != b.File:
			return a.File < b.File
		case a.Line != b.Line:
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	return e
}

// All returns the findings in err: those of an Errors or Error in its chain, else one for
// the whole of file. It returns nil for nil.
func All(file string, err error) Errors {
	if err == nil {
		return nil
	}
	var many Errors
	if errors.As(err, &many) {
		return many
	}
	var one Error
	if errors.As(err, &one) {
		return Errors{one}
	}
	return Errors{{File: file, Message: err.Error()}}
}

// Decode reads one YAML document from src into out, a non-nil pointer. Keys are those of the
// yaml struct tags. File is used in errors only. The error is an Errors.
func Decode(file string, src []byte, out any) error {
	_, err := DecodeWithPositions(file, src, out)
	return err
}

// DecodeWithPositions is Decode, and keeps the position of every value for the checks that
// follow. The positions are valid, as far as they go, also when there is an error.
func DecodeWithPositions(file string, src []byte, out any) (*Positions, error) {
	d := &decoder{file: file, pos: &Positions{file: file, at: map[string]place{}}}
	target := reflect.ValueOf(out)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return d.pos, Errors{{File: file, Message: "decode into something that is not a pointer"}}
	}
	if root := d.parse(src); root != nil {
		d.value(root, target.Elem(), "", 0)
	}
	if d.more > 0 {
		d.errs = append(d.errs, Error{File: file, Line: 1 << 30, Message: fmt.Sprintf("and %d more errors", d.more)})
	}
	err := d.errs.Err()
	if d.more > 0 {
		d.errs[len(d.errs)-1].Line = 0
	}
	return d.pos, err
}

// decoder is the state of one decoding.
type decoder struct {
	file string
	pos  *Positions
	errs Errors
	more int
}

// fail notes a finding at n.
func (d *decoder) fail(n *yaml.Node, format string, args ...any) {
	if len(d.errs) >= maxErrors {
		d.more++
		return
	}
	d.errs = append(d.errs, Error{d.file, n.Line, n.Column, fmt.Sprintf(format, args...)})
}

var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

// parse returns the only document's root node, or nil after it noted why not.
func (d *decoder) parse(src []byte) *yaml.Node {
	if len(src) > MaxSize {
		d.fail(&yaml.Node{}, "is larger than %d bytes", MaxSize)
		return nil
	}
	dec := yaml.NewDecoder(strings.NewReader(string(src)))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		d.syntax(err)
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		d.fail(&yaml.Node{}, "holds no document")
		return nil
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		d.fail(&second, "holds a second document")
	} else if err.Error() != "EOF" {
		d.syntax(err)
	}
	return doc.Content[0]
}

// syntax notes an error of the YAML parser, with its line if it tells one.
func (d *decoder) syntax(err error) {
	n, msg := &yaml.Node{}, strings.TrimPrefix(err.Error(), "yaml: ")
	if msg == "EOF" {
		msg = "holds no document"
	}
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		line, convErr := strconv.Atoi(m[1])
		if convErr == nil {
			n.Line, n.Column, msg = line, 1, m[2]
		}
	}
	d.fail(n, "is not valid YAML: %s", msg)
}
