// Package wiretest runs wire scripts: conversations in the PostgreSQL protocol that a
// reviewer can read, run against PostgreSQL directly and through Trefoil. Both must answer
// alike, message for message.
//
// The invariant it keeps: a script that nobody answers fails. Everything a server says is in
// the transcript, but for what is its own by nature: process ids, cancel keys, object ids,
// source positions of errors.
//
// It is imported by tests only. A script (testdata/NAME.wire) has a step a line:
//
//	# a comment
//	> Query {"String":"select 1"}        send; gathered until the next step that reads
//	2> Query {"String":"notify x"}       the same on a second connection
//	send                                  send what is gathered and go on
//	until ReadyForQuery                   read up to and with a message of this type
//	2 until ReadyForQuery                 on the second connection
//	until end                             read until the server hangs up
//	< CommandComplete "SELECT 1"          what the last read step must have given, in order
package wiretest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Script is a parsed wire script.
type Script struct {
	Name  string
	path  string
	steps []step
}

// step is one line. Exactly one of send, flush and until is set.
type step struct {
	line  int
	conn  int // 1 or 2
	send  []byte
	flush bool
	until string
	want  []string
	text  string // the line as written
}

// Load reads all scripts of a directory; it fails the test when there is none.
func Load(t testing.TB, dir string) []*Script {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.wire"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no wire scripts in %s", dir)
	}
	var list []*Script
	for _, p := range paths {
		src, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(src)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		s.Name, s.path = strings.TrimSuffix(filepath.Base(p), ".wire"), p
		list = append(list, s)
	}
	return list
}

// Parse parses one script.
func Parse(src []byte) (*Script, error) {
	s := &Script{}
	lines := bufio.NewScanner(bytes.NewReader(src))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		st := step{line: n, conn: 1, text: text}
		if text == "" || text[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(text, "< "); ok {
			if len(s.steps) == 0 || s.steps[len(s.steps)-1].until == "" {
				return nil, fmt.Errorf("line %d: an expectation without a read step", n)
			}
			last := &s.steps[len(s.steps)-1]
			last.want = append(last.want, rest)
			continue
		}
		if rest, ok := strings.CutPrefix(text, "2"); ok {
			st.conn, text = 2, strings.TrimSpace(rest)
		}
		if err := st.parse(text); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		s.steps = append(s.steps, st)
	}
	return s, lines.Err()
}

func (st *step) parse(text string) (err error) {
	if rest, ok := strings.CutPrefix(text, "> "); ok {
		name, args, _ := strings.Cut(rest, " ")
		st.send, err = encode(name, args)
		return err
	}
	if rest, ok := strings.CutPrefix(text, "until "); ok {
		st.until = rest
		if _, known := backendTypes[rest]; !known && rest != "end" {
			return fmt.Errorf("unknown message type %q", rest)
		}
		return nil
	}
	if text == "send" {
		st.flush = true
		return nil
	}
	return fmt.Errorf("not a step: %q", text)
}

// decodeArgs reads a message's JSON strictly.
func decodeArgs(args string, out any) error {
	if args == "" {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(args))
	d.DisallowUnknownFields()
	return d.Decode(out)
}
