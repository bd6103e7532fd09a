package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// receive has pgproto3, the reference implementation, read what was built here.
func receive(t *testing.T, b []byte) pgproto3.BackendMessage {
	t.Helper()
	m, err := pgproto3.NewFrontend(bytes.NewReader(b), nil).Receive()
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return m
}

func TestBuildersAgainstReference(t *testing.T) {
	e := ErrorFields{Severity: Fatal, SQLState: "28000", Message: "no", Detail: "d", Hint: "h"}
	for _, c := range []struct {
		got  []byte
		want pgproto3.BackendMessage
	}{
		{AppendErrorResponse(nil, e), &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28000", Message: "no", Detail: "d", Hint: "h"}},
		{AppendNoticeResponse(nil, ErrorFields{Severity: Notice, SQLState: "00000", Message: "m"}),
			&pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: "m"}},
		{AppendReadyForQuery(nil, InTransaction), &pgproto3.ReadyForQuery{TxStatus: 'T'}},
		{AppendParameterStatus(nil, "a", "b"), &pgproto3.ParameterStatus{Name: "a", Value: "b"}},
		{AppendBackendKeyData(nil, 7, []byte{1, 2, 3, 4}), &pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte{1, 2, 3, 4}}},
		{AppendAuthenticationOk(nil), &pgproto3.AuthenticationOk{}},
		{AppendAuthenticationSASL(nil, "A", "B"), &pgproto3.AuthenticationSASL{AuthMechanisms: []string{"A", "B"}}},
		{AppendSASLContinue(nil, "x"), &pgproto3.AuthenticationSASLContinue{Data: []byte("x")}},
		{AppendSASLFinal(nil, "y"), &pgproto3.AuthenticationSASLFinal{Data: []byte("y")}},
	} {
		if got := receive(t, c.got); !reflect.DeepEqual(got, c.want) {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

// TestNULCannotSplitAMessage: a value with a NUL must not start a field of its own.
func TestNULCannotSplitAMessage(t *testing.T) {
	got := receive(t, AppendErrorResponse(nil, ErrorFields{SQLState: "28000", Message: "a\x00C00000\x00\x00Z", Hint: "h"}))
	if m := got.(*pgproto3.ErrorResponse); m.Message != "a" || m.Code != "28000" || m.Hint != "h" {
		t.Fatalf("%+v", m)
	}
}

func TestParsersAgainstReference(t *testing.T) {
	m := &pgproto3.ErrorResponse{Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: "42P01", Message: "m", Detail: "d", Hint: "h", Where: "w", Line: 3}
	enc, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseFields(enc[HeaderSize:])
	if want := (ErrorFields{Severity: "ERROR", SQLState: "42P01", Message: "m", Detail: "d", Hint: "h"}); err != nil || f != want {
		t.Fatalf("%+v %v", f, err)
	}
	enc, _ = (&pgproto3.SASLInitialResponse{AuthMechanism: "X", Data: []byte("abc")}).Encode(nil)
	if mech, data, err := ParseSASLInitial(enc[HeaderSize:]); mech != "X" || data != "abc" || err != nil {
		t.Fatalf("%q %q %v", mech, data, err)
	}
	if got := AppendSASLInitial(nil, "X", "abc"); !bytes.Equal(got, enc) {
		t.Fatalf("%q, reference %q", got, enc)
	}
	enc, _ = (&pgproto3.StartupMessage{ProtocolVersion: 3 << 16, Parameters: map[string]string{"user": "u"}}).Encode(nil)
	if got := AppendStartup(nil, map[string]string{"user": "u"}); !bytes.Equal(got, enc) {
		t.Fatalf("%q, reference %q", got, enc)
	}
	enc, _ = (&pgproto3.CancelRequest{ProcessID: 9, SecretKey: []byte{1, 2, 3, 4}}).Encode(nil)
	if got := AppendCancelRequest(nil, 9, []byte{1, 2, 3, 4}); !bytes.Equal(got, enc) {
		t.Fatalf("%q, reference %q", got, enc)
	}
	enc, _ = (&pgproto3.SSLRequest{}).Encode(nil)
	if got := AppendSSLRequest(nil); !bytes.Equal(got, enc) {
		t.Fatalf("%q, reference %q", got, enc)
	}
}

func TestParseStartup(t *testing.T) {
	be := binary.BigEndian.AppendUint32
	for name, c := range map[string]struct {
		in   []byte
		want Startup
	}{
		"session": {append(be(nil, 3<<16|2), "user\x00u\x00_pq_.x\x00y\x00\x00"...),
			Startup{Ask: AskSession, Minor: 2, Params: map[string]string{"user": "u"}, Options: []string{"_pq_.x"}}},
		"TLS":         {be(nil, 80877103), Startup{Ask: AskTLS}},
		"GSS":         {be(nil, 80877104), Startup{Ask: AskGSS}},
		"cancel":      {append(be(be(nil, 80877102), 5), 1, 2, 3, 4), Startup{Ask: AskCancel, PID: 5, Secret: []byte{1, 2, 3, 4}}},
		"long cancel": {append(be(be(nil, 80877102), 5), make([]byte, 256)...), Startup{Ask: AskCancel, PID: 5, Secret: make([]byte, 256)}},
	} {
		got, err := ParseStartup(c.in)
		if err != nil || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	if _, err := ParseStartup(append(be(be(nil, 80877102), 5), make([]byte, 257)...)); !errors.Is(err, ErrStartup) {
		t.Errorf("a cancel key of 257 bytes: %v", err)
	}
	if _, err := ParseStartup(be(nil, 2<<16)); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "2.0") {
		t.Errorf("protocol 2: %v", err)
	}
}

// FuzzStartup: what parses is what was sent, and nothing panics.
func FuzzStartup(f *testing.F) {
	f.Add(AppendStartup(nil, map[string]string{"user": "u", "database": "d"})[4:])
	f.Add(AppendSSLRequest(nil)[4:])
	f.Add(AppendCancelRequest(nil, 1, []byte{1, 2, 3, 4})[4:])
	f.Add([]byte("\x00\x03\x00\x02_pq_.a\x00\x00user\x00x\x00\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := ParseStartup(p)
		if err != nil {
			return
		}
		switch s.Ask {
		case AskSession:
			if s.Params["user"] == "" {
				t.Fatal("a session without a user")
			}
			again, err := ParseStartup(AppendStartup(nil, s.Params)[4:])
			if err != nil || !reflect.DeepEqual(again.Params, s.Params) {
				t.Fatalf("%v: %v", again, err)
			}
		case AskCancel:
			if !bytes.Equal(AppendCancelRequest(nil, s.PID, s.Secret)[4:], p) {
				t.Fatal("the cancel request differs")
			}
		case AskTLS, AskGSS:
			if len(p) != 4 {
				t.Fatal("bytes after an encryption request")
			}
		default:
			t.Fatal("parsed as nothing")
		}
	})
}

// FuzzMessages: parsers of payloads from outside never panic and never read past the end.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("SERROR\x00C42P01\x00Mx\x00\x00"))
	f.Add([]byte("SCRAM-SHA-256\x00\x00\x00\x00\x03abc"))
	f.Add([]byte("a\x00b\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if e, err := ParseFields(p); err == nil {
			again, err := ParseFields(AppendErrorResponse(nil, e)[HeaderSize:])
			if err != nil || again != e {
				t.Fatalf("%+v, again %+v: %v", e, again, err)
			}
		}
		if m, data, err := ParseSASLInitial(p); err == nil && len(data) > 0 {
			if !bytes.Equal(AppendSASLInitial(nil, m, data)[HeaderSize:], p) {
				t.Fatal("SASLInitialResponse differs")
			}
		}
		_, _, _ = ParseParameterStatus(p)
		_, _, _ = ParseBackendKeyData(p)
		_, _, _ = ParseAuthentication(p)
		_, _ = ParseMechanisms(p)
		_, _, _ = CString(p)
	})
}
