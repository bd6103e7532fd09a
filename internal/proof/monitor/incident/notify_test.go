package incident

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of these tests.
const patience = 60 * time.Second

// hearing is a deliverer that a test answers for.
type hearing struct {
	mu    sync.Mutex
	heard []Notice
	tries int
	f     func(ctx context.Context, try int) error
}

func (h *hearing) deliver(ctx context.Context, n *Notice) error {
	h.mu.Lock()
	h.tries++
	try, f := h.tries, h.f
	h.mu.Unlock()
	if f != nil {
		if err := f(ctx, try); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, *n)
	return nil
}

func (h *hearing) got() []Notice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Notice{}, h.heard...)
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// quick is a sleep that takes a moment however long it is.
func quick(ctx context.Context, _ time.Duration) error { return sleep(ctx, time.Millisecond) }

// running runs a notifier until the test ends.
func running(t *testing.T, n *Notifier) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	for _, r := range n.Receivers { // it knows where it begins
		until(t, "cursor of "+r.Name, func() bool { _, err := os.Stat(n.path(r.Name)); return err == nil })
	}
	return stop
}

func TestASlowReceiverHoldsNobody(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newClock())
	opened(t, s, Finding{Rule: "gap", Origin: "before", Reason: "x"})
	slow, fast := &hearing{}, &hearing{}
	slow.f = func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }
	n := &Notifier{Store: s, Dir: dir, Sleep: quick, Receivers: []Receiver{{Name: "slow", to: slow}, {Name: "fast", to: fast}}}
	stop := running(t, n)
	for i := range 20 {
		opened(t, s, Finding{Rule: "gap", Origin: fmt.Sprint(i), Reason: "x"})
	}
	until(t, "twenty notices beside a receiver that never answers", func() bool { return len(fast.got()) == 20 })
	if len(slow.got()) != 0 {
		t.Error("the slow one heard something")
	}
	stop()
	// After a restart the slow one is told all, in order, and the fast one nothing again.
	slow.f = nil
	more := &Notifier{Store: s, Dir: dir, Sleep: quick, Receivers: n.Receivers}
	running(t, more)
	until(t, "what the slow one had missed", func() bool { return len(slow.got()) == 20 })
	for i, x := range slow.got() {
		if x.Origin != fmt.Sprint(i) || x.What != eventOpened || x.Incident == "" {
			t.Errorf("notice %d is %+v", i, x)
		}
	}
	if len(fast.got()) != 20 {
		t.Errorf("the fast one heard %d", len(fast.got()))
	}
}

func TestRetriesAreBounded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newClock())
	var log bytes.Buffer
	var mu sync.Mutex
	var pauses []time.Duration
	dead := &hearing{f: func(_ context.Context, try int) error {
		if try <= maxAttempts {
			return errNotTaken
		}
		return nil
	}}
	n := &Notifier{Store: s, Dir: dir, Receivers: []Receiver{{Name: "dead", to: dead}}, Logger: slog.New(slog.NewTextHandler(&log, nil)), Poll: time.Hour,
		Sleep: func(ctx context.Context, d time.Duration) error {
			mu.Lock()
			if d != time.Hour {
				pauses = append(pauses, d)
			}
			mu.Unlock()
			return quick(ctx, d)
		}}
	stop := running(t, n)
	opened(t, s, Finding{Rule: "gap", Origin: "lost", Reason: "x"})
	opened(t, s, Finding{Rule: "gap", Origin: "told", Reason: "x"})
	until(t, "the notice after the one that was given up", func() bool { return len(dead.got()) == 1 })
	stop()
	if got := dead.got()[0]; got.Origin != "told" {
		t.Errorf("heard %q", got.Origin)
	}
	if len(pauses) != maxAttempts-1 || pauses[0] != firstPause || pauses[1] != 2*firstPause || pauses[len(pauses)-1] != longestPause {
		t.Errorf("%d pauses, first %v", len(pauses), pauses[:2])
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "given up") {
		t.Errorf("%d lines of log: %s", lines, log.String())
	}
}

func TestWebhookSecretsAreInNoError(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
		return path
	}
	var got *http.Request
	var body Notice
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/refuses"):
			w.WriteHeader(http.StatusTeapot)
		case strings.HasSuffix(r.URL.Path, "/moves"):
			http.Redirect(w, r, "/SECRET", http.StatusFound)
		default:
			got = r
			_ = json.NewDecoder(r.Body).Decode(&body)
		}
	}))
	defer server.Close()
	token := write("token", "TOKEN")
	h := newWebhook(write("good", server.URL+"/SECRET?SECRET=1"), token)
	must(t, h.deliver(t.Context(), &Notice{Incident: "inc-000001", Event: 7}))
	if got == nil || got.Header.Get("Authorization") != "Bearer TOKEN" || body.Incident != "inc-000001" {
		t.Errorf("it heard %+v", body)
	}
	for name, address := range map[string]string{"refuses": server.URL + "/SECRET/refuses", "moves": server.URL + "/SECRET/moves", "no port": "http://127.0.0.1:1/SECRET",
		"no address": "SECRET", "another scheme": "file:///SECRET", "control": "http://SECRET\x7f/"} {
		err := newWebhook(write("bad", address), token).deliver(t.Context(), &Notice{})
		if !errors.Is(err, errNotTaken) || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// mailServer is a mail server of one session a connection. It answers each command by name.
func mailServer(t *testing.T, answers map[string]string) (addr string, session func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var mu sync.Mutex
	var said strings.Builder
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serveMail(c, answers, &mu, &said)
		}
	}()
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String(), func() string { mu.Lock(); defer mu.Unlock(); return said.String() }
}

func serveMail(c net.Conn, answers map[string]string, mu *sync.Mutex, said *strings.Builder) {
	defer c.Close()
	fmt.Fprint(c, "220 test\r\n")
	data := false
	for in := bufio.NewScanner(c); in.Scan(); {
		line := in.Text()
		mu.Lock()
		said.WriteString(line + "\n")
		mu.Unlock()
		verb, _, _ := strings.Cut(line, " ")
		answer := answers[verb]
		switch {
		case data && line == ".":
			data, answer = false, "250 taken"
		case data:
			continue
		case answer != "":
		case verb == "EHLO":
			answer = "250 test"
		case verb == "DATA":
			data, answer = true, "354 go on"
		default:
			answer = "250 ok"
		}
		fmt.Fprint(c, answer+"\r\n")
	}
}

func TestMailIsSentAndNothingSlipsIntoItsHeaders(t *testing.T) {
	addr, session := mailServer(t, nil)
	m := mailer{server: addr, from: "monitor@example.eu", to: []string{"a@example.eu", "b@example.eu"}}
	must(t, m.deliver(t.Context(), &Notice{Incident: "inc-000001", What: "overdue", Rule: "gap", Origin: "x\r\nBcc: thief@example.com", Reason: "first\r\n.\r\nQUIT",
		Clock: "gdpr-33", Due: newClock().now()}))
	until(t, "the end of the session", func() bool { return strings.Contains(session(), "QUIT\n") })
	text := session()
	for _, want := range []string{"MAIL FROM:<monitor@example.eu>", "RCPT TO:<b@example.eu>", "Subject: [trefoil] inc-000001 overdue", "clock: gdpr-33, due 2026-11-20T12:00:00Z", "\nfirst . QUIT\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "Bcc") {
			t.Errorf("a header slipped in: %q", line)
		}
	}
}

func TestMailThatIsNotTaken(t *testing.T) {
	for name, answers := range map[string]map[string]string{
		"sender": {"MAIL": "550 no"}, "recipient": {"RCPT": "550 no"}, "data": {"DATA": "554 no"}, "greeting": {"EHLO": "500 no", "HELO": "500 no"}} {
		addr, _ := mailServer(t, answers)
		err := mailer{server: addr, from: "m@example.eu", to: []string{"a@example.eu"}}.deliver(t.Context(), &Notice{Incident: "inc-000001"})
		if !errors.Is(err, errNotTaken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	addr, session := mailServer(t, nil)
	password := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(password, []byte("hunter2"), 0o600))
	// Go's client gives a password to no server that asks for it in the clear, but one of this machine.
	m := mailer{server: addr, from: "m@example.eu", to: []string{"a@example.eu"}, user: "u", passwordFile: password}
	if err := m.deliver(t.Context(), &Notice{Incident: "inc-000001"}); !errors.Is(err, errNotTaken) || strings.Contains(err.Error()+session(), "hunter2") {
		t.Errorf("a server that offers no login: %v", err)
	}
}

func TestReceiversFileIsStrict(t *testing.T) {
	good := `version: 1
receivers:
  - { name: regulator, webhook: { url_file: keys/hook, token_file: keys/hook-token }, events: [opened, overdue] }
  - { name: officers, smtp: { server: "mail.example.eu:587", from: m@example.eu, to: [a@example.eu], user: m, password_file: keys/mail } }
  - { name: spool, file: incidents.out }
`
	got, err := ParseReceivers("notify.yaml", "/d", []byte(good))
	if err != nil || len(got) != 3 || got[2].to != (toFile{"/d/incidents.out"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, edit := range map[string][2]string{
		"unknown key":    {"token_file: keys/hook-token", "url: https://secret"},
		"unknown event":  {"overdue", "everything"},
		"a name twice":   {"name: spool", "name: officers"},
		"a path as name": {"name: spool", "name: ../spool"},
		"two ways":       {"file: incidents.out", "file: x, webhook: { url_file: y }"},
		"no way":         {", file: incidents.out", ""},
		"no port":        {"mail.example.eu:587", "mail.example.eu"},
		"no recipient":   {"[a@example.eu]", "[]"},
		"a header":       {"from: m@example.eu", `from: "m@example.eu\r\nBcc: x@example.eu"`},
		"user alone":     {", password_file: keys/mail", ""},
		"version":        {"version: 1", "version: 2"},
	} {
		text := strings.Replace(good, edit[0], edit[1], 1)
		if text == good {
			t.Fatalf("%s changes nothing", name)
		}
		if _, err := ParseReceivers("notify.yaml", "/d", []byte(text)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if none, err := LoadReceivers(t.TempDir()); err != nil || none != nil {
		t.Errorf("without a file: %v, %v", none, err)
	}
}

func TestNoticesToAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	for i := range 3 {
		must(t, toFile{path}.deliver(t.Context(), &Notice{Event: uint64(i)}))
	}
	raw, err := os.ReadFile(path)
	must(t, err)
	if lines := strings.Split(strings.TrimSpace(string(raw)), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[2], `{"event":2,`) {
		t.Errorf("%s", raw)
	}
}
