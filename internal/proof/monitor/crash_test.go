package monitor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// childDir, when set, makes the test binary a monitor on that directory.
const childDir = "TREFOIL_TEST_MONITOR_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	m, err := New(context.Background(), Config{Dir: dir})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go m.Run(context.Background())
	return NewServer(m.Handler()).Serve(l)
}

// child runs a child monitor and returns its URL and a function that kills it with SIGKILL.
func (w *world) child() (string, func()) {
	w.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+w.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatalf("child monitor did not start: %v", err)
	}
	var once sync.Once
	kill := func() {
		once.Do(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
	}
	w.t.Cleanup(kill)
	return "http://" + strings.TrimSpace(line), kill
}

// given is a permit that the caller has in hand.
type given struct {
	req  *trefoil.PermitRequest
	text string
}

// TestKill9AndRestart kills the monitor while it is asked, many times. After each restart it
// knows every checkpoint it signed and every permit it gave, and the mirror verifies.
func TestKill9AndRestart(t *testing.T) {
	w := newWorld(t)
	w.close()
	w.clock.t = time.Now().UTC()
	w.clock.t = w.clock.t.Truncate(time.Second)
	w.m.rules.Follow = "100ms"
	d := analyticsDefinition()
	index := w.log.add(&trefoil.Body{At: w.clock.t, Kind: trefoil.KindCatalog, Origin: testOrigin,
		Catalog: &trefoil.CatalogBody{Definition: d, Event: "defined", Hash: trefoil.DefinitionHash(d)}})
	c := &crasher{w: w, old: map[uint64][32]byte{}}
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		url, kill := w.child()
		c.url = url
		c.check()
		if round == 0 {
			cp, err := c.cosign()
			if err != nil {
				t.Fatal(err)
			}
			code, out, _ := post(t, url, "/acknowledge", c.token(), []byte(show(w.log.request(index, cp))))
			if code != http.StatusOK {
				t.Fatalf("acknowledge: %d %s", code, out)
			}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for c.one() == nil {
			}
		}()
		time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond)
		kill()
		<-done
	}
	url, kill := w.child()
	c.url = url
	c.check()
	kill()
	if len(c.given) < rounds {
		t.Fatalf("only %d permits in %d rounds: the test tested little", len(c.given), rounds)
	}
	w.open()
	w.synced()
	reports, err := Verify(t.Context(), w.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if reports[0].Released < c.bytes {
		t.Errorf("mirror holds %d permitted bytes, %d were permitted to the caller", reports[0].Released, c.bytes)
	}
	t.Logf("%d permits, %d checkpoints, %d kills", len(c.given), len(c.old), rounds)
}

// crasher is a gateway and a log that go on while the monitor is killed.
type crasher struct {
	w     *world
	url   string
	size  uint64
	old   map[uint64][32]byte // size → root that was cosigned
	given []given
	bytes int64
}

func (c *crasher) token() string {
	raw, err := os.ReadFile(filepath.Join(c.w.dir, "keys", "token"))
	if err != nil {
		c.w.t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func (c *crasher) post(path string, body []byte) (int, []byte, error) {
	req, err := http.NewRequest(http.MethodPost, c.url+path, strings.NewReader(string(body)))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var buf strings.Builder
	if _, err := bufio.NewReader(resp.Body).WriteTo(&buf); err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, []byte(buf.String()), nil
}

// cosign asks for a cosignature on the whole log, from the size the monitor says it has.
func (c *crasher) cosign() ([]byte, error) {
	n := c.w.log.size()
	for range 2 {
		code, out, err := c.post("/add-checkpoint", c.w.log.addRequest(c.size, n))
		switch {
		case err != nil:
			return nil, err
		case code == http.StatusConflict:
			var size uint64
			if _, err := fmt.Sscanf(string(out), "%d\n", &size); err != nil {
				return nil, err
			}
			for s := range c.old {
				if s > size {
					c.w.t.Errorf("monitor cosigned size %d and now remembers %d", s, size)
				}
			}
			c.size = size
		case code == http.StatusOK:
			c.size = n
			c.w.log.mu.Lock()
			defer c.w.log.mu.Unlock()
			c.old[n] = c.w.log.root(n)
			c.w.log.served = append(c.w.log.checkpoint(n), out...)
			return c.w.log.served, nil
		default:
			return nil, fmt.Errorf("add-checkpoint answered %d: %s", code, out)
		}
	}
	return nil, errors.New("no agreement on the size")
}

// one opens a session and asks for one chunk of it. Its error is that of a killed monitor.
func (c *crasher) one() error {
	c.w.clock.mu.Lock()
	c.w.clock.t = time.Now().UTC()
	c.w.clock.mu.Unlock()
	a := c.w.access("chen", analyticsDefinition())
	for _, b := range []*trefoil.Body{c.w.start(a), c.w.release(a, 0, 10, 10)} {
		index := c.w.log.add(b)
		cp, err := c.cosign()
		if err != nil {
			return err
		}
		req := c.w.log.request(index, cp)
		code, out, err := c.post("/permit", []byte(show(req)))
		if err != nil {
			return err
		}
		var answer trefoil.PermitAnswer
		if err := json.Unmarshal(out, &answer); err != nil || code != http.StatusOK {
			c.w.t.Errorf("permit: %d %s", code, out)
			return errors.New("refused")
		}
		g := given{req: req, text: answer.Permit}
		if b.Release != nil {
			c.bytes += b.Release.Bytes
		}
		c.given = append(c.given, g)
	}
	return nil
}

// check asks again for the last permits: the monitor must remember each.
func (c *crasher) check() {
	for _, g := range c.given[max(0, len(c.given)-10):] {
		code, out, err := c.post("/permit", []byte(show(g.req)))
		var answer trefoil.PermitAnswer
		if err != nil || code != http.StatusOK || json.Unmarshal(out, &answer) != nil || answer.Permit != g.text {
			c.w.t.Errorf("permit given before the kill: %d %s, %v; want the same", code, out, err)
		}
	}
}
