package wiretest

import (
	"io"
	"net"
	"strings"
	"testing"
)

// canned answers every write with the same bytes, then hangs up.
func canned(answer []byte) Dialer {
	return func(t testing.TB) net.Conn {
		client, server := net.Pipe()
		go func() {
			_, _ = server.Read(make([]byte, 4096))
			_, _ = server.Write(answer)
			server.Close()
		}()
		t.Cleanup(func() { client.Close(); server.Close() })
		return client
	}
}

func parse(t *testing.T, src string) *Script {
	t.Helper()
	s, err := Parse([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTranscript(t *testing.T) {
	s := parse(t, "# comment\n> Query {\"String\":\"select 1\"}\nuntil end\n")
	answer := message('C', []byte("SELECT 1\x00"))
	answer = append(answer, message('Z', []byte("I"))...)
	answer = append(answer, message('E', []byte("SFATAL\x00VFATAL\x00C57P01\x00Mm\x00\x00"))...)
	got := strings.Join(s.Run(t, canned(answer)), "\n")
	want := "until end\nCommandComplete \"SELECT 1\"\nReadyForQuery I\nErrorResponse V=\"FATAL\" C=\"57P01\" M=\"m\"\nend"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestDifferencesAreSeen: what differs in one byte, in one message or in their order has
// another transcript; what is the server's own by nature does not.
func TestDifferencesAreSeen(t *testing.T) {
	s := parse(t, "> Sync\nuntil end\n")
	base := message('D', []byte("\x00\x01\x00\x00\x00\x01a"))
	for name, c := range map[string]struct {
		other []byte
		same  bool
	}{
		"another value":   {message('D', []byte("\x00\x01\x00\x00\x00\x01b")), false},
		"NULL":            {message('D', []byte("\x00\x01\xff\xff\xff\xff")), false},
		"one row more":    {append(append([]byte(nil), base...), base...), false},
		"nothing":         {nil, false},
		"cut short":       {message('D', []byte("\x00\x01\x00\x00\x00\x09a")), false},
		"the same":        {base, true},
		"a notice before": {append(message('N', []byte("Mx\x00\x00")), base...), false},
	} {
		a, b := s.Run(t, canned(base)), s.Run(t, canned(c.other))
		if same := strings.Join(a, "\n") == strings.Join(b, "\n"); same != c.same {
			t.Errorf("%s: same %v, want %v: %q", name, same, c.same, b)
		}
	}
	if render('A', []byte("\x00\x00\x00\x01c\x00p\x00")) != render('A', []byte("\x00\x00\x00\x02c\x00p\x00")) {
		t.Error("the notifying process is in the transcript")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, bad := range []string{"until Nonsense", "> Nonsense", "> Query {\"Strin\":\"x\"}", "> Query {", "< DataRow", "> Sync\n< DataRow", "whatever"} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q is a script", bad)
		}
	}
}

// TestScriptsAreWritten: each script of the directory reads something and says what.
func TestScriptsAreWritten(t *testing.T) {
	list := Load(t, "testdata")
	if len(list) < 30 {
		t.Fatalf("%d scripts", len(list))
	}
	for _, s := range list {
		reads := 0
		for _, st := range s.steps {
			if st.until != "" {
				reads++
				if len(st.want) == 0 {
					t.Errorf("%s:%d: a read step without expectations", s.Name, st.line)
				}
			}
		}
		if reads == 0 {
			t.Errorf("%s reads nothing", s.Name)
		}
	}
}

func TestReadMessageIsBounded(t *testing.T) {
	for _, bad := range []string{"", "Z", "Z\x00\x00\x00\x03", "Z\xff\xff\xff\xff", "Z\x00\x00\x00\x05"} {
		if _, _, err := ReadMessage(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is a message", bad)
		}
	}
	if _, _, err := ReadMessage(strings.NewReader("Z\x00\x00\x00\x05")); err != io.EOF && err != io.ErrUnexpectedEOF {
		t.Errorf("cut short: %v", err)
	}
}
