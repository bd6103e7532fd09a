package model

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Rows reads rows from a table of text: a header with the features' names, in any order, then a
// line a row, all separated by tabs (or by commas, where the header has no tab). A missing value
// is nan, na or null. Errors are *Error and repeat no value.
type Rows struct {
	m       *Model
	l       *lines
	comma   string
	columns []int // by column: the feature, or -1 for the label
	row     []float64
}

// NewRows reads the header. label is the column to leave out, from 0; -1: there is none.
func NewRows(name string, r io.Reader, m *Model, label int) (*Rows, error) {
	t := &Rows{m: m, l: &lines{file: name, in: bufio.NewReaderSize(r, 64<<10)}, comma: "\t", row: make([]float64, len(m.Features))}
	if err := t.l.scan(); errors.Is(err, io.EOF) {
		return nil, &Error{File: name, Message: "is empty: want a header with the features' names"}
	} else if err != nil {
		return nil, err
	}
	if !strings.Contains(t.l.text, "\t") && strings.Contains(t.l.text, ",") {
		t.comma = ","
	}
	names := strings.Split(t.l.text, t.comma)
	if label < -1 || label >= len(names) {
		return nil, t.l.errorf("the label is column %d of %d", label, len(names))
	}
	seen := make([]bool, len(m.Features))
	for i, name := range names {
		at := -1
		if i != label {
			if at = m.Index(name); at < 0 {
				return nil, t.l.errorf("column %d is named %q: the model has no such feature%s", i, clip(name), labelHint(label))
			}
			if seen[at] {
				return nil, t.l.errorf("column %d: feature %q comes twice", i, clip(name))
			}
			seen[at] = true
		}
		t.columns = append(t.columns, at)
	}
	for i, there := range seen {
		if !there {
			return nil, t.l.errorf("there is no column for the model's feature %q%s", clip(m.Features[i].Name), labelHint(label))
		}
	}
	return t, nil
}

// labelHint reminds of the label, the likeliest cause of columns that do not fit.
func labelHint(label int) string {
	if label < 0 {
		return " (no column was taken as a label)"
	}
	return fmt.Sprintf(" (column %d was taken as the label)", label)
}

// Next returns the next row, in the model's order of features, and io.EOF after the last. The
// row is valid until the next call.
func (t *Rows) Next() ([]float64, error) {
	if err := t.l.scan(); err != nil {
		return nil, err
	}
	at := 0
	for word := range strings.SplitSeq(t.l.text, t.comma) {
		if at == len(t.columns) {
			return nil, t.l.errorf("has more than %d columns", len(t.columns))
		}
		if feature := t.columns[at]; feature >= 0 {
			v, err := parseValue(word)
			if err != nil {
				return nil, t.l.errorf("%s: %s", clip(t.m.Features[feature].Name), err)
			}
			t.row[feature] = v
		}
		at++
	}
	if at != len(t.columns) {
		return nil, t.l.errorf("has %d columns, the header has %d", at, len(t.columns))
	}
	return t.row, nil
}

// Line is the line of the last row, from 1.
func (t *Rows) Line() int { return t.l.line }

func parseValue(word string) (float64, error) {
	switch strings.ToLower(word) {
	case "nan", "na", "null":
		return math.NaN(), nil
	case "":
		return 0, errors.New("is empty (write nan for a missing value)")
	}
	v, err := strconv.ParseFloat(word, 64)
	switch {
	case err != nil && math.IsInf(v, 0), err == nil && math.IsInf(v, 0):
		return 0, errors.New("is infinite")
	case err != nil:
		return 0, errors.New("is no number")
	}
	return v, nil
}
