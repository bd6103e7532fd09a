package strict

import (
	"encoding"
	"math"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// value decodes n into v. Path is where v is, for positions and messages.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, depth int) {
	d.pos.at[path] = place{n.Line, n.Column}
	switch {
	case depth > MaxDepth:
		d.fail(n, "is nested deeper than %d levels", MaxDepth)
		return
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fail(n, "anchors and aliases are not allowed: write the value out")
		return
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		d.null(n, v, path)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path, depth)
		return
	}
	if v.CanAddr() && v.Addr().Type().Implements(textUnmarshaler) {
		d.text(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path, depth)
	case reflect.Map:
		d.table(n, v, path, depth)
	case reflect.Slice:
		d.sequence(n, v, path, depth)
	default:
		d.scalar(n, v, path)
	}
}

// null accepts an empty value for what may be absent: a list, a map, a pointer.
func (d *decoder) null(n *yaml.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer:
		v.SetZero()
	default:
		d.fail(n, "%s has no value: want %s", name(path), kindName(v))
	}
}

// text decodes a scalar by the type's own UnmarshalText. Its error is not repeated: it could
// hold the value.
func (d *decoder) text(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, "%s: want text, got %s", name(path), nodeName(n))
		return
	}
	u, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	if !ok || u.UnmarshalText([]byte(n.Value)) != nil {
		d.fail(n, "%s: the value cannot be read as %s", name(path), v.Type())
	}
}

// mapping decodes a YAML mapping into a struct.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s: want a mapping, got %s", name(path), nodeName(n))
		return
	}
	fields := fieldsOf(v.Type())
	d.pairs(n, path, func(key string, kn, vn *yaml.Node) {
		i, ok := fields[key]
		if !ok {
			d.fail(kn, "unknown key %q%s%s", clip(key), inWhat(path), suggest(key, fields))
			return
		}
		d.value(vn, v.Field(i), Join(path, key), depth+1)
	})
}

// table decodes a YAML mapping into a map with text keys.
func (d *decoder) table(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s: want a mapping, got %s", name(path), nodeName(n))
		return
	}
	t := v.Type()
	if t.Key().Kind() != reflect.String {
		d.fail(n, "%s: maps need text keys", name(path))
		return
	}
	v.Set(reflect.MakeMapWithSize(t, len(n.Content)/2))
	d.pairs(n, path, func(key string, _, vn *yaml.Node) {
		elem := reflect.New(t.Elem()).Elem()
		d.value(vn, elem, Join(path, key), depth+1)
		v.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), elem)
	})
}

// pairs visits the pairs of a mapping, and notes keys that are not text or given twice.
func (d *decoder) pairs(n *yaml.Node, path string, visit func(key string, kn, vn *yaml.Node)) {
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		kn, vn := n.Content[i], n.Content[i+1]
		switch {
		case kn.Kind == yaml.ScalarNode && kn.Tag == "!!merge":
			d.fail(kn, "merge keys are not allowed: write the values out")
			continue
		case kn.Kind != yaml.ScalarNode || kn.Anchor != "" || kn.Tag == "!!null":
			d.fail(kn, "a key%s is not text", inWhat(path))
			continue
		case seen[kn.Value]:
			d.fail(kn, "key %q%s is given twice", clip(kn.Value), inWhat(path))
			continue
		}
		seen[kn.Value] = true
		visit(kn.Value, kn, vn)
	}
}

// sequence decodes a YAML sequence into a slice.
func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "%s: want a list, got %s", name(path), nodeName(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), path+"["+strconv.Itoa(i)+"]", depth+1)
	}
}

// scalar decodes text, a whole number, a number or true/false.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode || !setScalar(n, v) {
		hint := ""
		if n.Kind == yaml.ScalarNode && v.Kind() == reflect.String {
			hint = " (put it in quotes)"
		}
		d.fail(n, "%s: want %s, got %s%s", name(path), kindName(v), nodeName(n), hint)
	}
}

// setScalar sets v from n if the kinds agree and the value fits.
func setScalar(n *yaml.Node, v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		// An unquoted date is a timestamp to YAML; here it is the text as written.
		ok := n.Tag == "!!str" || n.Tag == "!!timestamp"
		if ok {
			v.SetString(n.Value)
		}
		return ok
	case reflect.Bool:
		ok := n.Tag == "!!bool" && (n.Value == "true" || n.Value == "false")
		if ok {
			v.SetBool(n.Value == "true")
		}
		return ok
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if n.Tag != "!!int" || err != nil || v.OverflowInt(i) {
			return false
		}
		v.SetInt(i)
		return true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(n.Value, 10, 64)
		if n.Tag != "!!int" || err != nil || v.OverflowUint(u) {
			return false
		}
		v.SetUint(u)
		return true
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, 64)
		if (n.Tag != "!!int" && n.Tag != "!!float") || err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return false
		}
		v.SetFloat(f)
		return true
	}
	return false
}

// fieldsOf maps yaml keys to field numbers of a struct type.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || key == "-":
			continue
		case key == "":
			key = strings.ToLower(f.Name)
		}
		fields[key] = i
	}
	return fields
}
