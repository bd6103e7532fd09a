package release

import (
	"io"
	"net"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// FuzzConversation: whatever the client and the server say, nothing panics, and nothing is
// covered after an answer that does not fit.
func FuzzConversation(f *testing.F) {
	msg := func(typ byte, body string) []byte { return wire.AppendMessage(nil, typ, []byte(body)) }
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	f.Add(msg('Q', "SELECT 1\x00"), []byte("TDCZ"))
	f.Add(join(msg('P', "a\x00SELECT 1\x00\x00\x00"), msg('D', "Sa\x00"), msg('B', "\x00a\x00"), msg('E', "\x00\x00\x00\x00\x00"), msg('S', "")), []byte("1tT2DCZ"))
	f.Add(join(msg('P', "\x00COPY x FROM STDIN\x00\x00\x00"), msg('B', "\x00\x00"), msg('E', "\x00"), msg('S', ""), msg('c', ""), msg('S', "")), []byte("12GCZ"))
	f.Add(join(msg('P', "\x00x\x00\x00\x00"), msg('B', "\x00\x00"), msg('S', ""), msg('Q', "SELECT 1\x00")), []byte("EZTDCZ"))
	f.Add(msg('F', "\x00\x00\x00\x00"), []byte("VZ"))
	f.Add(msg('Q', "no terminator"), []byte("ZZ"))
	classifier := statement.NewClassifier([]string{"public.person"})
	f.Fuzz(func(t *testing.T, client, answers []byte) {
		server, far := net.Pipe()
		defer far.Close()
		defer server.Close()
		go io.Copy(io.Discard, far)
		s := &Session{Config: Config{Server: server, Classifier: classifier, Key: func(fp string) string { return fp }}}
		s.state = statement.NewState(nil)
		s.track = newTracker(s.state)
		defer s.track.close()
		if len(client) > 4*maxOps {
			return // push would wait for room
		}
		p := &clientPump{s: s, framer: wire.NewFramer(wire.FromFrontend, wire.Limits{})}
		if _, err := p.forward(client); err != nil {
			return
		}
		for _, a := range answers {
			if v := s.track.answer(a, nil); v.covered && s.track.lost {
				t.Fatal("covered though the mirror is lost")
			}
			if v := s.track.waiting(); v < 0 {
				t.Fatal("more answers than messages")
			}
		}
	})
}
