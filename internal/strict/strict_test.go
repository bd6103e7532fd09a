package strict

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

type inner struct {
	Form  string            `yaml:"form"`
	Count int8              `yaml:"count,omitempty"`
	Big   uint64            `yaml:"big,omitempty"`
	Rate  float64           `yaml:"rate,omitempty"`
	On    bool              `yaml:"on,omitempty"`
	Next  *inner            `yaml:"next,omitempty"`
	Names map[string]string `yaml:"names,omitempty"`
	Net   netip.Prefix      `yaml:"net,omitempty"`
	Plain string
	Not   string `yaml:"-"`
}

type outer struct {
	Version int              `yaml:"version"`
	Tables  []inner          `yaml:"tables"`
	By      map[string]inner `yaml:"by,omitempty"`
}

func TestDecode(t *testing.T) {
	var o outer
	pos, err := DecodeWithPositions("f.yaml", []byte(`version: 1
tables:
  - form: NO
    count: -3
    big: 18446744073709551615
    rate: 2
    on: true
    next: {form: "12"}
    names: {a: b, "c d": 2026-01-02}
    net: 10.0.0.0/8
    plain: |
      two
      lines
  - form: second
by:
  x: {form: y}
`), &o)
	if err != nil {
		t.Fatal(err)
	}
	first := o.Tables[0]
	if o.Version != 1 || first.Form != "NO" || first.Count != -3 || first.Big != 1<<64-1 || first.Rate != 2 || !first.On ||
		first.Next.Form != "12" || first.Names["c d"] != "2026-01-02" || first.Net.Bits() != 8 || first.Plain != "two\nlines\n" || o.By["x"].Form != "y" {
		t.Errorf("%+v", o)
	}
	for path, want := range map[string]string{"version": "1:10", "tables[0].form": "3:11", "tables[0].next.form": "8:18", "tables[1]": "14:5",
		"tables[1].missing": "14:5", "tables[1].missing[3].deeper": "14:5", "by.x.form": "16:13", "elsewhere": "1:1", "": "1:1"} {
		if line, column := pos.At(path); fmt.Sprintf("%d:%d", line, column) != want {
			t.Errorf("%s: %d:%d, want %s", path, line, column, want)
		}
	}
	if e := pos.Errorf("tables[1].form", "is %s", "odd"); e.Error() != "f.yaml:14:11: is odd" {
		t.Error(e)
	}
	var none *Positions
	if line, _ := none.At("x"); line != 0 || none.Errorf("x", "y").Line != 0 || none.File() != "" {
		t.Error("no positions have positions")
	}
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"unknown key":         {"version: 1\ntable: []", `f:2:1: unknown key "table" (did you mean "tables"?)`},
		"unknown key inside":  {"tables:\n  - fort: x\n", `f:2:5: unknown key "fort" in tables[0] (did you mean "form"?)`},
		"hidden field":        {"tables: [{Not: x}]", `unknown key "Not"`},
		"key twice":           {"version: 1\nversion: 2", `f:2:1: key "version" is given twice`},
		"map key twice":       {"by: {a: {form: x}, a: {form: y}}", `f:1:20: key "a" in by is given twice`},
		"number for text":     {"tables: [{form: 12}]", "f:1:17: tables[0].form: want text, got a whole number (put it in quotes)"},
		"text for number":     {"version: one", "f:1:10: version: want a whole number in range, got text"},
		"number out of range": {"tables: [{form: x, count: 200}]", "want a whole number in range"},
		"negative":            {"tables: [{form: x, big: -1}]", "not negative"},
		"yes for true":        {"tables: [{form: x, on: yes}]", "want true or false"},
		"infinite":            {"tables: [{form: x, rate: .inf}]", "want a number"},
		"octal":               {"version: 0o17", "want a whole number"},
		"mapping for list":    {"tables: {form: x}", "tables: want a list, got a mapping"},
		"list for mapping":    {"tables: [[form]]", "tables[0]: want a mapping, got a list"},
		"list for map":        {"by: [a]", "by: want a mapping, got a list"},
		"list for document":   {"- a", "the document: want a mapping, got a list"},
		"no value":            {"version:", "version has no value: want a whole number"},
		"null item":           {"tables: [~]", "tables[0] has no value"},
		"anchor":              {"tables: &a []", "anchors and aliases are not allowed"},
		"alias":               {"tables:\n  - &a {form: x}\n  - *a", "anchors and aliases are not allowed"},
		"merge key":           {"tables:\n  - {<<: {form: x}}", "merge keys are not allowed"},
		"key that is no text": {"tables: [{[a]: x}]", "is not text"},
		"second document":     {"version: 1\n---\nversion: 2", "second document"},
		"nothing":             {"", "holds no document"},
		"only a comment":      {"# here", "holds no document"},
		"syntax":              {"version: 1\ntables: [", "is not valid YAML"},
		"tab":                 {"version: 1\n\ttables: []", "f:2:1: is not valid YAML"},
		"bad value of a type": {"tables: [{form: x, net: secret}]", "tables[0].net: the value cannot be read as netip.Prefix"},
		"list for that type":  {"tables: [{form: x, net: [a]}]", "tables[0].net: want text, got a list"},
		"binary":              {"tables: [{form: !!binary aGk=}]", "want text"},
		"other tag":           {"tables: [{form: !secret x}]", "want text"},
	} {
		var o outer
		err := Decode("f", []byte(c.src), &o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	var o outer
	err := Decode("f", []byte("tables:\n  - {form: 1, count: x}\n  - {fort: 2}\nversion: x\nextra: 1\n"), &o)
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 5 {
		t.Fatalf("%v", err)
	}
	for i := 1; i < len(errs); i++ {
		if errs[i].Line < errs[i-1].Line {
			t.Errorf("not in order: %v", errs)
		}
	}
}

// TestErrorsRepeatNoValue: a value in a configuration may be a password.
func TestErrorsRepeatNoValue(t *testing.T) {
	for _, src := range []string{"version: hunter2", "tables: hunter2", "tables: [{form: [hunter2]}]", "tables: [{form: x, net: hunter2}]", "by: hunter2", "hunter2"} {
		var o outer
		if err := Decode("f", []byte(src), &o); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", src, err)
		}
	}
}

// TestHostileFilesAreBounded: a bomb of aliases, of depth, of size and of errors.
func TestHostileFilesAreBounded(t *testing.T) {
	var o outer
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	for name, src := range map[string]string{
		"aliases": bomb,
		"depth":   strings.Repeat("[", 100_000),
		"nesting": "tables: [{form: x, next: " + strings.Repeat("{form: x, next: ", 60) + "{form: x}" + strings.Repeat("}", 60) + "}]",
		"errors":  "tables:\n" + strings.Repeat("  - {fort: x}\n", 5000),
		"size":    strings.Repeat("#", MaxSize+1),
		"control": "version: \x00",
		"latin":   "version: \xff\xfe\xfd",
	} {
		err := Decode("f", []byte(src), &o)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if n := len(err.Error()); n > 60_000 {
			t.Errorf("%s: an error of %d bytes", name, n)
		}
	}
}

func TestTargetMustBeAPointer(t *testing.T) {
	for _, target := range []any{nil, outer{}, (*outer)(nil)} {
		if Decode("f", []byte("version: 1"), target) == nil {
			t.Errorf("%T: no error", target)
		}
	}
	var m map[int]string
	if Decode("f", []byte("1: a"), &m) == nil {
		t.Error("a map with numbers as keys is filled")
	}
	var a any
	if Decode("f", []byte("a: b"), &a) == nil {
		t.Error("anything goes")
	}
}

func TestAllFindsErrors(t *testing.T) {
	if All("f", nil) != nil {
		t.Error("nil has errors")
	}
	wrapped := fmt.Errorf("read: %w", Errors{{File: "f", Line: 2, Column: 3, Message: "m"}}.Err())
	if got := All("g", wrapped); len(got) != 1 || got[0].Line != 2 {
		t.Errorf("%v", got)
	}
	if got := All("g", fmt.Errorf("x: %w", Error{File: "f", Line: 4})); len(got) != 1 || got[0].Line != 4 {
		t.Errorf("%v", got)
	}
	if got := All("g", errors.New("plain")); len(got) != 1 || got[0].Error() != "g: plain" {
		t.Errorf("%v", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("version: 1\ntables: [{form: x, next: {form: y}}]\nby: {a: {form: z}}"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("? [a]\n: b"))
	f.Fuzz(func(t *testing.T, src []byte) {
		var one, two outer
		pos, err := DecodeWithPositions("f", src, &one)
		if err == nil {
			// Whatever is accepted decodes the same again, and has positions inside the file.
			if err := Decode("f", src, &two); err != nil || !reflect.DeepEqual(one, two) {
				t.Fatal("decodes differently the second time")
			}
			if line, column := pos.At("tables[0].form"); line < 1 || column < 1 || line > strings.Count(string(src), "\n")+strings.Count(string(src), "\r")+len(src)+1 {
				t.Fatalf("position %d:%d", line, column)
			}
			return
		}
		var errs Errors
		if !errors.As(err, &errs) || len(errs) == 0 {
			t.Fatalf("not Errors: %v", err)
		}
	})
}
