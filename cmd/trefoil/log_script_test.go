package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

const scriptOrigin = "log.example/dublin-1"

// quietT lets witnesstest's helpers run inside a script.
type quietT struct {
	testing.TB
	ts *testscript.TestScript
}

func (q quietT) Helper()           {}
func (q quietT) Fatal(args ...any) { q.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (q quietT) Cleanup(f func())  { q.ts.Defer(f) }

// makeLog DIR N makes a log of N permitted releases and a site record, with its body 1 deleted,
// and sets LOG_KEY, WITNESS_KEY, PERMIT_KEY.
func makeLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: makelog DIR N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	t := quietT{ts: ts}
	signer, verifier, logKey := witnesstest.Key(t, scriptOrigin)
	permitter, _, permitKey := witnesstest.Key(t, "monitor.example/permit")
	w := witnesstest.Start(t, "monitor.example/witness", verifier)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l, err := accesslog.Open(ctx, accesslog.Config{Origin: scriptOrigin, Directory: ts.MkAbs(args[0]), Signer: signer,
		Witnesses: []accesslog.Witness{{URL: w.URL, Key: w.VKey}}})
	ts.Check(err)
	for i := range n {
		b := &trefoil.Body{At: time.Date(2026, 11, 21, 9, 0, i, 0, time.UTC), Kind: trefoil.KindRelease, Origin: scriptOrigin,
			Release: &trefoil.ReleaseBody{Rows: int64(i), Bytes: 100, Outcome: "complete", Access: trefoil.Access{Dataset: "analytics", Principal: "PSEUDONYM", Importer: trefoil.Party{Country: "CN"}}}}
		ts.Check(addRecord(ctx, l, b, func(index uint64, leaf []byte) (string, error) {
			return trefoil.SignPermit(trefoil.Permit{Origin: scriptOrigin, Index: index, Leaf: trefoil.LeafHash(leaf), Expires: time.Now().Add(time.Hour)}, permitter)
		}))
	}
	ts.Check(addRecord(ctx, l, &trefoil.Body{At: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC), Kind: trefoil.KindSite, Origin: scriptOrigin,
		Site: &trefoil.SiteBody{Part: "gateway", Event: "stopped", Site: "dublin-1"}}, nil))
	ts.Check(l.DeleteBody(1))
	ts.Check(l.Close(ctx))
	ts.Setenv("LOG_KEY", logKey)
	ts.Setenv("WITNESS_KEY", w.VKey)
	ts.Setenv("PERMIT_KEY", permitKey)
}

func addRecord(ctx context.Context, l *accesslog.Log, b *trefoil.Body, permit func(uint64, []byte) (string, error)) error {
	r, err := trefoil.NewRecord(b)
	if err != nil {
		return err
	}
	ticket, err := l.Append(ctx, r, []byte("opening"))
	if err != nil {
		return err
	}
	p, err := ticket.Witnessed(ctx)
	if err != nil || permit == nil {
		return err
	}
	text, err := permit(p.Index, r.Leaf())
	if err != nil {
		return err
	}
	return l.StorePermit(p.Index, text)
}

// exitCode N COMMAND… runs a command and requires its exit code; output goes where exec's goes.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N COMMAND ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// alter GLOB OLD NEW changes the first OLD in every file that matches; one must.
func alter(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: alter GLOB OLD NEW")
	}
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	changed := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		ts.Check(err)
		if altered := bytes.Replace(data, []byte(args[1]), []byte(args[2]), 1); !bytes.Equal(altered, data) {
			ts.Check(os.WriteFile(file, altered, 0o644))
			changed++
		}
	}
	if changed == 0 {
		ts.Fatalf("nothing to alter")
	}
}

// serveLog DIR serves a directory over HTTP until the script ends and sets LOG_URL.
func serveLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: servelog DIR")
	}
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Defer(s.Close)
	ts.Setenv("LOG_URL", s.URL)
}
