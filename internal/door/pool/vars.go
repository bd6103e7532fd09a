package pool

import (
	"strings"
	"sync"
)

// Vars are the parameters that a server reports. Sets of equal values are one object, so that
// comparing two is comparing pointers. They do not change.
type Vars struct {
	values map[string]string
	order  []string // as the server gave them
	under  string   // the values that reading a statement depends on
	plain  bool     // strings are read by the standard, and no character hides ASCII
}

// Get returns a parameter's value.
func (v *Vars) Get(name string) (string, bool) {
	value, ok := v.values[name]
	return value, ok
}

// varTable makes equal sets one object. It is bounded: what it forgets is only compared
// value by value. The zero value is ready.
type varTable struct {
	mu    sync.Mutex
	known map[string]*Vars
}

const maxVarSets = 4096

// make returns the object of a set.
func (t *varTable) make(order []string, values map[string]string) *Vars {
	var b strings.Builder
	for _, n := range order {
		b.WriteString(n)
		b.WriteByte(0)
		b.WriteString(values[n])
		b.WriteByte(0)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if v := t.known[b.String()]; v != nil {
		return v
	}
	if t.known == nil || len(t.known) >= maxVarSets {
		t.known = map[string]*Vars{}
	}
	v := &Vars{values: values, order: order, plain: values["standard_conforming_strings"] == "on" && safeEncoding(values["client_encoding"])}
	for i, n := range tracked {
		if 1<<i&(trackedBit([]byte("application_name"))|trackedBit([]byte("default_transaction_read_only"))) == 0 {
			v.under += values[n] + "\x00"
		}
	}
	t.known[b.String()] = v
	return v
}

// with returns v with one value changed.
func (t *varTable) with(v *Vars, name, value string) *Vars {
	have, known := v.values[name]
	if known && have == value {
		return v
	}
	values := make(map[string]string, len(v.values)+1)
	for n, x := range v.values {
		values[n] = x
	}
	values[name] = value
	order := v.order
	if !known {
		order = append(append(make([]string, 0, len(order)+1), order...), name)
	}
	return t.make(order, values)
}

// safeEncoding reports whether no byte of a multi-byte character of this encoding is ASCII.
func safeEncoding(name string) bool {
	switch strings.ToUpper(strings.NewReplacer("-", "", "_", "").Replace(name)) {
	case "", "BIG5", "GBK", "GB18030", "JOHAB", "SJIS", "SHIFTJIS2004", "UHC", "MULEINTERNAL":
		return false
	}
	return true
}

// plainText reports whether a value can stand in a statement in any encoding.
func plainText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// appendSet appends set_config of one parameter; value is plain text.
func appendSet(dst []byte, name, value string) []byte {
	dst = append(dst, "pg_catalog.set_config('"...)
	dst = append(dst, name...)
	dst = append(dst, "',E'"...)
	for i := 0; i < len(value); i++ {
		if c := value[i]; c == '\'' || c == '\\' {
			dst = append(dst, c)
		}
		dst = append(dst, value[i])
	}
	return append(dst, "',false)"...)
}
