// Package canary asks for the monitor's own records: with ordinary accounts that only the monitor
// uses, it opens datasets through the gateway as anyone would, counts what it gets, and compares
// that with what the log says it got.
//
// The invariant it keeps: a session of a canary that the log does not tell to the row and to the
// byte is a finding, and so is a session of its account that it did not make. To the gateway it is
// one account among the others; a gateway that counts too little for anybody cannot know for whom.
//
// It reads a dataset as any principal may, keeps no value and writes none. It does not see what
// other accounts got (docs/design/cheats.md).
package canary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// SettingsFile is the canaries' file inside the monitor's directory.
const SettingsFile = "canary.yaml"

// Settings is canary.yaml.
type Settings struct {
	Version  int       `yaml:"version"`
	Accounts []Account `yaml:"accounts"`
}

// Account is one ordinary account that only the monitor uses.
type Account struct {
	Principal  string   `yaml:"principal"` // id, as in rules.yaml
	DSN        string   `yaml:"dsn"`       // through the gateway, or its valve; the database is the dataset; no password
	Password   string   `yaml:"password"`  // file, relative to the monitor's directory
	Statements []string `yaml:"statements"`
}

// Load reads dir/canary.yaml strictly, and the passwords by principal.
func Load(dir string) (*Settings, map[string]string, error) {
	path := filepath.Join(dir, SettingsFile)
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read canaries: %w", err)
	}
	s, err := Parse(path, src)
	if err != nil {
		return nil, nil, err
	}
	passwords := map[string]string{}
	for _, a := range s.Accounts {
		file := a.Password
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, fmt.Errorf("read canaries: the password of an account: %w", errors.Unwrap(err))
		}
		passwords[a.Principal] = strings.TrimSpace(string(raw))
	}
	return s, passwords, nil
}

// Parse decodes and validates canaries. File is used in errors only.
func Parse(file string, src []byte) (*Settings, error) {
	var s Settings
	pos, err := strict.DecodeWithPositions(file, src, &s)
	errs := strict.All(file, err)
	want := func(ok bool, path, text string) {
		if !ok {
			errs = append(errs, pos.Errorf(path, "%s", text))
		}
	}
	if err == nil {
		want(s.Version == 1, "version", "must be 1")
		want(len(s.Accounts) > 0, "accounts", "must name at least one account")
		for i, a := range s.Accounts {
			at := fmt.Sprintf("accounts[%d].", i)
			want(a.Principal != "", at+"principal", "is missing")
			want(a.Password != "", at+"password", "is missing: the file that holds it")
			want(len(a.Statements) > 0, at+"statements", "must name what the canary asks")
			cfg, err := pgx.ParseConfig(a.DSN)
			want(err == nil, at+"dsn", "is no connection string")
			want(err != nil || cfg.Password == "", at+"dsn", "holds a password: put it into a file")
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return &s, nil
}

// Got is what a canary got in one session.
type Got struct {
	Principal string    `json:"principal"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Rows      int64     `json:"rows"`
	Bytes     int64     `json:"bytes"` // at the client's socket, after TLS
}

// Ask opens one session and runs the account's statements. Values are counted and forgotten.
func Ask(ctx context.Context, a *Account, password string, now func() time.Time) (*Got, error) {
	cfg, err := pgx.ParseConfig(a.DSN)
	if err != nil {
		return nil, errors.New("ask as a canary: its connection string is none")
	}
	cfg.Password = password
	cfg.Fallbacks = nil // one session, and not two
	var bytes atomic.Int64
	cfg.BuildFrontend = counted(cfg.BuildFrontend, &bytes)
	got := &Got{Principal: a.Principal, From: now().UTC()}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("ask as a canary: %w", err)
	}
	for _, sql := range a.Statements {
		results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		for _, r := range results {
			got.Rows += int64(len(r.Rows))
		}
		if err != nil {
			_ = conn.Close(ctx) // the statement's error says more
			return nil, fmt.Errorf("ask as a canary: %w", err)
		}
	}
	if err := conn.Close(ctx); err != nil {
		return nil, fmt.Errorf("ask as a canary: %w", err)
	}
	got.To, got.Bytes = now().UTC(), bytes.Load()
	return got, nil
}

// counted counts what a frontend reads: after TLS, before it is parsed.
func counted[F any](build func(io.Reader, io.Writer) F, n *atomic.Int64) func(io.Reader, io.Writer) F {
	return func(r io.Reader, w io.Writer) F { return build(&counter{r, n}, w) }
}

type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Record is one record of a watched log, as the mirror holds it.
type Record struct {
	Origin string
	Index  uint64
	Body   *trefoil.Body
}

// ErrNotYet means that the session's end is not in the mirror yet: compare again later.
var ErrNotYet = errors.New("the session's end is not in the mirror yet")

// Compare holds what a canary got against the records. pseudonyms are those of its principal in
// the months concerned; doubt is how far the log's clock may be off. The records are all that the
// mirror has. No finding: the log tells the session to the row and to the byte.
func Compare(g *Got, records []Record, pseudonyms []string, doubt time.Duration) ([]incident.Finding, error) {
	of := map[string]bool{}
	for _, p := range pseudonyms {
		of[p] = true
	}
	type told struct {
		start, end *Record
		rows       int64
	}
	sessions := map[string]*told{}
	for i := range records {
		r := &records[i]
		switch b := r.Body; {
		case b.Session != nil && b.Session.Event == "start" && of[b.Session.Access.Principal] &&
			!b.At.Before(g.From.Add(-doubt)) && !b.At.After(g.To.Add(doubt)):
			sessions[b.Session.Access.Session] = &told{start: r}
		case b.Session != nil && b.Session.Event == "end" && sessions[b.Session.Access.Session] != nil:
			sessions[b.Session.Access.Session].end = r
		case b.Release != nil && sessions[b.Release.Access.Session] != nil:
			sessions[b.Release.Access.Session].rows += b.Release.Rows
		}
	}
	finding := func(rule, text string, t *told) incident.Finding {
		f := incident.Finding{Rule: rule, Origin: "canary " + g.Principal, At: g.To, Reason: text,
			Baseline: fmt.Sprintf("got %d rows and %d bytes between %s and %s", g.Rows, g.Bytes, g.From.Format(time.RFC3339), g.To.Format(time.RFC3339))}
		for _, r := range []*Record{t.start, t.end} {
			if r != nil {
				f.Evidence = append(f.Evidence, incident.Evidence{Log: r.Origin, Index: &r.Index})
			}
		}
		return f
	}
	var whole, open []*told
	for _, t := range sessions {
		if t.end == nil {
			open = append(open, t)
		} else {
			whole = append(whole, t)
		}
	}
	switch {
	case len(sessions) == 0:
		return []incident.Finding{finding("canary-untold", "a canary's session is in no record", &told{})}, ErrNotYet
	case len(sessions) > 1:
		return []incident.Finding{finding("canary-used", "the records tell of more sessions of a canary's account than the monitor made", append(whole, open...)[0])}, nil
	case len(open) == 1:
		return nil, ErrNotYet
	}
	t, end := whole[0], whole[0].end.Body.Session
	var out []incident.Finding
	if t.rows != g.Rows {
		out = append(out, finding("canary-rows", fmt.Sprintf("the records tell of %d rows of a canary's session, and it got %d", t.rows, g.Rows), t))
	}
	if bytes := end.Released + end.Covered + end.Fixed; bytes != g.Bytes {
		out = append(out, finding("canary-bytes", fmt.Sprintf("the records tell of %d bytes of a canary's session, and it got %d", bytes, g.Bytes), t))
	}
	return out, nil
}
