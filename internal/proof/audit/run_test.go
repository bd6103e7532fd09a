package audit

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/audit/secrets"
	"github.com/trefoil-eu/trefoil/internal/proof/valve/kept"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

const origin = "log.example/dublin-1"

var (
	session    = strings.Repeat("5e", 16)
	connection = "01" + strings.Repeat("0", 30)
)

// site is a log with records of several sessions.
type site struct {
	t      *testing.T
	log    *accesslog.Log
	dir    string
	trust  *trefoil.Trust
	permit note.Signer
}

func newSite(t *testing.T) *site {
	t.Helper()
	signer, verifier, _ := witnesstest.Key(t, origin)
	permitter, permit, _ := witnesstest.Key(t, "monitor.example/permit")
	w := witnesstest.Start(t, "witness.example", verifier)
	v, err := trefoil.NewWitnessVerifier(w.VKey)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: t.TempDir(), permit: permitter, trust: &trefoil.Trust{Log: verifier, Permit: permit, Witnesses: []note.Verifier{v}}}
	s.log, err = accesslog.Open(t.Context(), accesslog.Config{Origin: origin, Directory: s.dir, Signer: signer,
		Witnesses: []accesslog.Witness{{URL: w.URL, Key: w.VKey}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = s.log.Close(ctx)
	})
	return s
}

// add appends a record, and permits it if it may be.
func (s *site) add(b *trefoil.Body, opening []byte, permitted bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	b.At, b.Origin = time.Now().UTC().Truncate(time.Microsecond), origin
	r, err := trefoil.NewRecord(b)
	if err != nil {
		s.t.Fatal(err)
	}
	ticket, err := s.log.Append(ctx, r, opening)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := ticket.Witnessed(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	if !permitted {
		return
	}
	text, err := trefoil.SignPermit(trefoil.Permit{Origin: origin, Index: p.Index, Leaf: trefoil.LeafHash(r.Leaf()),
		Expires: time.Now().Add(time.Minute).UTC().Truncate(time.Second)}, s.permit)
	if err == nil {
		err = s.log.StorePermit(p.Index, text)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func access(session string) trefoil.Access { return trefoil.Access{Session: session} }

// records writes what a script's session would: a start, a release for each chunk, an end;
// another session's records lie between. Chunks of which leave is false get no permit.
func (s *site) records(c *Claims, leave func(chunk int64) bool) {
	s.t.Helper()
	s.add(&trefoil.Body{Kind: trefoil.KindSession, Session: &trefoil.SessionBody{Access: access(strings.Repeat("0f", 16)), Event: "start", Path: "release"}}, nil, true)
	s.add(&trefoil.Body{Kind: trefoil.KindSession, Session: &trefoil.SessionBody{Access: access(session), Event: "start", Path: "release", Allowance: c.Allowance}}, nil, true)
	for _, k := range c.Chunks {
		s.add(&trefoil.Body{Kind: trefoil.KindRelease, Release: &trefoil.ReleaseBody{Access: access(session), Bytes: k.Bytes, Chunk: k.Number,
			Cumulative: k.Cumulative, Outcome: "complete", Result: hex.EncodeToString(k.Result), Statements: []trefoil.Statement{}}}, k.Salt, leave(k.Number))
	}
	end := *c.End
	end.Access, end.Path = access(session), "release"
	s.add(&trefoil.Body{Kind: trefoil.KindSession, Session: &end}, nil, false)
}

// run audits what was taken against the site's records.
func (s *site) run(k *taken, change func(*Input)) (*Report, []string) {
	s.t.Helper()
	file, err := kept.Read(k.path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	log, err := accesslog.OpenReader(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	in := Input{Kept: file, Log: log, Trust: s.trust, Secrets: &secrets.Session{Session: session, Connection: connection, Lines: k.lines}}
	change(&in)
	r, err := Run(s.t.Context(), in)
	if err != nil {
		s.t.Fatal(err)
	}
	var rules []string
	for _, d := range r.Differences {
		rules = append(rules, d.Rule)
	}
	return r, rules
}

// TestAuditReadsTheLog: the records count as they verify in the log, and no others.
func TestAuditReadsTheLog(t *testing.T) {
	x := ordinary()
	k := x.play(t)
	s := newSite(t)
	s.records(&x.claims, func(int64) bool { return true })
	if r, rules := s.run(k, func(*Input) {}); !r.Holds || r.Matched != 3 || rules != nil {
		t.Errorf("%v: %+v", rules, r)
	}
	for want, change := range map[string]func(*Input){
		"another log's key": func(in *Input) { _, in.Trust.Log, _ = witnesstest.Key(t, origin) },
		"another permit key": func(in *Input) {
			_, in.Trust.Permit, _ = witnesstest.Key(t, "monitor.example/permit")
		},
	} {
		trust := *s.trust
		r, rules := s.run(k, func(in *Input) { in.Trust = &trust; change(in) })
		if r.Holds || !slices.Contains(rules, "record") {
			t.Errorf("%s: %v", want, rules)
		}
	}
	for rule, change := range map[string]func(*Input){
		"connection": func(in *Input) { in.Secrets.Connection = strings.Repeat("9", 32) },
		"handshake":  func(in *Input) { in.Kept.Up = nil },
		"tls":        func(in *Input) { in.Secrets.Lines = ordinary().play(t).lines },
	} {
		if r, rules := s.run(k, change); r.Holds || !slices.Contains(rules, rule) {
			t.Errorf("want %q: %v", rule, rules)
		}
	}
	if _, rules := s.run(k, func(in *Input) { in.Kept.Session = strings.Repeat("9", 32) }); !slices.Contains(rules, "connection") {
		t.Errorf("by the monitor's word another session's: %v", rules)
	}
}

// TestReleaseWithoutAPermitAllowsNothing: bytes of a chunk that was recorded and not permitted
// are bytes that no record has.
func TestReleaseWithoutAPermitAllowsNothing(t *testing.T) {
	x := ordinary()
	k := x.play(t)
	s := newSite(t)
	s.records(&x.claims, func(chunk int64) bool { return chunk != 2 })
	if r, rules := s.run(k, func(*Input) {}); r.Holds || !slices.Contains(rules, "unrecorded-bytes") {
		t.Errorf("%v: %+v", rules, r)
	}
}
