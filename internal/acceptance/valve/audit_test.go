package valve

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/proof/audit"
)

// kept are the sessions whose ciphertext the valve has, the oldest first.
func (h *house) kept() []string {
	h.t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "monitor", "ciphertext", "*", "*.*"))
	if err != nil {
		h.t.Fatal(err)
	}
	age := map[string]time.Time{}
	var sessions []string
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			h.t.Fatal(err)
		}
		session, _, _ := strings.Cut(filepath.Base(f), ".")
		age[session] = info.ModTime()
		sessions = append(sessions, session)
	}
	slices.SortFunc(sessions, func(a, b string) int { return age[a].Compare(age[b]) })
	return sessions
}

// audit runs trefoil audit over a session whose end is in the log, and returns its report and
// exit code.
func (h *house) audit(ctx context.Context, session string) (*audit.Report, int) {
	h.t.Helper()
	for {
		cmd := exec.CommandContext(ctx, h.binary, "audit", session, "--ciphertext", filepath.Join(h.dir, "monitor", "ciphertext"),
			"-c", filepath.Join(h.dir, "enclave", "enclave.yaml"), "--json")
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
			h.t.Fatalf("audit: %v, %v", err, ctx.Err())
		}
		var r audit.Report
		if err := json.Unmarshal(out, &r); err != nil {
			h.t.Fatalf("audit %s: exit %d: %v\n%s", session, cmd.ProcessState.ExitCode(), err, exit.Stderr)
		}
		if !slices.ContainsFunc(r.Notes, func(n string) bool {
			return strings.Contains(n, "no end record") || strings.Contains(n, "has no end")
		}) {
			return &r, cmd.ProcessState.ExitCode()
		}
		time.Sleep(100 * time.Millisecond) // the end is still on its way into the log
	}
}

// audits opens every honest session so far: each byte of it is in a record.
func (h *house) audits(ctx context.Context) {
	sessions := h.kept()
	chunks := 0
	for _, s := range sessions {
		r, code := h.audit(ctx, s)
		if code != 0 || !r.Holds || r.Matched != r.Chunks {
			h.t.Errorf("audit of honest session %s: exit %d, %+v", s, code, r)
		}
		chunks += r.Matched
	}
	if len(sessions) < 7 || chunks < 20 {
		h.t.Errorf("%d sessions with %d chunks were audited", len(sessions), chunks)
	}
}

// last audits the newest session and wants it not to hold, for these reasons among others.
func (h *house) last(ctx context.Context, rules ...string) *audit.Report {
	h.t.Helper()
	sessions := h.kept()
	r, code := h.audit(ctx, sessions[len(sessions)-1])
	for _, rule := range rules {
		if !slices.ContainsFunc(r.Differences, func(d audit.Difference) bool { return d.Rule == rule }) {
			h.t.Errorf("no difference %q: %+v", rule, r)
		}
	}
	if code != 3 || r.Holds {
		h.t.Errorf("exit %d, want 3: %+v", code, r)
	}
	return r
}

// hostile has the gateway do one thing once.
func (h *house) hostile(what string) {
	h.t.Helper()
	if err := os.WriteFile(h.orders, []byte("fail "+what+" gateway\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// ordered reports whether the gateway has still to do it.
func (h *house) ordered() bool {
	_, err := os.Stat(h.orders)
	return err == nil
}

// done wants the order to have been carried out.
func (h *house) done() {
	h.t.Helper()
	if h.ordered() {
		h.t.Error("the gateway was not hostile")
	}
}

// otherBytes: a gateway that sends other bytes than it recorded, of the same length, passes the
// valve, and an audit says which record it was.
func (h *house) otherBytes(ctx context.Context) {
	h.hostile("other-bytes")
	if n, err := copied(ctx, h.through("ANALYST_CN_DSN"), 10_000); err != nil || n != 1_000_000 {
		h.t.Errorf("other bytes of the same length: %d, %v; the valve cannot tell", n, err)
	}
	h.done()
	h.last(ctx, "chunk-differs")
}

// unrecorded: a gateway that lets a chunk out without a record is stopped at what its session's
// allowance leaves to spare; the monitor has a finding, and an audit finds what passed.
func (h *house) unrecorded(ctx context.Context) {
	conn, err := pgx.Connect(ctx, h.through("ANALYST_CN_DSN"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.hostile("unrecorded")
	n, began := int64(0), time.Now()
	const rows = 40_000
	for err == nil && ctx.Err() == nil && h.ordered() { // until a chunk is large enough
		began = time.Now()
		n, err = copyTo(ctx, conn, rows)
	}
	_ = conn.Close(context.WithoutCancel(ctx))
	h.done()
	if err == nil || n >= rows*100 {
		h.t.Errorf("%d bytes passed with an unrecorded chunk, %v", n, err)
	}
	r := h.last(ctx, "unrecorded-bytes", "totals")
	if r.Others > 4*allowance {
		h.t.Errorf("%d bytes passed without a record, want at most %d", r.Others, 4*allowance)
	}
	h.t.Logf("a chunk without a record: %d bytes of it passed, closed after %v", r.Others, time.Since(began).Round(time.Millisecond))
	for found := 0; found == 0; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(h.dir, "monitor", "state", "findings.jsonl"))
		if err != nil || ctx.Err() != nil {
			h.t.Fatalf("no finding: %v, %v", err, ctx.Err())
		}
		found = strings.Count(string(text), `"the valve closed connection`)
	}
}

// withoutSecrets: without the gateway's secrets a session does not open, and says so.
func (h *house) withoutSecrets(ctx context.Context) {
	sessions := h.kept()
	files, err := filepath.Glob(filepath.Join(h.dir, "sessions", "*", sessions[0]))
	if err != nil || len(files) != 1 {
		h.t.Fatalf("secrets of a session: %v, %v", files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		h.t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, h.binary, "audit", sessions[0], "--ciphertext", filepath.Join(h.dir, "monitor", "ciphertext"),
		"-c", filepath.Join(h.dir, "enclave", "enclave.yaml")).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(string(out), "no secrets of this session are kept") {
		h.t.Errorf("without secrets: %v\n%s", err, out)
	}
}
