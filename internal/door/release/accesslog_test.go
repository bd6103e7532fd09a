package release

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	trefoil "github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

// siteLog is the real access log behind this package's interface, as enclave wires it.
type siteLog struct{ *accesslog.Log }

func (l siteLog) Append(ctx context.Context, r trefoil.Record, opening []byte) (Ticket, error) {
	t, err := l.Log.Append(ctx, r, opening)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// realDoor is a door before a real log, a real witness over HTTP and a monitor over HTTP
// that signs permits.
func realDoor(t testing.TB, config func(*Config)) (*door, *accesslog.Log, *trefoil.Trust) {
	t.Helper()
	logKey, logV, logVkey := witnesstest.Key(t, testOrigin)
	permitKey, _, permitVkey := witnesstest.Key(t, "monitor.test/permit")
	w := witnesstest.Start(t, "monitor.test/witness", logV)
	trust, err := trefoil.ParseTrust(logVkey, []string{w.VKey, permitVkey})
	if err != nil {
		t.Fatal(err)
	}
	l, err := accesslog.Open(context.Background(), accesslog.Config{
		Origin: testOrigin, Directory: t.TempDir(), Signer: logKey,
		Witnesses: []accesslog.Witness{{URL: w.URL, Key: w.VKey}}, CheckpointInterval: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		l.Close(ctx)
	})
	monitor := httptest.NewServer(permitHandler(trust, permitKey))
	t.Cleanup(monitor.Close)
	permitter := NewHTTPPermitter(monitor.URL, "token", nil)
	d := openDoor(t, func(c *Config) {
		c.Recorder, c.Permitter, c.Trust = siteLog{l}, permitter, trust
		if config != nil {
			config(c)
		}
	})
	return d, l, trust
}

func permitHandler(trust *trefoil.Trust, key note.Signer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req trefoil.PermitRequest
		if r.URL.Path != "/permit" || r.Header.Get("Authorization") != "Bearer token" || json.NewDecoder(r.Body).Decode(&req) != nil {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		rec := trefoil.Record{Body: req.Body, Salt: req.Salt}
		proof, err := trefoil.ParseProof(req.Proof)
		if err == nil {
			_, err = trust.VerifyProof(proof, rec.Leaf())
		}
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			json.NewEncoder(w).Encode(trefoil.PermitAnswer{Refusal: &trefoil.NoteReason{Rule: "proof", Reason: "does not verify"}})
			return
		}
		text, err := trefoil.SignPermit(trefoil.Permit{
			Origin: testOrigin, Index: proof.Index, Leaf: trefoil.LeafHash(rec.Leaf()), Expires: time.Now().Add(time.Minute),
		}, key)
		if err != nil {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(trefoil.PermitAnswer{Permit: text})
	})
}

// A session over the real log: every release has a receipt that verifies offline, and the
// receipts add up to the bytes at the client's socket.
func TestReceiptsAddUpToTheClientsBytes(t *testing.T) {
	d, l, trust := realDoor(t, func(c *Config) { c.Limits.ChunkBytes = 64 << 10 })
	conn := d.must(pgx.QueryExecModeCacheStatement)
	ctx := ctxFor(t)
	rows, err := conn.Query(ctx, "SELECT secret, repeat('x', 1000) FROM person")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if rows.Err() != nil || n != 1000 {
		t.Fatal(n, rows.Err())
	}
	conn.Close(ctx)
	s, socket := d.last()
	d.listen.Close()
	d.wg.Wait()
	released, covered, fixed := s.Totals()
	if got := socket.written.Load(); got != released+covered+fixed {
		t.Errorf("socket %d, books %d", got, released+covered+fixed)
	}
	var sum int64
	receipts := 0
	for range 100 { // the log's own view may follow a moment later
		if sum, receipts = verified(t, l, trust); sum == released {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if sum != released || receipts < 10 {
		t.Errorf("%d receipts over %d bytes, released %d", receipts, sum, released)
	}
}

// verified sums the releases of the receipts that verify. A receipt that cannot be had yet is
// left out; one that does not verify fails the test.
func verified(t *testing.T, l *accesslog.Log, trust *trefoil.Trust) (sum int64, receipts int) {
	t.Helper()
	for i := range l.Size() {
		receipt, err := l.Receipt(ctxFor(t), i)
		if err != nil {
			t.Logf("record %d: %v", i, err)
			continue
		}
		body, err := trust.VerifyReceipt(receipt)
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if body.Release != nil {
			receipts++
			sum += body.Release.Bytes
		}
	}
	return sum, receipts
}

// The wait before the first row is the log's and the monitor's, and nothing else. The bound
// is loose: tests share their machine. The measured figures are bench/release's.
func TestFirstRowWaitsForOneCosignature(t *testing.T) {
	d, _, _ := realDoor(t, nil)
	conn := d.must(pgx.QueryExecModeSimpleProtocol)
	var waits []time.Duration
	for range 15 {
		start := time.Now()
		if _, err := conn.Exec(ctxFor(t), "SELECT secret FROM person LIMIT 1"); err != nil {
			t.Fatal(err)
		}
		waits = append(waits, time.Since(start))
	}
	slices.Sort(waits)
	t.Logf("p50 %v, max %v", waits[len(waits)/2], waits[len(waits)-1])
	if waits[len(waits)/2] > 2*time.Second {
		t.Errorf("p50 %v", waits[len(waits)/2])
	}
}

// BenchmarkLarge streams a large result through the door; BenchmarkLargeDirect without it.
func BenchmarkLarge(b *testing.B) {
	d, _, _ := realDoor(b, nil)
	streamAll(b, d.must(pgx.QueryExecModeSimpleProtocol))
}

func BenchmarkLargeDirect(b *testing.B) {
	d, _, _ := realDoor(b, nil)
	conn, err := pgx.Connect(context.Background(), d.dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	streamAll(b, conn)
}

func streamAll(b *testing.B, conn *pgx.Conn) {
	for b.Loop() {
		results := conn.PgConn().Exec(context.Background(), "SELECT i, md5(i::text), repeat('x', 100) FROM generate_series(1, 1000000) i")
		for results.NextResult() {
			for rows := results.ResultReader(); rows.NextRow(); {
			}
		}
		if err := results.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(150 * 1000000)
}
