// Package browser drives a real Chromium in tests: pages, keys, what a screen reader hears.
//
// The invariant it keeps: no browser outlives its test, and every step has a bound. It speaks
// the Chrome DevTools Protocol over the browser's own pipe (--remote-debugging-pipe), so that no
// port is opened and no library is needed. It is imported by tests only.
package browser

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// step bounds one order to the browser.
const step = 30 * time.Second

// Page is one tab of a browser of its own.
type Page struct {
	t       testing.TB
	out     io.Writer
	session string

	mu      sync.Mutex
	next    int
	waiting map[int]chan message
	heard   []Event
}

// Event is something that the browser told without being asked.
type Event struct {
	Method string
	Params json.RawMessage
}

type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Open starts a browser with one empty page. Where no Chromium is installed the test is skipped:
// scripts/install-deps.sh installs it.
func Open(t testing.TB) *Page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium is installed: run scripts/install-deps.sh")
	}
	// Its own descriptors 3 (orders) and 4 (answers).
	orders, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
		"--no-first-run", "--disable-dev-shm-usage", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{orders, answers}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	_, _ = orders.Close(), answers.Close() // the browser has its own
	p := &Page{t: t, out: write, waiting: map[int]chan message{}}
	done := make(chan struct{})
	go func() { defer close(done); p.listen(read) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its whole group: renderers too
		_ = cmd.Wait()                                      // killed: it has nothing to say
		_, _ = write.Close(), read.Close()
		<-done
	})
	p.attach()
	return p
}

func (p *Page) attach() {
	p.t.Helper()
	var target struct{ TargetID string }
	p.Do("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	p.Do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	p.session = session.SessionID
	for _, domain := range []string{"Page", "Runtime", "Network", "Log", "Accessibility"} {
		p.Do(domain+".enable", nil, nil)
	}
}

// listen reads messages, each ended by a zero byte, until the pipe closes.
func (p *Page) listen(r io.Reader) {
	in := bufio.NewReaderSize(r, 1<<20)
	for {
		raw, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(raw[:len(raw)-1], &m) != nil {
			continue
		}
		p.mu.Lock()
		if c := p.waiting[m.ID]; c != nil {
			delete(p.waiting, m.ID)
			c <- m
		} else if m.Method != "" {
			p.heard = append(p.heard, Event{m.Method, m.Params})
		}
		p.mu.Unlock()
	}
}

// Do sends one order and reads its result into result, which may be nil.
func (p *Page) Do(method string, params, result any) {
	p.t.Helper()
	if err := p.do(method, params, result); err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
}

func (p *Page) do(method string, params, result any) error {
	c := make(chan message, 1)
	p.mu.Lock()
	p.next++
	id := p.next
	p.waiting[id] = c
	order := map[string]any{"id": id, "method": method}
	if params != nil {
		order["params"] = params
	}
	if p.session != "" {
		order["sessionId"] = p.session
	}
	raw, err := json.Marshal(order)
	if err == nil {
		_, err = p.out.Write(append(raw, 0))
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case m := <-c:
		if m.Error != nil {
			return errors.New(m.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-time.After(step):
		return fmt.Errorf("no answer within %s", step)
	}
}

// Go opens an address and waits until it has loaded.
func (p *Page) Go(url string) {
	p.t.Helper()
	var nav struct{ ErrorText string }
	p.Do("Page.navigate", map[string]any{"url": url}, &nav)
	if nav.ErrorText != "" {
		p.t.Fatalf("open page: %s", nav.ErrorText)
	}
	p.Until(`document.readyState === "complete" && location.href !== "about:blank"`)
}

// Eval runs an expression, promises included, and reads its value into value.
func (p *Page) Eval(expression string, value any) {
	p.t.Helper()
	if err := p.eval(expression, value); err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
}

func (p *Page) eval(expression string, value any) error {
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Text string }
	}
	if err := p.do("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &r); err != nil {
		return err
	}
	if r.ExceptionDetails != nil {
		return errors.New(r.ExceptionDetails.Text)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(r.Result.Value, value)
}

// Until waits for an expression to be true.
func (p *Page) Until(expression string) {
	p.t.Helper()
	end := time.Now().Add(step)
	for {
		var yes bool
		if p.eval("Boolean("+expression+")", &yes) == nil && yes {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("never true: %s", expression)
		}
		time.Sleep(20 * time.Millisecond) // a page gives no event for what tests wait for
	}
}

// keys are the keys that Press knows: code and what the key types.
var keys = map[string]struct {
	code int
	text string
}{"Tab": {9, ""}, "Enter": {13, "\r"}, "Escape": {27, ""}, " ": {32, " "}, "ArrowDown": {40, ""}}

// Press presses and releases a key: Tab, Enter, Escape, ArrowDown or " ".
func (p *Page) Press(key string) {
	p.t.Helper()
	k, ok := keys[key]
	if !ok {
		p.t.Fatalf("no such key: %s", key)
	}
	down := map[string]any{"type": "keyDown", "key": key, "windowsVirtualKeyCode": k.code}
	if k.text == "" {
		down["type"] = "rawKeyDown"
	} else {
		down["text"] = k.text
	}
	p.Do("Input.dispatchKeyEvent", down, nil)
	p.Do("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "windowsVirtualKeyCode": k.code}, nil)
}

// Heard returns what the browser told so far, of one method ("Network.requestWillBeSent", …).
func (p *Page) Heard(method string) []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Event
	for _, e := range p.heard {
		if e.Method == method {
			out = append(out, e)
		}
	}
	return out
}

// Node is what a screen reader is told of one thing on the page.
type Node struct{ Role, Name string }

// Accessible returns the accessibility tree, in reading order, without what is ignored.
func (p *Page) Accessible() []Node {
	p.t.Helper()
	type text struct{ Value any }
	var r struct {
		Nodes []struct {
			Ignored    bool
			Role, Name *text
		}
	}
	p.Do("Accessibility.getFullAXTree", nil, &r)
	var out []Node
	for _, n := range r.Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		x := Node{Role: fmt.Sprint(n.Role.Value)}
		if n.Name != nil {
			x.Name = strings.TrimSpace(fmt.Sprint(n.Name.Value))
		}
		out = append(out, x)
	}
	return out
}
