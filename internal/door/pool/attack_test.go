package pool

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// one is a client with a server of its own, without a model.
func one(t testing.TB) (*Mux, *Session, *Outs) {
	t.Helper()
	s := newSim(t, 1, 5)
	c := s.addClient(nil, false)
	c.mux.Attach(&s.servers[0].Session, &s.outs)
	return c.mux, &s.servers[0].Session, &s.outs
}

func ask(t testing.TB, m *Mux, o *Outs, b []byte) string {
	t.Helper()
	if _, _, err := m.FromClient(b, o); err != nil {
		t.Fatal(err)
	}
	return string(o.Server.Bytes())
}

func TestAnswerThatNobodyAskedForIsDesynchronisation(t *testing.T) {
	row := wire.AppendMessage(nil, 'D', []byte("somebody's row"))
	ready := wire.AppendReadyForQuery(nil, 'I')
	for name, tc := range map[string]struct{ said, answer []byte }{
		"row without a request":       {nil, row},
		"second ready":                {q("select 1"), cat(ready, ready)},
		"row behind the end":          {q("select 1"), cat(ready, row)},
		"completion for a Parse":      {cat(pp("a", "select 1"), msg('S')), wire.AppendMessage(nil, 'C', []byte("SELECT 1\x00"))},
		"row for a Bind":              {cat(pp("a", "select 1"), bb("", "a")), cat(msg('1'), row)},
		"ready before the Sync":       {cat(pp("a", "select 1"), msg('H')), cat(msg('1'), ready)},
		"error without a request":     {nil, wire.AppendErrorResponse(nil, wire.ErrorFields{Severity: "ERROR", SQLState: "22012", Message: "x"})},
		"authentication":              {q("select 1"), wire.AppendAuthenticationOk(nil)},
		"key":                         {q("select 1"), wire.AppendBackendKeyData(nil, 1, []byte("1234"))},
		"COPY of a standby":           {q("select 1"), wire.AppendMessage(nil, 'W', []byte("\x00\x00\x00"))},
		"ready of no known length":    {q("select 1"), wire.AppendMessage(nil, 'Z', []byte("II"))},
		"unknown message":             {q("select 1"), wire.AppendMessage(nil, '~', nil)},
		"the pool's own query's rows": {q("select currval('s')"), cat(ready, row, row, ready, ready)},
	} {
		t.Run(name, func(t *testing.T) {
			m, _, o := one(t)
			ask(t, m, o, tc.said)
			_, err := m.FromServer(tc.answer, o)
			if !errors.Is(err, ErrDesync) && !errors.Is(err, wire.ErrFrame) {
				t.Errorf("error %v, want desynchronisation", err)
			}
		})
	}
}

func TestClientCannotNameAnothersStatement(t *testing.T) {
	s := newSim(t, 1, 5)
	victim, thief := s.addClient(nil, false), s.addClient(nil, false)
	s.attach(victim)
	sent := ask(t, victim.mux, &s.outs, cat(pp("secret", "select 42"), msg('S')))
	name := sent[5 : strings.IndexByte(sent[5:], 0)+5]
	s.servers[0].model.feed([]byte(sent))
	s.answer(victim, 1000)
	if victim.srv != nil {
		t.Fatal("the server was not released")
	}
	s.attach(thief)
	for what, b := range map[string][]byte{"bind": cat(bb("", name), ee(""), msg('S')), "describe": cat(dd("S", name), msg('S'))} {
		s.servers[0].model.feed([]byte(ask(t, thief.mux, &s.outs, b)))
		thief.got = nil
		s.answer(thief, 1000)
		if got := rendered(thief.got); !strings.Contains(got, "C26000") {
			t.Errorf("%s of another client's statement: %s", what, got)
		}
		s.attach(thief)
	}
	ask(t, thief.mux, &s.outs, cat(cc("S", name), msg('S')))
	if victim.mux.names["secret"] == nil || !s.servers[0].prepared.has(victim.mux.names["secret"]) {
		t.Error("a client closed another's statement")
	}
}

func TestUnnamedStatementOfAnotherClientIsNotBound(t *testing.T) {
	s := newSim(t, 1, 5)
	first, second := s.addClient([][]byte{cat(pp("", "select first"), msg('S'))}, false), s.addClient([][]byte{cat(bb("", ""), ee(""), msg('S'))}, false)
	for _, c := range []*simClient{first, second} {
		c.script = c.steps[0]
		s.send(c, 1000)
		s.answer(c, 1000)
	}
	if got := rendered(second.got); !strings.Contains(got, "C26000") || strings.Contains(got, "first") {
		t.Errorf("the second client got %s", got)
	}
}

func TestNotificationOfAnotherClientIsNotDelivered(t *testing.T) {
	m, srv, o := one(t)
	ask(t, m, o, q("select 1"))
	if _, err := m.FromServer(wire.AppendMessage(nil, 'A', []byte("\x00\x00\x00\x01chan\x00secret\x00")), o); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(o.Client.Bytes(), []byte("secret")) || !srv.spoiled {
		t.Errorf("delivered %q, spoiled %v", o.Client.Bytes(), srv.spoiled)
	}
}

func TestServerIsKeptWhileAMessageIsOnItsWay(t *testing.T) {
	m, _, o := one(t)
	ask(t, m, o, q("copy x from stdin"))
	half := wire.AppendMessage(nil, 'd', bytes.Repeat([]byte("x"), 100))[:50]
	ask(t, m, o, half)
	failed := cat(wire.AppendErrorResponse(nil, wire.ErrorFields{Severity: "ERROR", SQLState: "57014", Message: "x"}), wire.AppendReadyForQuery(nil, 'I'))
	act, err := m.FromServer(cat(wire.AppendMessage(nil, 'G', []byte("\x00\x00\x00")), failed), o)
	if err != nil || act&Release != 0 {
		t.Fatalf("released in the middle of a message: %v %v", act, err)
	}
	if _, act, _ = m.FromClient(bytes.Repeat([]byte("x"), 55), o); act&Release == 0 {
		t.Error("not released at the message's end")
	}
}

func TestDataOfACopyThatFailedReachesNoOtherServer(t *testing.T) {
	m, _, o := one(t)
	m.Detach()
	for _, b := range [][]byte{wire.AppendMessage(nil, 'd', []byte("row")), msg('c'), wire.AppendMessage(nil, 'f', []byte("x\x00")), msg('H')} {
		if _, act, err := m.FromClient(b, o); err != nil || act != 0 || len(o.Server.Bytes()) > 0 {
			t.Errorf("%q: %v %v %q", b, act, err, o.Server.Bytes())
		}
	}
}

func TestErrorWithinACopyWithSyncsSpoilsTheServer(t *testing.T) {
	m, srv, o := one(t)
	ask(t, m, o, cat(pp("", "copy x from stdin"), bb("", ""), ee(""), msg('S')))
	if _, err := m.FromServer(cat(msg('1'), msg('2'), wire.AppendMessage(nil, 'G', []byte("\x00\x00\x00"))), o); err != nil {
		t.Fatal(err)
	}
	ask(t, m, o, cat(wire.AppendMessage(nil, 'd', []byte("row")), msg('c'), msg('S')))
	e := wire.AppendErrorResponse(nil, wire.ErrorFields{Severity: "ERROR", SQLState: "22P02", Message: "x"})
	if _, err := m.FromServer(cat(e, wire.AppendReadyForQuery(nil, 'I')), o); err != nil {
		t.Fatal(err)
	}
	if clean, _ := m.Detach(); clean || !srv.spoiled {
		t.Error("a server that may answer a Sync more goes to another client")
	}
}

func TestRefusedClientGoesOn(t *testing.T) {
	m, srv, o := one(t)
	m.Detach()
	for name, b := range map[string][]byte{"simple": q("select 1"), "extended": cat(pp("a", "select 1"), bb("", "a"), ee(""), msg('S'))} {
		n, act, err := m.FromClient(b, o)
		if err != nil || act&NeedServer == 0 || n != 0 {
			t.Fatalf("%s: %d %v %v", name, n, act, err)
		}
		m.Refuse(wire.ErrorFields{Severity: "ERROR", SQLState: "53300", Message: "full"})
		if n, act, err = m.FromClient(b, o); err != nil || act != 0 || n != len(b) || len(o.Server.Bytes()) > 0 {
			t.Fatalf("%s: %d %v %v", name, n, act, err)
		}
		if got := rendered(o.Client.Bytes()); strings.Count(got, "53300") != 1 || strings.Count(got, "Z \"I\"") != 1 {
			t.Errorf("%s was answered %s", name, got)
		}
	}
	m.Attach(srv, o)
	if sent := ask(t, m, o, q("select 1")); !strings.Contains(sent, "select 1") {
		t.Errorf("afterwards the server got %q", sent)
	}
}

// FuzzMux: whatever both sides say, in whatever pieces, nothing panics, and a server is given
// back only at rest.
func FuzzMux(f *testing.F) {
	f.Add([]byte("\x05Q\x00\x00\x00\x0dselect 1\x00"), []byte("Z\x00\x00\x00\x05I"), uint8(3))
	f.Add(cat(pp("a", "select 1"), bb("", "a"), ee(""), msg('S')), cat(msg('1'), msg('2'), wire.AppendMessage(nil, 'C', []byte("SELECT 1\x00")), wire.AppendReadyForQuery(nil, 'I')), uint8(1))
	f.Add(cat(pp("", "copy"), bb("", ""), ee(""), msg('S'), wire.AppendMessage(nil, 'd', []byte("x")), msg('c'), msg('S')),
		cat(msg('1'), msg('2'), wire.AppendMessage(nil, 'G', []byte("\x00\x00\x00")), wire.AppendMessage(nil, 'C', []byte("COPY 1\x00")), wire.AppendReadyForQuery(nil, 'I')), uint8(7))
	f.Add(cat(q("discard all"), q("deallocate a"), q("set timezone = 'UTC'")), cat(wire.AppendMessage(nil, 'C', []byte("DISCARD ALL\x00")), wire.AppendReadyForQuery(nil, 'I'),
		wire.AppendParameterStatus(nil, "TimeZone", "UTC"), wire.AppendReadyForQuery(nil, 'T')), uint8(200))
	f.Fuzz(func(t *testing.T, client, server []byte, piece uint8) {
		m, srv, o := one(t)
		step := int(piece)%61 + 1
		for len(client) > 0 || len(server) > 0 {
			if n := min(step, len(client)); n > 0 {
				used, act, err := m.FromClient(client[:n], o)
				if err != nil || act&(NeedServer|Ended|Full) != 0 {
					return
				}
				client = client[used:]
			}
			if n := min(step, len(server)); n > 0 {
				act, err := m.FromServer(server[:n], o)
				if err != nil {
					return
				}
				server = server[n:]
				if act&Release != 0 && m.queue.len() > 0 {
					t.Fatal("released while something is owed")
				}
				if act&Release != 0 {
					if m.state != 'I' || m.open || m.copying || m.skip {
						t.Fatal("released within a transaction")
					}
					m.Detach()
					m.Attach(srv, o)
				}
			}
		}
	})
}
