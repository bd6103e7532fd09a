package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// TestPermitOverHTTP: what a gateway sees.
func TestPermitOverHTTP(t *testing.T) {
	w := newWorld(t)
	s := httptest.NewServer(w.m.Handler())
	defer s.Close()
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	index := w.log.add(w.start(a))
	req := []byte(show(w.log.request(index, w.log.cosigned(w.m))))
	for name, c := range map[string]struct {
		token string
		body  []byte
		want  int
	}{
		"no token":     {"", req, 401},
		"wrong token":  {"guess", req, 401},
		"bodies token": {w.m.bodies, req, 401},
		"no JSON":      {w.m.token, []byte("old 0"), 400},
		"unknown key":  {w.m.token, bytes.Replace(req, []byte(`"body"`), []byte(`"bodies"`), 1), 400},
		"two values":   {w.m.token, append(bytes.Clone(req), req...), 400},
		"no proof":     {w.m.token, []byte(`{"body":"e30=","salt":"","proof":""}`), 400},
		"too large":    {w.m.token, bytes.Repeat([]byte(" "), maxPermitRequest+1), 413},
		"empty":        {w.m.token, nil, 400},
		"good":         {w.m.token, req, 200},
	} {
		code, out, _ := post(t, s.URL, "/permit", c.token, c.body)
		if code != c.want {
			t.Errorf("%s: %d %s, want %d", name, code, out, c.want)
		}
	}
	index = w.log.add(w.start(a)) // a second start
	code, out, _ := post(t, s.URL, "/permit", w.m.token, []byte(show(w.log.request(index, w.log.cosigned(w.m)))))
	var answer trefoil.PermitAnswer
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != 403 || answer.Refusal == nil || answer.Refusal.Rule != ruleReplay {
		t.Errorf("second start: %d %s, want 403 and rule %q", code, out, ruleReplay)
	}
	for token, sessions := range map[string]int{"": 0, w.m.token: 0, w.m.bodies: 1} {
		var st Status
		if err := json.Unmarshal(get(t, s.URL+"/status", token), &st); err != nil || len(st.Sessions) != sessions || st.Logs[0].Permits != 1 {
			t.Errorf("status with token %q: %s, %v; want %d sessions, 1 permit", token, show(st), err, sessions)
		}
	}
	var stored struct {
		Body, Salt []byte
		Permit     string
	}
	if err := json.Unmarshal(get(t, fmt.Sprintf("%s/bodies/%s/1", s.URL, originHash(testOrigin)), w.m.bodies), &stored); err != nil || stored.Permit == "" {
		t.Errorf("body: %+v, %v; want one with its permit", stored, err)
	}
	if _, err := trefoil.OpenPermit(stored.Permit, w.trust.Permit); err != nil {
		t.Error(err)
	}
}

func TestFloodFromOneAddressIsLimited(t *testing.T) {
	w := newWorld(t)
	h := w.m.Handler()
	ask := func(addr, token string) int {
		r := httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader("x"))
		r.RemoteAddr = addr
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code
	}
	for range askBurst {
		if code := ask("192.0.2.1:99", ""); code != 400 {
			t.Fatalf("within the burst: %d", code)
		}
	}
	for addr, want := range map[string]int{"192.0.2.1:100": 429, "192.0.2.2:99": 400} {
		if code := ask(addr, ""); code != want {
			t.Errorf("%s: %d, want %d", addr, code, want)
		}
	}
	if code := ask("192.0.2.1:100", w.m.token); code != 400 {
		t.Errorf("with the token: %d, want 400", code)
	}
	for i := range 3 * maxAddresses { // many addresses do not fill the memory
		w.m.asks.allow(fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>16, i&0xffff), w.clock.now())
	}
	if n := len(w.m.asks.bucket); n > maxAddresses {
		t.Errorf("%d addresses are kept, want at most %d", n, maxAddresses)
	}
	w.clock.add(time.Second)
	if code := ask("192.0.2.9:1", ""); code != 400 {
		t.Errorf("later: %d, want 400", code)
	}
}

// TestSlowClientIsCutOff: whoever never ends their headers does not keep a connection.
// Whoever shares the log's address can read and guess tokens: the log's own requests go on.
func TestReadersDoNotStopTheWitness(t *testing.T) {
	w := newWorld(t)
	h := w.m.Handler()
	ask := func(method, path string) int {
		r := httptest.NewRequest(method, path, strings.NewReader("x"))
		r.RemoteAddr = "192.0.2.1:99"
		r.Header.Set("Authorization", "Bearer wrong")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code
	}
	for range 2 * askBurst {
		if code := ask(http.MethodGet, "/status"); code != 200 {
			t.Fatalf("GET /status: %d", code)
		}
		ask(http.MethodPost, "/permit")
	}
	if code := ask(http.MethodPost, "/permit"); code != 429 {
		t.Errorf("wrong tokens without end: %d, want 429", code)
	}
	if code := ask(http.MethodPost, "/add-checkpoint"); code != 400 {
		t.Errorf("the log's own request: %d, want 400", code)
	}
}

func TestSlowClientIsCutOff(t *testing.T) {
	w := newWorld(t)
	s := NewServer(w.m.Handler())
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Fatal("a bound is not set")
	}
	s.ReadHeaderTimeout, s.ReadTimeout = 50*time.Millisecond, 50*time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /permit HTTP/1.1\r\nHost: x\r\n")
	c.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 512)
	for {
		_, err := c.Read(buf)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Fatal("the server keeps a slow client for more than 5 s")
		}
		if err != nil {
			return
		}
	}
}

func FuzzPermit(f *testing.F) {
	w := newWorld(f)
	d := analyticsDefinition()
	w.acknowledged(d)
	index := w.log.add(w.start(w.access("chen", d)))
	w.log.add(w.release(w.access("chen", d), 0, 1, 1))
	cp := w.log.cosigned(w.m)
	good := show(w.log.request(index, cp))
	f.Add([]byte(good))
	f.Add([]byte(show(w.log.request(index+1, cp))))
	f.Add([]byte(`{"body":"","salt":"","proof":"c2sp.org/tlog-proof@v1\nindex 0\n\n"}`))
	f.Add([]byte(`{"evidence":["trefoil.eu/grant/v1\n{}\n"]}`))
	h := w.m.Handler()
	w.quiet()
	want := w.log.records[index]
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"/permit", "/acknowledge"} {
			r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+w.m.token)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if rec.Code >= 500 {
				t.Errorf("%s: status %d for %q", path, rec.Code, body)
			}
			var req trefoil.PermitRequest
			if rec.Code == http.StatusOK && (json.Unmarshal(body, &req) != nil || !bytes.Equal(req.Body, want.Body) || !bytes.Equal(req.Salt, want.Salt)) {
				t.Errorf("%s: permitted %q", path, body)
			}
		}
	})
}

// BenchmarkPermit measures one chunk's permit with the body durable: verify, judge, commit,
// sign. The figure p99_ms is over all chunks of the run.
func BenchmarkPermit(b *testing.B) {
	w := newWorld(b)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.m.rules.Ceilings.SessionBytes = 1 << 50
	w.permitted(w.start(a))
	reqs := make([]*trefoil.PermitRequest, b.N)
	for i := range reqs {
		w.log.add(w.release(a, int64(i), 10, int64(i+1)*10))
	}
	cp := w.log.cosigned(w.m)
	first := w.log.size() - uint64(b.N)
	for i := range reqs {
		reqs[i] = w.log.request(first+uint64(i), cp)
	}
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for _, r := range reqs {
		begin := time.Now()
		if _, no, err := w.m.Permit(b.Context(), r); err != nil || no != nil {
			b.Fatalf("%s, %v", show(no), err)
		}
		took = append(took, time.Since(begin))
	}
	b.StopTimer()
	percentiles(b, took)
}
