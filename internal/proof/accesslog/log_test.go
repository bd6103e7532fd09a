package accesslog_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

const origin = "log.example/dublin-1"

// fixture is a log with its keys and witnesses.
type fixture struct {
	config    accesslog.Config
	trust     *trefoil.Trust
	signer    note.Signer
	verifier  note.Verifier
	vkey      string
	permitter note.Signer
	witnesses []*witnesstest.Witness
}

// newFixture makes a configuration with n running witnesses.
func newFixture(t testing.TB, n int) *fixture {
	t.Helper()
	f := &fixture{}
	f.signer, f.verifier, f.vkey = witnesstest.Key(t, origin)
	permitter, permit, _ := witnesstest.Key(t, "monitor.example/permit")
	f.permitter = permitter
	f.config = accesslog.Config{Origin: origin, Directory: t.TempDir(), Signer: f.signer, WitnessTimeout: time.Second}
	f.trust = &trefoil.Trust{Log: f.verifier, Permit: permit}
	for i := range n {
		f.add(t, witnesstest.Start(t, fmt.Sprintf("witness%d.example", i), f.verifier))
	}
	return f
}

func (f *fixture) add(t testing.TB, w *witnesstest.Witness) {
	t.Helper()
	v, err := trefoil.NewWitnessVerifier(w.VKey)
	if err != nil {
		t.Fatal(err)
	}
	f.trust.Witnesses = append(f.trust.Witnesses, v)
	f.config.Witnesses = append(f.config.Witnesses, accesslog.Witness{URL: w.URL, Key: w.VKey})
	f.witnesses = append(f.witnesses, w)
}

// open opens the log; the test closes it at its end if it is still open.
func (f *fixture) open(t testing.TB) *accesslog.Log {
	t.Helper()
	l, err := accesslog.Open(t.Context(), f.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = l.Close(ctx)
	})
	return l
}

func closeLog(t testing.TB, l *accesslog.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// record makes a site record that says n.
func record(t testing.TB, n int) trefoil.Record {
	t.Helper()
	return recordAt(t, n, trefoil.KindSite)
}

func recordAt(t testing.TB, n int, kind trefoil.Kind) trefoil.Record {
	t.Helper()
	b := &trefoil.Body{At: time.Now(), Kind: kind, Origin: origin}
	switch kind {
	case trefoil.KindSite:
		b.Site = &trefoil.SiteBody{Country: "IE", Event: "started", Part: "gateway", Site: fmt.Sprint("site-", n)}
	case trefoil.KindRelease:
		b.Release = &trefoil.ReleaseBody{Bytes: int64(n), Outcome: "complete", Statements: []trefoil.Statement{}}
	default:
		t.Fatalf("no record of kind %s here", kind)
	}
	r, err := trefoil.NewRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func appendRecord(t testing.TB, l *accesslog.Log, r trefoil.Record) *accesslog.Ticket {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticket, err := l.Append(ctx, r, []byte("opening"))
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	return ticket
}

func witnessed(t testing.TB, ticket *accesslog.Ticket) *trefoil.Proof {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := ticket.Witnessed(ctx)
	if err != nil {
		t.Fatalf("Witnessed: %v", err)
	}
	return p
}

func TestAppendIsWitnessedAndVerifies(t *testing.T) {
	f := newFixture(t, 2)
	l := f.open(t)
	for i := range 3 {
		r := record(t, i)
		p := witnessed(t, appendRecord(t, l, r))
		if p.Index != uint64(i) {
			t.Fatalf("index %d, want %d", p.Index, i)
		}
		c, err := f.trust.VerifyProof(p, r.Leaf())
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Witnessed) != 2 {
			t.Fatalf("%d cosignatures, want 2", len(c.Witnessed))
		}
	}
	receipt, err := l.Receipt(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	text, err := receipt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := trefoil.ParseReceipt(text)
	if err != nil {
		t.Fatal(err)
	}
	body, err := f.trust.VerifyReceipt(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if body.Site.Site != "site-1" {
		t.Fatalf("receipt of %q", body.Site.Site)
	}
}

func TestConcurrentAppendersAllVerify(t *testing.T) {
	f := newFixture(t, 1)
	l := f.open(t)
	const each, workers = 40, 16
	var wg sync.WaitGroup
	indexes := make([][]uint64, workers)
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				r := record(t, w*each+i)
				ticket, err := l.Append(t.Context(), r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if i%10 != 0 {
					continue
				}
				p, err := ticket.Witnessed(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := f.trust.VerifyProof(p, r.Leaf()); err != nil {
					t.Error(err)
				}
				indexes[w] = append(indexes[w], p.Index)
			}
		})
	}
	wg.Wait()
	closeLog(t, l)
	all := slices.Sorted(slices.Values(slices.Concat(indexes...)))
	if len(slices.Compact(all)) != workers*each/10 {
		t.Fatal("two records got the same index")
	}
	report, err := trefoil.VerifyLog(t.Context(), trefoil.Directory(f.config.Directory+"/"+accesslog.PublicDir), f.trust, trefoil.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Leaves != each*workers {
		t.Fatalf("%d leaves, want %d", report.Leaves, each*workers)
	}
}

func generate(t testing.TB) (skey, vkey string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	return skey, vkey
}

// rekey gives the fixture's log and witness a key that another process can be told.
func (f *fixture) rekey(t testing.TB, skey, vkey string) {
	t.Helper()
	var err error
	if f.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if f.verifier, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	f.vkey, f.config.Signer, f.trust.Log = vkey, f.signer, f.verifier
	f.config.Witnesses, f.trust.Witnesses = nil, nil
	f.add(t, witnesstest.Start(t, "witness.example", f.verifier))
}
