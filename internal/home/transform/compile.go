package transform

import (
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// Input is one column to compile.
type Input struct {
	Table   string                // schema.table, the default pseudonym domain with the column's name
	Column  catalog.Column        // Name and Domain are used
	Form    catalog.DatasetColumn // form and its parameters
	Type    Type                  // domains resolved
	Shape   *Shape                // of the column's domain (ShapeOf over all its columns); nil: of this column alone
	Purpose string
	Epoch   int
}

// Transform is a compiled column.
type Transform struct {
	OutType string // as SQL spells it; the source's own type when Clear
	Clear   bool   // values pass as they are: New is nil
	Null    bool   // the column is always NULL: New is nil
	Domain  string // of a pseudonym: columns of equal domains join
	Plain   bool   // outputs hold no byte that COPY text would escape

	make func(bad *int64) Func
}

// New returns a function of its own scratch, for one goroutine. It adds to *bad for every
// value, element or member that did not fit.
func (t *Transform) New(bad *int64) Func { return t.make(bad) }

// Compile makes the transform of one column, or says why its type cannot have its form.
func (k *Keys) Compile(in Input) (*Transform, error) {
	t, err := k.compile(in)
	if err != nil {
		return nil, fmt.Errorf("%s.%s: %w", in.Table, in.Column.Name, err)
	}
	return t, nil
}

func (k *Keys) compile(in Input) (*Transform, error) {
	if len(in.Form.Paths) > 0 {
		return k.compileJSON(in)
	}
	switch in.Form.Form {
	case law.Clear:
		if sabotage.Active("forms") && in.Column.Category == law.Contact {
			return k.scalar(Input{Table: in.Table, Column: in.Column, Form: catalog.DatasetColumn{Form: law.Pseudonymised},
				Type: in.Type, Shape: in.Shape, Purpose: in.Purpose, Epoch: in.Epoch}, in.Type)
		}
		return &Transform{OutType: in.Type.String(), Clear: true}, nil
	case law.Withheld:
		if !in.Form.Null {
			return nil, errors.New("withheld without null: true is not a column of a dataset")
		}
		return &Transform{OutType: in.Type.String(), Null: true}, nil
	case law.Pseudonymised, law.Generalised:
	default:
		return nil, fmt.Errorf("form %q cannot be stored in a dataset", in.Form.Form)
	}
	elem, err := k.scalar(in, in.Type.elem())
	if err != nil || !in.Type.Array {
		return elem, err
	}
	return &Transform{OutType: elem.OutType + "[]", Domain: elem.Domain, make: arrayOf(elem)}, nil
}

// scalar compiles the form of one element type, and counts what does not fit.
func (k *Keys) scalar(in Input, t Type) (*Transform, error) {
	var out *Transform
	var err error
	if in.Form.Form == law.Pseudonymised {
		out, err = k.pseudonym(in, t)
	} else {
		out, err = generalise(in.Form, t)
	}
	if err != nil {
		return nil, err
	}
	inner := out.make
	out.make = func(bad *int64) Func {
		f := inner(bad)
		return func(dst, src []byte) ([]byte, bool) {
			out, ok := f(dst, src)
			if !ok {
				*bad++
				return dst, false
			}
			return out, true
		}
	}
	return out, nil
}
