package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/door/pool"
	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

const origin = "bench.invalid/gateway"

// settings is what the bench's gateway is told.
type settings struct {
	Port             int
	Server           string
	Certificate, Key string
	Witness          accesslog.Witness
	Summary          time.Duration // interval; 0 = the default
}

func (s settings) write(dir string) error {
	b, err := json.Marshal(s)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "settings.json"), b, 0o600)
}

// serveHere is the gateway with an access log of its own, driven by lines on standard input.
func serveHere(ctx context.Context, dir string) error {
	raise()
	if os.Getenv("HEAP") != "" {
		runtime.MemProfileRate = 1024
	}
	b, err := os.ReadFile(filepath.Join(dir, "settings.json"))
	if err != nil {
		return err
	}
	var s settings
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	secret, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return err
	}
	log, err := accesslog.Open(ctx, accesslog.Config{Origin: origin, Directory: dir, Signer: signer, Witnesses: []accesslog.Witness{s.Witness}})
	if err != nil {
		return err
	}
	var pooled atomic.Bool
	c, err := s.config(log, &pooled)
	if err != nil {
		return err
	}
	g, err := gateway.New(c)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	go func() { commands(&pooled); stop() }()
	err = g.Run(ctx)
	closing, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	return errors.Join(err, log.Close(closing))
}

// commands obeys the bench until it hangs up.
func commands(pooled *atomic.Bool) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "profile":
			if f, err := os.Create(rest); err == nil {
				_ = pprof.StartCPUProfile(f)
			}
		case "end":
			pprof.StopCPUProfile()
		case "heap":
			if f, err := os.Create(rest); err == nil {
				_ = pprof.WriteHeapProfile(f)
				_ = f.Close()
			}
		case "pool":
			pooled.Store(rest == "true")
		case "collect": // as the collector does by itself every two minutes
			debug.FreeOSMemory()
		}
		fmt.Println("ok")
	}
}

func (s settings) config(log *accesslog.Log, pooled *atomic.Bool) (gateway.Config, error) {
	verifier, err := identity.NewVerifier(password, identity.MinIterations)
	if err != nil {
		return gateway.Config{}, err
	}
	people, err := identity.NewDirectory(&identity.File{Version: 1, Services: []identity.Account{{ID: role, Verifier: verifier, Databases: []string{database}, Role: role}}}, nil)
	if err != nil {
		return gateway.Config{}, err
	}
	pair, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
	if err != nil {
		return gateway.Config{}, err
	}
	return gateway.Config{
		Listen: []string{fmt.Sprint("127.0.0.1:", s.Port)}, TLS: &tls.Config{Certificates: []tls.Certificate{pair}},
		Directory: people, Authoriser: router{s, pooled}, Recorder: recorder{log}, Accountant: accountant{statement.NewClassifier(nil)}, Releases: none{},
		Locator: &identity.Locator{Networks: []identity.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Country: "IE"}}},
		Limits:  gateway.Limits{Summary: s.Summary, Sessions: 20000, SessionsPer: 20000, HalfOpen: 20000, HalfOpenPer: 20000, ServicePerSec: -1},
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}, nil
}

// router sends the one service to the one server.
type router struct {
	settings
	pooled *atomic.Bool
}

// Authorise implements gateway.Authoriser.
func (r router) Authorise(_ context.Context, q gateway.Request) gateway.Decision {
	d := gateway.Decision{Path: gateway.Service, Target: gateway.Target{Network: "tcp", Address: r.Server, Role: role, Password: password, Database: database}}
	if r.pooled.Load() {
		d.Target.Pool = &pool.Settings{Mode: pool.ByTransaction, Servers: poolSize}
	}
	d.Access.Principal = q.Principal.ID
	return d
}

// recorder writes to the access log as the enclave's does.
type recorder struct{ log *accesslog.Log }

// Record implements gateway.Recorder.
func (r recorder) Record(ctx context.Context, bodies ...*trefoil.Body) error {
	records := make([]trefoil.Record, len(bodies))
	for i, b := range bodies {
		b.Origin, b.At = origin, b.At.UTC().Truncate(time.Microsecond)
		var err error
		if records[i], err = trefoil.NewRecord(b); err != nil {
			return err
		}
	}
	return r.log.AppendAll(ctx, records)
}

// accountant keys fingerprints as the enclave does.
type accountant struct{ classifier *statement.Classifier }

// Account implements gateway.Accountant.
func (a accountant) Account(text []byte) (fingerprint, kind string, ok bool) {
	info := a.classifier.Analyze(string(text))
	if info.Fingerprint == "" {
		return "", "", false
	}
	mac := hmac.New(sha256.New, []byte("bench"))
	mac.Write([]byte(info.Fingerprint))
	return hex.EncodeToString(mac.Sum(nil)[:8]), info.Kind, true
}

// none is the release path, which nobody here takes.
type none struct{}

// Run implements gateway.ReleaseRunner.
func (none) Run(context.Context, gateway.ReleaseSession) error {
	return errors.New("the bench has no release path")
}
