package transform

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// compileJSON compiles a document's paths. What no path names is not in the result. A
// pointer's token * stands for every element of an array.
func (k *Keys) compileJSON(in Input) (*Transform, error) {
	if in.Type.family() != famJSON || in.Type.Array {
		return nil, fmt.Errorf("paths are for json and jsonb, not for %s", in.Type)
	}
	if in.Form.By != "" || in.Form.Null {
		return nil, errors.New("a column with paths has its forms at the paths")
	}
	pointers := make([]string, 0, len(in.Form.Paths))
	for p := range in.Form.Paths {
		pointers = append(pointers, p)
	}
	sort.Strings(pointers)
	plans := make([]jsonPlan, 0, len(pointers))
	for _, p := range pointers {
		leaf, err := k.jsonLeaf(in, p)
		if err != nil {
			return nil, fmt.Errorf("path %s: %w", p, err)
		}
		if leaf == nil {
			continue
		}
		tokens, err := splitPointer(p)
		if err != nil {
			return nil, err
		}
		plans = append(plans, jsonPlan{tokens, leaf})
	}
	if _, err := newJSONTree(plans, new(int64)); err != nil {
		return nil, err
	}
	return &Transform{OutType: in.Type.String(), make: func(bad *int64) Func {
		tree, _ := newJSONTree(plans, bad) // the same plans have just made one
		return func(dst, src []byte) ([]byte, bool) {
			out, ok := tree.apply(dst, src)
			if !ok {
				*bad++
				return dst, false
			}
			return out, true
		}
	}}, nil
}

// jsonPlan is one path and the leaf that stands there.
type jsonPlan struct {
	tokens []string
	leaf   *jsonLeaf
}

// jsonLeaf holds the transforms of a path's values, by what JSON calls them. A nil one
// does not fit: the value becomes null and is counted.
type jsonLeaf struct {
	clear, null  bool
	text, number *Transform
}

// splitPointer reads an RFC 6901 pointer.
func splitPointer(p string) ([]string, error) {
	if p == "" {
		return nil, nil
	}
	if p[0] != '/' {
		return nil, fmt.Errorf("path %q is no JSON pointer: it begins with /", p)
	}
	tokens := strings.Split(p[1:], "/")
	for i, t := range tokens {
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

// jsonLeaf compiles one path; nil is a withheld one.
func (k *Keys) jsonLeaf(in Input, pointer string) (*jsonLeaf, error) {
	form := in.Form.Paths[pointer]
	if len(form.Paths) > 0 {
		return nil, errors.New("a path has no paths of its own: give the longer pointers")
	}
	in.Form, in.Shape = form, nil
	in.Column.Domain = in.Table + "." + in.Column.Name + "#" + pointer
	switch form.Form {
	case law.Clear:
		return &jsonLeaf{clear: true}, nil
	case law.Withheld:
		if form.Null {
			return &jsonLeaf{null: true}, nil
		}
		return nil, nil
	case law.Generalised, law.Pseudonymised:
	default:
		return nil, fmt.Errorf("form %q cannot be stored in a dataset", form.Form)
	}
	leaf := &jsonLeaf{}
	var errText, errNumber error
	leaf.text, errText = k.scalar(in, Type{Base: "text"})
	number := Type{Base: "numeric"}
	if form.By == "lookup" {
		number.Base = "bigint"
	}
	leaf.number, errNumber = k.scalar(in, number)
	if errText != nil && errNumber != nil {
		return nil, errText
	}
	return leaf, nil
}

// jsonNode is a place in a document that some path leads through or to.
type jsonNode struct {
	members map[string]*jsonNode
	each    *jsonNode
	leaf    *jsonLeaf
	text    Func
	number  Func
}

// jsonTree is a compiled set of paths with its scratch.
type jsonTree struct {
	root *jsonNode
	bad  *int64
	buf  []byte
}

func newJSONTree(plans []jsonPlan, bad *int64) (*jsonTree, error) {
	tree := &jsonTree{root: &jsonNode{}, bad: bad}
	for _, p := range plans {
		node := tree.root
		for _, token := range p.tokens {
			if node.leaf != nil {
				return nil, fmt.Errorf("path /%s lies inside another path", strings.Join(p.tokens, "/"))
			}
			node = node.child(token)
		}
		if node.leaf != nil || node.members != nil || node.each != nil {
			return nil, fmt.Errorf("path /%s holds another path", strings.Join(p.tokens, "/"))
		}
		node.leaf = p.leaf
		if p.leaf.text != nil {
			node.text = p.leaf.text.New(bad)
		}
		if p.leaf.number != nil {
			node.number = p.leaf.number.New(bad)
		}
	}
	return tree, nil
}

func (n *jsonNode) child(token string) *jsonNode {
	if token == "*" {
		if n.each == nil {
			n.each = &jsonNode{}
		}
		return n.each
	}
	if n.members == nil {
		n.members = map[string]*jsonNode{}
	}
	if n.members[token] == nil {
		n.members[token] = &jsonNode{}
	}
	return n.members[token]
}

func (t *jsonTree) apply(dst, src []byte) ([]byte, bool) {
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return dst, false
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return dst, false
	}
	return t.write(dst, doc, t.root), true
}

// write appends what node lets through of v. A scalar where a path goes on has nothing to
// show: it becomes null.
func (t *jsonTree) write(dst []byte, v any, node *jsonNode) []byte {
	if node.leaf != nil {
		return t.writeLeaf(dst, v, node)
	}
	switch v := v.(type) {
	case map[string]any:
		kept := map[string]any{}
		for name := range node.members {
			if member, ok := v[name]; ok {
				kept[name] = member
			}
		}
		return appendObject(dst, kept, func(dst []byte, name string, v any) []byte {
			return t.write(dst, v, node.members[name])
		})
	case []any:
		if node.each == nil {
			return append(dst, "[]"...)
		}
		return appendArray(dst, v, func(dst []byte, v any) []byte { return t.write(dst, v, node.each) })
	}
	return append(dst, "null"...)
}

func (t *jsonTree) writeLeaf(dst []byte, v any, node *jsonNode) []byte {
	switch {
	case v == nil || node.leaf.null:
		return append(dst, "null"...)
	case node.leaf.clear:
		return appendJSON(dst, v)
	}
	if s, ok := v.(string); ok && node.text != nil {
		out, ok := node.text(t.buf[:0], []byte(s))
		if t.buf = out; ok {
			return appendString(dst, string(out))
		}
		return append(dst, "null"...)
	}
	if n, ok := v.(json.Number); ok && node.number != nil {
		out, ok := node.number(dst, []byte(n))
		if ok {
			return out
		}
		return append(dst, "null"...)
	}
	*t.bad++
	return append(dst, "null"...)
}

// appendJSON prints as jsonb does: members by length of name, then by bytes.
func appendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		if v {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	case json.Number:
		return append(dst, v...)
	case string:
		return appendString(dst, v)
	case []any:
		return appendArray(dst, v, appendJSON)
	case map[string]any:
		return appendObject(dst, v, func(dst []byte, _ string, v any) []byte { return appendJSON(dst, v) })
	}
	return append(dst, "null"...)
}

func appendArray(dst []byte, list []any, each func([]byte, any) []byte) []byte {
	dst = append(dst, '[')
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = each(dst, v)
	}
	return append(dst, ']')
}

func appendObject(dst []byte, m map[string]any, each func([]byte, string, any) []byte) []byte {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(appendString(dst, name), ": "...)
		dst = each(dst, name, m[name])
	}
	return append(dst, '}')
}

// appendString escapes as PostgreSQL's escape_json does.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
