package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// checkBytes counts what reaches a client's socket over one whole session, and compares it
// with the records of that session at the monitor's mirror.
func checkBytes(ctx context.Context, w *World, e *Evidence) error {
	m, err := w.openMirror(ctx)
	if err != nil {
		return err
	}
	from, err := m.size(ctx)
	if err != nil {
		return err
	}
	s, err := connect(ctx, w.DSN("analyst-cn", "analytics"), true)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	for _, sql := range []string{
		"SELECT relname FROM pg_catalog.pg_class ORDER BY 1 LIMIT 20",
		"SELECT * FROM app.watch_events ORDER BY id LIMIT 20000",
		"SELECT no_such_column FROM app.people",
		"SHOW trefoil.dataset",
	} {
		if _, err := s.query(ctx, sql); err != nil && refusal(err) == nil {
			s.close()
			return fmt.Errorf("run %q: %w", sql, err)
		}
	}
	s.close()
	got := s.read.Load()
	end, released, err := m.sessionEnd(ctx, w, from, "analyst-cn")
	if err != nil {
		return err
	}
	e.Showf("at the client's socket:  %8d bytes", got)
	e.Showf("in the mirror's records: %8d released in %d chunks + %d of catalog reads under the session's permit + %d of the gateway's own = %d",
		end.Released, released.chunks, end.Covered, end.Fixed, end.Released+end.Covered+end.Fixed)
	switch {
	case released.bytes != end.Released:
		return fmt.Errorf("the release records hold %d bytes, the session's end says %d", released.bytes, end.Released)
	case got != end.Released+end.Covered+end.Fixed:
		return fmt.Errorf("%d bytes at the client, %d in records", got, end.Released+end.Covered+end.Fixed)
	case end.Released < 100_000:
		return fmt.Errorf("only %d bytes were released: nothing worth counting", end.Released)
	}
	return nil
}

// checkStop kills the monitor and looks at both paths; then it starts it again.
func checkStop(ctx context.Context, w *World, e *Evidence) (err error) {
	open, err := connect(ctx, w.DSN("analyst-cn", "analytics"), false)
	if err != nil {
		return fmt.Errorf("connect before: %w", err)
	}
	defer open.close()
	w.monitor.kill()
	e.Showf("$ kill -9 %d   (the monitor)", w.monitor.pid)
	back := false
	defer func() {
		if !back { // the next claims need it
			err = errors.Join(err, w.StartMonitor(context.WithoutCancel(ctx)))
		}
	}()
	const countPeople = "SELECT count(*) FROM app.people"
	tries := []*stopped{
		{who: "China, session open before", run: func() error { _, err := open.query(ctx, countPeople); return err }},
		{who: "China, new session", run: func() error { _, err := w.ask(ctx, "analyst-cn", "analytics", countPeople); return err }},
		{who: "Ireland, new session", run: func() error { _, err := w.ask(ctx, "analyst-ie", "support", countPeople); return err }},
	}
	var waiting sync.WaitGroup
	for _, t := range tries {
		waiting.Go(t.time)
	}
	reads, serviceErr := w.serveWhile(ctx, &waiting)
	for _, t := range tries {
		if err := t.check(e); err != nil {
			return err
		}
	}
	if serviceErr != nil {
		return fmt.Errorf("the service stands still: %w", serviceErr)
	}
	e.Showf("meanwhile the service read %d times", reads)
	began := time.Now()
	if err := w.StartMonitor(ctx); err != nil {
		return err
	}
	back = true
	for {
		_, err := w.ask(ctx, "analyst-cn", "analytics", "SELECT count(*) FROM app.people")
		if err == nil {
			break
		}
		if time.Since(began) > 20*time.Second {
			return fmt.Errorf("releases did not resume within 20 s of the monitor's return: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	e.Showf("monitor started again; released again after %.1f s", time.Since(began).Seconds())
	return nil
}

// stopped is one attempt to read while the monitor is away.
type stopped struct {
	who  string
	run  func() error
	err  error
	took time.Duration
}

func (t *stopped) time() {
	began := time.Now()
	t.err = t.run()
	t.took = time.Since(began)
}

// check wants SQLSTATE 57P03 within ten seconds.
func (t *stopped) check(e *Evidence) error {
	refused := refusal(t.err)
	if refused == nil {
		return fmt.Errorf("%s: not stopped: %v", t.who, t.err)
	}
	e.Showf("%-28s %s: %s  (%.1f s)", t.who+":", refused.Code, refused.Message, t.took.Seconds())
	if refused.Code != "57P03" || t.took > 10*time.Second {
		return fmt.Errorf("%s: SQLSTATE %s after %s, want 57P03 within 10 s", t.who, refused.Code, t.took)
	}
	return nil
}

// serveWhile reads as the service, again and again, until the group is done. It returns how
// often that went well, and the first error.
func (w *World) serveWhile(ctx context.Context, waiting *sync.WaitGroup) (reads int, err error) {
	over := make(chan struct{})
	go func() {
		waiting.Wait()
		close(over)
	}()
	for {
		served, readErr := w.ask(ctx, "app", "platform", "SELECT count(*) FROM app.people")
		n, onlyErr := served.only()
		switch {
		case readErr != nil || onlyErr != nil:
			err = errors.Join(err, readErr, onlyErr)
		case n != strconv.FormatInt(w.Platform.People-w.gone, 10):
			err = errors.Join(err, fmt.Errorf("the service counted %s people", n))
		default:
			reads++
		}
		select {
		case <-over:
			if reads < 3 {
				err = errors.Join(err, fmt.Errorf("the service read only %d times", reads))
			}
			return reads, err
		case <-time.After(500 * time.Millisecond):
			if err != nil {
				<-over
				return reads, err
			}
		}
	}
}

// verify runs `trefoil verify` with nothing but the public keys: no configuration, an empty
// environment, an empty directory.
func (w *World) verify(ctx context.Context, what string) (string, int, error) {
	empty, err := os.MkdirTemp("", "trefoil-verify-")
	if err != nil {
		return "", 0, fmt.Errorf("make empty directory: %w", err)
	}
	defer os.RemoveAll(empty)
	cmd := exec.CommandContext(ctx, w.o.Binary, "verify", what, "--log-key", w.logKey, "--monitor-key", w.witnessKey+","+w.permitKey)
	cmd.Dir, cmd.Env = empty, []string{}
	if s := os.Getenv("TREFOIL_SABOTAGE"); s != "" { // read by tagged builds alone
		cmd.Env = append(cmd.Env, "TREFOIL_SABOTAGE="+s)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", 0, fmt.Errorf("run trefoil verify: %w", err)
	}
	return strings.TrimSpace(string(out)), cmd.ProcessState.ExitCode(), nil
}

// wantExit runs verify and wants this exit code.
func (w *World) wantExit(ctx context.Context, e *Evidence, shown, what string, code int) error {
	out, got, err := w.verify(ctx, what)
	if err != nil {
		return err
	}
	e.Showf("$ trefoil verify %s --log-key … --monitor-key …   → exit %d", shown, got)
	for _, line := range strings.Split(out, "\n") {
		if line = strings.ReplaceAll(line, what, shown); !strings.HasPrefix(line, "not proven:") {
			e.Show(line)
		}
	}
	if got != code {
		return fmt.Errorf("trefoil verify %s: exit %d, want %d", shown, got, code)
	}
	return nil
}

// checkAltered copies the published log and one receipt, alters one byte of each, and wants
// verification to hold before and to fail after.
func checkAltered(ctx context.Context, w *World, e *Evidence) error {
	dir := w.path("receipts", "log-copy")
	size, err := copyLog(ctx, "http://"+w.logAddr, dir)
	if err != nil {
		return err
	}
	if err := w.wantExit(ctx, e, "log-copy", dir, 0); err != nil {
		return err
	}
	index := size / 2
	bundle := filepath.Join(dir, filepath.FromSlash(trefoil.EntriesPath(index/trefoil.TileWidth, bundleWidth(size, index/trefoil.TileWidth))))
	if err := flip(bundle, -5); err != nil {
		return err
	}
	e.Show("one bit of one entry altered:")
	if err := w.wantExit(ctx, e, "log-copy", dir, 3); err != nil {
		return err
	}
	_, receipt, err := w.someReceipt(ctx)
	if err != nil {
		return err
	}
	altered := receipt
	altered.Record.Body = bytes.Replace(altered.Record.Body, []byte(`"rows":`), []byte(`"rows":1`), 1)
	text, err := altered.Marshal()
	if err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	file := w.path("receipts", "altered")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	e.Show("one digit of a record's row count altered:")
	return w.wantExit(ctx, e, "receipt", file, 3)
}

// flip alters one bit of a file, at an offset from its end where negative.
func flip(path string, at int) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("alter log: %w", err)
	}
	if at < 0 {
		at += len(b)
	}
	if at < 0 || at >= len(b) {
		return errors.New("alter log: nothing there")
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("alter log: %w", err)
	}
	return nil
}

// checkReceipt takes the receipt of a release and verifies it with the public keys alone.
func checkReceipt(ctx context.Context, w *World, e *Evidence) error {
	index, receipt, err := w.someReceipt(ctx)
	if err != nil {
		return err
	}
	text, err := receipt.Marshal()
	if err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	file := w.path("receipts", "release")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	e.Showf("record %d, a release:", index)
	return w.wantExit(ctx, e, "receipt", file, 0)
}

// someReceipt lets the analyst in China read something, and asks the site for the receipt of it.
func (w *World) someReceipt(ctx context.Context) (uint64, *trefoil.Receipt, error) {
	m, err := w.openMirror(ctx)
	if err != nil {
		return 0, nil, err
	}
	began := time.Now()
	if _, err := w.ask(ctx, "analyst-cn", "analytics", "SELECT count(*) FROM app.people"); err != nil {
		return 0, nil, err
	}
	index, err := m.soon(ctx, func(b *trefoil.Body) bool {
		return b.Release != nil && b.Release.Access.Dataset == "analytics" && b.At.After(began.Add(-time.Millisecond))
	})
	if err != nil {
		return 0, nil, err
	}
	out, err := w.enclave(ctx, "log", "prove", strconv.FormatUint(index, 10))
	if err != nil {
		return 0, nil, err
	}
	r, err := trefoil.ParseReceipt([]byte(out + "\n"))
	if err != nil {
		return 0, nil, fmt.Errorf("read receipt %d: %w", index, err)
	}
	return index, r, nil
}

// checkRetention waits for the end of a refusal's retention, which is seconds here, and
// verifies the log without its body.
func checkRetention(ctx context.Context, w *World, e *Evidence) error {
	m, err := w.openMirror(ctx)
	if err != nil {
		return err
	}
	index, err := m.newest(ctx, func(b *trefoil.Body) bool { return b.Kind == trefoil.KindRefusal })
	if err != nil {
		return err
	}
	token, err := os.ReadFile(w.path("enclave", "keys", "monitor.token"))
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	began := time.Now()
	for {
		status, err := fetch(ctx, fmt.Sprintf("http://%s/body/%d", w.logAddr, index), strings.TrimSpace(string(token)), nil)
		if err != nil {
			return err
		}
		if status == 410 {
			break
		}
		if status != 200 || time.Since(began) > 30*time.Second {
			return fmt.Errorf("the body of record %d (retention 10 s) is still there: HTTP %d", index, status)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if text, err := w.enclave(ctx, "log", "prove", strconv.FormatUint(index, 10)); err == nil {
		return fmt.Errorf("a receipt of the deleted body was given: %d bytes", len(text))
	}
	e.Showf("record %d, a refusal with a retention of 10 s: body and salt are gone, the leaf is not", index)
	return w.wantExit(ctx, e, "LOG_URL", "http://"+w.logAddr, 0)
}
