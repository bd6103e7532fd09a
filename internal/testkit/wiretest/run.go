package wiretest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait of a script.
const patience = 20 * time.Second

// Dialer opens an authenticated connection that has read its first ReadyForQuery.
type Dialer func(t testing.TB) net.Conn

// Run plays a script and returns the transcript: a line a message, and the step it answers.
func (s *Script) Run(t testing.TB, dial Dialer) []string {
	t.Helper()
	var transcript []string
	conns := map[int]*player{}
	for _, st := range s.steps {
		p := conns[st.conn]
		if p == nil {
			p = &player{conn: dial(t)}
			defer p.conn.Close()
			conns[st.conn] = p
		}
		_ = p.conn.SetDeadline(time.Now().Add(patience))
		if st.send != nil {
			p.out = append(p.out, st.send...)
			continue
		}
		if err := p.flush(); err != nil {
			t.Fatalf("%s:%d: send: %v", s.Name, st.line, err)
		}
		if st.flush {
			continue
		}
		got, err := p.until(st.until)
		transcript = append(append(transcript, st.text), got...)
		if err != nil {
			t.Fatalf("%s:%d: %s: %v; so far:\n%s", s.Name, st.line, st.text, err, strings.Join(transcript, "\n"))
		}
		if st.want != nil && !slices.Equal(st.want, got) {
			t.Errorf("%s:%d: got\n  %s\nwant\n  %s", s.Name, st.line, strings.Join(got, "\n  "), strings.Join(st.want, "\n  "))
		}
	}
	if len(transcript) == 0 {
		t.Fatalf("%s: the script reads nothing", s.Name)
	}
	return transcript
}

// Compare runs every script of dir on both and fails where they differ.
func Compare(t *testing.T, dir string, direct, through Dialer) {
	for _, s := range Load(t, dir) {
		t.Run(s.Name, func(t *testing.T) {
			want := s.Run(t, direct)
			got := s.Run(t, through)
			if !slices.Equal(want, got) {
				t.Errorf("directly:\n  %s\nthrough:\n  %s", strings.Join(want, "\n  "), strings.Join(got, "\n  "))
			}
		})
	}
}

// Update rewrites the expectations of every script of dir from what direct answers.
func Update(t testing.TB, dir string, direct Dialer) {
	for _, s := range Load(t, dir) {
		for i := range s.steps {
			s.steps[i].want = nil
		}
		answers := s.Run(t, direct)
		src, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for line := range strings.Lines(string(src)) {
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(line, "< ") {
				continue
			}
			out = append(out, line)
			if len(answers) > 0 && answers[0] == strings.TrimSpace(line) {
				for answers = answers[1:]; len(answers) > 0 && !isRead(answers[0]); answers = answers[1:] {
					out = append(out, "< "+answers[0])
				}
			}
		}
		if err := os.WriteFile(s.path, []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func isRead(line string) bool {
	return strings.HasPrefix(line, "until ") || strings.HasPrefix(line, "2 until ")
}

type player struct {
	conn net.Conn
	out  []byte
}

func (p *player) flush() error {
	_, err := p.conn.Write(p.out)
	p.out = nil
	return err
}

// until reads messages up to and with one of the named type; "end" is the end of the stream.
func (p *player) until(name string) ([]string, error) {
	var got []string
	for {
		typ, payload, err := ReadMessage(p.conn)
		switch {
		case name == "end" && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
			return append(got, "end"), nil
		case err != nil:
			return got, err
		}
		got = append(got, render(typ, payload))
		if typ == backendTypes[name] {
			return got, nil
		}
	}
}

// ReadMessage reads one backend message.
func ReadMessage(r io.Reader) (typ byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	c := cursor{b: head[1:]}
	n := int(c.u32()) - 4
	if n < 0 || n > 1<<30 {
		return 0, nil, fmt.Errorf("message of %d bytes", n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return head[0], payload, err
}
