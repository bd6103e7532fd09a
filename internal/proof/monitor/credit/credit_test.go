package credit

import (
	"errors"
	"strings"
	"testing"
)

func TestStreamsThatAreNotBelieved(t *testing.T) {
	const state = `{"seq":1,"kind":"state"}` + "\n"
	id := strings.Repeat("ab", 16)
	for name, c := range map[string]struct {
		text string
		good int
	}{
		"nothing":          {"", 0},
		"no state first":   {`{"seq":1,"kind":"beat"}`, 0},
		"a gap":            {state + `{"seq":3,"kind":"beat"}`, 1},
		"a line twice":     {state + state, 1},
		"negative":         {state + `{"seq":2,"kind":"credit","valve":"` + id + `","bytes":-1}`, 1},
		"no connection":    {state + `{"seq":2,"kind":"credit","valve":"*","bytes":1}`, 1},
		"unknown kind":     {state + `{"seq":2,"kind":"all"}`, 1},
		"too long":         {state + strings.Repeat(" ", maxLine+1), 1},
		"overflow":         {state + `{"seq":2,"kind":"credit","valve":"` + id + `","bytes":9223372036854775808}`, 1},
		"good, then ended": {state + `{"seq":2,"kind":"credit","valve":"` + id + `","bytes":5}` + "\n", 2},
	} {
		r := NewReader(strings.NewReader(c.text))
		n := 0
		for {
			_, err := r.Next()
			if err != nil {
				if !errors.Is(err, ErrStream) {
					t.Errorf("%s: %v, want ErrStream", name, err)
				}
				break
			}
			n++
		}
		if n != c.good {
			t.Errorf("%s: %d lines believed, want %d", name, n, c.good)
		}
	}
}

// FuzzNext: no stream gives a credit that is negative or of no connection.
func FuzzNext(f *testing.F) {
	f.Add(`{"seq":1,"kind":"state","stopped":true}` + "\n" + `{"seq":2,"kind":"credit","valve":"` + strings.Repeat("0", 32) + `"}`)
	f.Fuzz(func(t *testing.T, text string) {
		r := NewReader(strings.NewReader(text))
		for {
			l, err := r.Next()
			if err != nil {
				return
			}
			if l.Kind == Credit && (l.Bytes < 0 || l.Allowance < 0 || l.Releases < 0 || len(l.Valve) != 32) {
				t.Errorf("believed %+v", l)
			}
		}
	})
}
