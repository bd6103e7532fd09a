package audit

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHonestSessionHolds(t *testing.T) {
	s := ordinary()
	r := s.audit(t)
	if !r.Holds || r.Matched != 3 || r.Chunks != 3 || r.Released != s.claims.End.Released || r.Others != r.Stated || r.Unread != 0 || len(r.Notes) > 0 {
		t.Errorf("%+v", r)
	}
}

// wants audits s and wants exactly these rules to be broken.
func wants(t *testing.T, s *script, rules ...string) *Report {
	t.Helper()
	r := s.audit(t)
	var got []string
	for _, d := range r.Differences {
		got = append(got, d.Rule)
	}
	if r.Holds != (len(rules) == 0) || !slices.Equal(got, rules) {
		t.Fatalf("holds %v, differences %v, want %v:\n%+v", r.Holds, got, rules, r)
	}
	return r
}

// TestOtherBytesOfTheSameLength are found: which record it is, and where.
func TestOtherBytesOfTheSameLength(t *testing.T) {
	for at, index := range map[int]uint64{3: 100, 34: 101, 35: 102} { // of sent: the three chunks
		s := ordinary()
		s.sent[at] = bytes.Clone(s.sent[at])
		s.sent[at][len(s.sent[at])/2] ^= 1
		r := wants(t, s, "chunk-differs")
		if d := r.Differences[0]; *d.Record != index || r.Matched != 2 {
			t.Errorf("record %d, %d matched; want record %d and two", *d.Record, r.Matched, index)
		}
	}
}

// TestBytesThatNoRecordHas are found, wherever they are: before, between, after and inside what
// was recorded.
func TestBytesThatNoRecordHas(t *testing.T) {
	for at := range len(ordinary().sent) + 1 {
		if at > 5 && at < 32 {
			continue
		}
		s := ordinary()
		s.sent = slices.Insert(s.sent, at, message('D', 5000))
		r := wants(t, s, "unrecorded-bytes")
		if !strings.Contains(r.Differences[0].Text, "5000 bytes") || !strings.Contains(strings.Join(r.Notes, "\n"), "DataRow") {
			t.Errorf("at %d: %+v", at, r)
		}
	}
	s := ordinary()
	s.sent[34] = append(message('D', 400), s.sent[34]...) // in one write with a chunk
	wants(t, s, "chunk-differs", "unrecorded-bytes")
}

// TestOneChunkSentTwice: the second time no record has it.
func TestOneChunkSentTwice(t *testing.T) {
	s := ordinary()
	s.sent = slices.Insert(s.sent, 36, s.sent[35])
	wants(t, s, "unrecorded-bytes")
}

func TestChunksTurnedRound(t *testing.T) {
	s := ordinary()
	s.sent[34], s.sent[35] = s.sent[35], s.sent[34]
	wants(t, s, "unrecorded-bytes")
}

// TestRecordedAndNotSent: a client that goes away leaves records of what never left, and at
// most one chunk that was cut.
func TestRecordedAndNotSent(t *testing.T) {
	s := ordinary()
	s.record(message('D', 4000))
	s.claims.End.Released -= 4000
	wants(t, s)

	s = ordinary()
	cut := message('D', 40_000)
	s.record(cut)
	s.sent = append(s.sent, cut[:10_000])
	s.claims.End.Released -= 30_000
	if r := wants(t, s); r.Unread != 10_000 {
		t.Errorf("%d bytes not compared, want 10000", r.Unread)
	}

	s = ordinary() // cut before the valve: the gateway thinks that more arrived
	s.record(cut)
	s.sent = append(s.sent, cut[:10_000])
	if r := wants(t, s); r.Unread != 10_000 {
		t.Errorf("%d bytes not compared, want 10000", r.Unread)
	}
}

// TestMoreThanTheEndSays: a session's end cannot explain bytes away.
func TestMoreThanTheEndSays(t *testing.T) {
	s := ordinary()
	s.covered(message('D', 2<<20)) // beyond the allowance
	wants(t, s, "totals")

	s = ordinary()
	s.claims.End.Released += 10_000
	s.sent = append(s.sent, message('D', 10_000))
	wants(t, s, "totals", "unrecorded-bytes")

	s = ordinary()
	s.claims.End = nil // the gateway was killed
	if r := wants(t, s); len(r.Notes) != 1 {
		t.Errorf("notes %q", r.Notes)
	}
	s.sent = append(s.sent, message('D', 2<<20))
	wants(t, s, "unrecorded-bytes")
	s = ordinary()
	s.claims.Started, s.claims.Allowance = false, 0
	wants(t, s, "totals")
}

func TestOpeningGone(t *testing.T) {
	s := ordinary()
	s.claims.Chunks[1].Salt = nil
	wants(t, s, "chunk-differs")
}

// TestCiphertextThatDoesNotOpen says where.
func TestCiphertextThatDoesNotOpen(t *testing.T) {
	k := ordinary().play(t)
	raw, err := os.ReadFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	altered := bytes.Clone(raw)
	altered[len(altered)-2000] ^= 1
	if err := os.WriteFile(k.path, altered, 0o600); err != nil {
		t.Fatal(err)
	}
	var p *Problem
	if x, err := k.open(); !errors.As(err, &p) || p.At < 700_000 || x.Size < 700_000 {
		t.Errorf("altered near the end: %v", err)
	}
	if err := os.WriteFile(k.path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	k.lines = ordinary().play(t).lines
	if _, err := k.open(); !errors.As(err, &p) || p.At > 3000 {
		t.Errorf("another session's secrets: %v", err)
	}
}

// TestHelloOfAnotherConnection: secrets that open the bytes must also fit the hello that the
// valve saw.
func TestHelloOfAnotherConnection(t *testing.T) {
	k := ordinary().play(t)
	if x := k.opened(); !x.Hello || !x.Closed || x.Cut != 0 || x.Suite == "" {
		t.Fatalf("%+v", x)
	}
	raw, err := os.ReadFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(raw, []byte{22, 3, 1}) + 20 // in the random of the ClientHello
	raw[at] ^= 1
	if err := os.WriteFile(k.path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if x := k.opened(); x.Hello {
		t.Error("an altered ClientHello fits")
	}
}

// TestClearText: what goes to a client without TLS is seen.
func TestClearText(t *testing.T) {
	x, err := OpenStream(strings.NewReader("SD\x00\x00\x00\x20row"), 9, nil, &Secrets{})
	var p *Problem
	if !errors.As(err, &p) || x.Before != 8 {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestHelloRetry(t *testing.T) {
	k := take(t, reads(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256} }), func(c *tls.Conn) error {
		_, err := c.Write(message('D', 100_000))
		return err
	}, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} })
	if x := k.opened(); !x.Hello || x.Size != 100_000 {
		t.Errorf("%+v", x)
	}
}

// TestSuitesAndKeyUpdates opens what OpenSSL's client asked for: each suite, and new keys in
// the middle.
func TestSuitesAndKeyUpdates(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	for _, suite := range []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"} {
		t.Run(suite, func(t *testing.T) {
			const updates = 3
			data, heard := message('D', 300_000), make(chan struct{})
			k := take(t, relayed(openssl, suite, heard), func(c *tls.Conn) error {
				defer close(heard)
				line := make([]byte, 2)
				for i := range updates + 1 {
					if _, err := c.Write(data[i*75_000 : (i+1)*75_000]); err != nil {
						return err
					}
					if i == updates {
						break
					}
					select {
					case heard <- struct{}{}:
					case <-time.After(time.Minute):
						return errors.New("openssl does not listen")
					}
					if _, err := io.ReadFull(c, line); err != nil { // behind the client's key update
						return err
					}
				}
				return nil
			})
			x := k.opened()
			got, err := io.ReadAll(io.NewSectionReader(x, 0, x.Size))
			if err != nil || !bytes.Equal(got, data) || x.Updates != updates || x.Suite != suite || !x.Hello {
				t.Errorf("%d bytes, %v, %d updates, %s, hello %v", len(got), err, x.Updates, x.Suite, x.Hello)
			}
		})
	}
}

// relayed is openssl s_client behind a pipe: for each signal it asks for new keys, and then sends
// a line.
func relayed(openssl, suite string, heard <-chan struct{}) func(net.Conn) error {
	return func(c net.Conn) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		cmd := exec.Command(openssl, "s_client", "-connect", l.Addr().String(), "-starttls", "postgres", "-ciphersuites", suite, "-tls1_3")
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		said, err := cmd.StderrPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
		near, err := l.Accept()
		if err != nil {
			return err
		}
		defer near.Close()
		go func() { _, _ = io.Copy(c, near) }()
		go func() {
			words := bufio.NewScanner(said)
			for range heard { // one command at a time: it takes what it reads at once for one
				fmt.Fprint(in, "K\n") // update, and ask the server for one
				for words.Scan() && words.Text() != "KEYUPDATE" {
				}
				fmt.Fprint(in, "x\n")
			}
		}()
		_, _ = io.Copy(near, c) // until the gateway hangs up
		return nil
	}
}

// FuzzOpenStream: no ciphertext and no hello makes it panic.
func FuzzOpenStream(f *testing.F) {
	s, err := ParseSecrets([]byte("SERVER_HANDSHAKE_TRAFFIC_SECRET 00 " + strings.Repeat("11", 32) + "\nSERVER_TRAFFIC_SECRET_0 00 " + strings.Repeat("22", 32) + "\n"))
	if err != nil {
		f.Fatal(err)
	}
	hello := append([]byte{2, 0, 0, 46, 3, 3}, make([]byte, 32)...)
	hello = append(hello, 0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4)
	hello[3] = byte(len(hello) - 4)
	f.Add(append([]byte{'S', 22, 3, 3, 0, byte(len(hello))}, hello...), []byte{0, 0, 0, 8, 4, 210, 22, 47, 22, 3, 1, 0, 4, 1, 0, 0, 0})
	f.Add([]byte("N"), []byte{})
	f.Fuzz(func(t *testing.T, down, up []byte) {
		x, err := OpenStream(bytes.NewReader(down), int64(len(down)), up, s)
		var p *Problem
		if err != nil && !errors.As(err, &p) {
			t.Errorf("%v", err)
		}
		if x != nil && x.Size > 0 {
			t.Error("data opened with secrets that are none")
		}
	})
}

// FuzzParseSecrets: what is read has both secrets and one random.
func FuzzParseSecrets(f *testing.F) {
	f.Add([]byte("CLIENT_RANDOM aa bb\nSERVER_TRAFFIC_SECRET_0 aa bb\nSERVER_HANDSHAKE_TRAFFIC_SECRET aa cc\n"))
	f.Fuzz(func(t *testing.T, lines []byte) {
		s, err := ParseSecrets(lines)
		if err == nil && (s.handshake == nil || s.traffic == nil) {
			t.Error("a secret is missing")
		}
	})
}
