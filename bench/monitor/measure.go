package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// permits asks for permits of records that are in the log, over HTTP: with two clients for the
// time of one answer, then with many for how many answers there are in a second.
func (b *bench) permits(ctx context.Context, p plan) error {
	half := p.sessions / 2
	quiet, err := b.logged(ctx, 0, half, p.releases)
	if err != nil {
		return err
	}
	took, _, err := b.ask(ctx, quiet, 2)
	if err != nil {
		return err
	}
	slices.Sort(took)
	ms := func(q int) float64 { return float64(took[len(took)*q/100].Microseconds()) / 1000 }
	fmt.Printf("figure permit_p50_ms %.2f ms\nfigure permit_p99_ms %.2f ms\n", ms(50), ms(99))
	busy, err := b.logged(ctx, half, p.sessions, p.releases)
	if err != nil {
		return err
	}
	before := cpu()
	took, elapsed, err := b.ask(ctx, busy, p.clients)
	if err != nil {
		return err
	}
	n := float64(len(took))
	fmt.Printf("figure permits_per_s %.0f permits/s\nfigure permit_cpu_us %.0f us\n", n/elapsed.Seconds(), (cpu()-before)/n*1e6)
	return nil
}

// logged appends the sessions from begin to end and waits until all are cosigned.
func (b *bench) logged(ctx context.Context, begin, end, releases int) ([][]*asked, error) {
	var out [][]*asked
	for i := begin; i < end; i++ {
		var records []*asked
		for _, body := range b.session(i, releases) {
			r, err := b.append(ctx, body)
			if err != nil {
				return nil, err
			}
			records = append(records, r)
		}
		out = append(out, records)
	}
	for _, session := range out {
		for _, r := range session {
			var err error
			if r.proof, err = r.ticket.Witnessed(ctx); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// ask asks for the permits of every session, its records in order, so many sessions at once.
func (b *bench) ask(ctx context.Context, sessions [][]*asked, clients int) ([]time.Duration, time.Duration, error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var next atomic.Int64
	var mu sync.Mutex
	var all []time.Duration
	var errs []error
	var wg sync.WaitGroup
	began := time.Now()
	for range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var took []time.Duration
			var err error
			for i := next.Add(1) - 1; int(i) < len(sessions) && err == nil; i = next.Add(1) - 1 {
				records := sessions[i]
				for _, r := range records[:len(records)-1] { // the end needs none
					start := time.Now()
					if err = b.permit(ctx, client, r); err != nil {
						break
					}
					took = append(took, time.Since(start))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all, errs = append(all, took...), append(errs, err)
		}()
	}
	wg.Wait()
	return all, time.Since(began), errors.Join(errs...)
}

func (b *bench) permit(ctx context.Context, client *http.Client, r *asked) error {
	raw, err := json.Marshal(trefoil.PermitRequest{Body: r.record.Body, Salt: r.record.Salt, Proof: r.proof.String()})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.monitor+"/permit", bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("permit: %d: %s", resp.StatusCode, text)
	}
	var answer trefoil.PermitAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	return b.log.StorePermit(r.proof.Index, answer.Permit)
}

// follow mirrors the log: leaves and tree, and the bodies that no permit was asked for.
func (b *bench) follow(ctx context.Context, _ plan) error {
	before, began := cpu(), time.Now()
	if err := b.m.Sync(ctx); err != nil {
		return err
	}
	fmt.Printf("figure follow_known_records_per_s %.0f records/s\nfigure follow_known_cpu_us %.1f us\n",
		float64(b.bodies)/time.Since(began).Seconds(), (cpu()-before)/float64(b.bodies)*1e6)
	return nil
}

// atRest closes log and monitor, and counts what is on disk.
func (b *bench) atRest(ctx context.Context, _ plan) error {
	for _, l := range b.m.Status(false).Logs {
		if l.Mirrored != b.bodies || l.Bodies != b.bodies || l.Records != b.bodies {
			return fmt.Errorf("the mirror holds %d leaves and %d bodies of %d", l.Mirrored, l.Records, b.bodies)
		}
	}
	if err := errors.Join(b.log.Close(ctx), b.m.Close(ctx)); err != nil {
		return err
	}
	b.log, b.m = nil, nil
	sizes := map[string]int64{}
	for name, path := range map[string]string{"mirror": "mirror", "sealed": "sealed", "journal": "journal", "own": "log"} {
		err := filepath.WalkDir(filepath.Join(b.dir, "state", path), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				sizes[name] += info.Size()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	// The active file is of one size however many records there are: what is at rest is the rest.
	active, err := b.recordsIn(filepath.Join(b.dir, "state", "journal"))
	if err != nil {
		return err
	}
	tree, sealed := float64(sizes["mirror"])/float64(b.bodies), float64(sizes["sealed"])/float64(b.bodies-active)
	fmt.Printf("figure bytes_per_record %.0f bytes\n", tree+sealed)
	fmt.Printf("# of these: tree and leaves %.0f, sealed journal %.0f; %d records, %d bytes, are in the active journal; the own log keeps %.0f bytes more of each decision\n",
		tree, sealed, active, sizes["journal"], float64(sizes["own"])/float64(b.bodies))
	return nil
}

// recordsIn counts the records in the active file of a journal.
func (b *bench) recordsIn(path string) (uint64, error) {
	raw, err := os.ReadFile(path)
	return uint64(bytes.Count(raw, []byte(`{"t":"record",`))), err
}

// verify verifies the tree alone, then every record in full, each on one processor.
func (b *bench) verify(ctx context.Context, _ plan) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	mirrors, err := filepath.Glob(filepath.Join(b.dir, "state", "mirror", "*"))
	if err != nil || len(mirrors) != 1 {
		return fmt.Errorf("there are %d mirrors", len(mirrors))
	}
	leaves, before := uint64(0), cpu()
	for leaves < 1_000_000 {
		r, err := trefoil.VerifyLog(ctx, trefoil.Directory(mirrors[0]), &trefoil.Trust{Log: b.trust.Log, Quorum: -1}, trefoil.LogOptions{Tiles: true})
		if err != nil {
			return err
		}
		leaves += r.Leaves
	}
	fmt.Printf("figure verify_records_per_s %.0f records/s\n", float64(leaves)/(cpu()-before))
	return b.full(ctx)
}

// full checks every record in full: first what is in memory, then the log's directory as a whole.
func (b *bench) full(ctx context.Context) error {
	check, err := monitor.NewChecker(b.dir)
	if err != nil {
		return err
	}
	reader, err := accesslog.OpenReader(b.site)
	if err != nil {
		return err
	}
	records, permits, leaves := make([]trefoil.Record, b.bodies), make([]string, b.bodies), make([][]byte, b.bodies)
	for i := range records {
		if records[i], permits[i], err = reader.Body(uint64(i)); err != nil {
			return errors.Join(err, reader.Close())
		}
		leaves[i] = records[i].Leaf() // of the tree, which was verified
	}
	if err := reader.Close(); err != nil {
		return err
	}
	runtime.GC()
	before := cpu()
	for i := range records {
		check.Add(uint64(i), leaves[i], records[i], permits[i])
	}
	check.Flush()
	took := cpu() - before
	if err := b.sound(&check.Report); err != nil {
		return err
	}
	fmt.Printf("figure full_check_records_per_s %.0f records/s\n", float64(b.bodies)/took)
	before = cpu()
	report, err := monitor.VerifySite(ctx, b.dir, b.site, nil)
	if err != nil {
		return err
	}
	if err := b.sound(report); err != nil {
		return err
	}
	fmt.Printf("figure site_check_records_per_s %.0f records/s\n", float64(b.bodies)/(cpu()-before))
	return nil
}

// sound sees that a check was of everything and found nothing.
func (b *bench) sound(r *monitor.CheckReport) error {
	if r.Records != b.bodies || r.Faults+r.Unjudged+r.Gone > 0 || r.Permits*100 < r.Records*95 {
		return fmt.Errorf("the full check saw %+v of %d records", r, b.bodies)
	}
	return nil
}
