package strict

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// place is where a value starts.
type place struct{ line, column int }

// Positions knows where each value of a decoded file starts. A nil Positions knows nothing.
type Positions struct {
	file string
	at   map[string]place
}

// Join returns the path of key inside path: "rows" and "k" give "rows.k".
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// At returns the line and column, from 1, of the value at a path such as
// "tables[3].columns[2].form". If the file has no such value it returns the place of the
// nearest value around it; 0, 0 if nothing is known.
func (p *Positions) At(path string) (line, column int) {
	if p == nil {
		return 0, 0
	}
	for {
		if at, ok := p.at[path]; ok {
			return at.line, at.column
		}
		if path == "" {
			return 0, 0
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// File returns the name the file was decoded under.
func (p *Positions) File() string {
	if p == nil {
		return ""
	}
	return p.file
}

// Errorf returns a finding at path.
func (p *Positions) Errorf(path, format string, args ...any) Error {
	line, column := p.At(path)
	return Error{p.File(), line, column, fmt.Sprintf(format, args...)}
}

// name is a path for a message.
func name(path string) string {
	if path == "" {
		return "the document"
	}
	return clip(path)
}

// inWhat is " in PATH" for a message, or nothing at the top.
func inWhat(path string) string {
	if path == "" {
		return ""
	}
	return " in " + clip(path)
}

// clip bounds what a message repeats of a file's own keys.
func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// kindName names what v wants in plain words.
func kindName(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not negative and in range"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number in range"
	}
	return v.Type().String()
}

// nodeName names what n is in plain words.
func nodeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!str":
		return "text"
	case "!!bool":
		return "true or false"
	case "!!int":
		return "a whole number"
	case "!!float":
		return "a number"
	case "!!null":
		return "nothing"
	}
	return "a value of another type"
}

// suggest proposes the known key nearest to an unknown one.
func suggest(key string, fields map[string]int) string {
	best, least := "", 3
	for _, known := range sortedKeys(fields) {
		if d := distance(key, known, least); d < least {
			best, least = known, d
		}
	}
	if best == "" || least >= len(best) {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

func sortedKeys(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// distance is the Levenshtein distance of two keys, or most if the lengths alone exceed it.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
