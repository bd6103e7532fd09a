package monitor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
)

const lowThresholds = "anomalies: { lookups: 5, refusals: 3 }\ntransfer_purposes:"

// lookUp logs one look-up of aoife's, permitted.
func (w *world) lookUp(a trefoil.Access, chunk int64) {
	b := w.release(a, chunk, 100, (chunk+1)*100)
	b.Release.Statements = []trefoil.Statement{{Commitment: strings.Repeat("0", 64), Fingerprint: "00000000000000aa", Kind: "select", Tables: []string{"app.users"}}}
	w.permitted(b)
}

func (w *world) watched() {
	w.t.Helper()
	if err := w.m.Watch(); err != nil {
		w.t.Fatal(err)
	}
}

// TestAnEnumerationIsAFindingAndAnIncident follows one from the records to the incident, over a
// restart in its midst.
func TestAnEnumerationIsAFindingAndAnIncident(t *testing.T) {
	for name, restart := range map[string]func(w *world){
		"without a restart": func(*world) {},
		"after an orderly restart": func(w *world) {
			w.close()
			w.open()
		},
		"after a crash that lost the memory": func(w *world) {
			w.close()
			if err := os.Remove(filepath.Join(w.dir, "state", "anomalies.json")); err != nil {
				w.t.Fatal(err)
			}
			w.open()
		},
		"with a memory that cannot be read": func(w *world) {
			w.close()
			if err := os.WriteFile(filepath.Join(w.dir, "state", "anomalies.json"), []byte(`{"entry":9000,"detector":[]}`), 0o600); err != nil {
				w.t.Fatal(err)
			}
			w.open()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "transfer_purposes:", lowThresholds)
			w.acknowledged(supportDefinition())
			a := w.access("aoife", supportDefinition())
			w.permitted(w.start(a))
			for i := range int64(3) {
				w.lookUp(a, i)
			}
			w.watched()
			restart(w)
			w.lookUp(a, 3)
			w.watched()
			if n := w.found("anomaly-enumeration"); n != 0 {
				t.Fatalf("%d findings below the threshold", n)
			}
			w.lookUp(a, 4)
			w.watched()
			if n := w.found("anomaly-enumeration"); n != 1 {
				t.Fatalf("%d findings", n)
			}
			all, err := w.m.Incidents().List(func(x *incident.Incident) bool { return x.Rule == "anomaly-enumeration" })
			if err != nil || len(all) != 1 {
				t.Fatalf("%v, %v", all, err)
			}
			if x := all[0]; x.Origin != a.Principal || len(x.Evidence) != 5 || x.Baseline == "" || strings.Contains(show(x), "aoife") {
				t.Errorf("%s", show(x))
			}
			w.lookUp(a, 5)
			w.watched()
			if n := w.found("anomaly-enumeration"); n != 1 {
				t.Errorf("the same day makes %d findings", n)
			}
		})
	}
}

// TestRefusalsOfTheMonitorCount: what the monitor itself refuses is an attempt too, also where
// the mirror had the record before it was asked about.
func TestRefusalsOfTheMonitorCount(t *testing.T) {
	w := newWorld(t, "transfer_purposes:", lowThresholds)
	w.acknowledged(supportDefinition())
	for i := range 3 {
		b := w.start(w.access("chen", supportDefinition())) // clear data to a place that is not adequate
		index := w.log.add(b)
		cp := w.log.cosigned(w.m)
		if i == 1 {
			if err := w.m.Sync(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if _, no, err := w.m.Permit(context.Background(), w.log.request(index, cp)); err != nil || no == nil {
			t.Fatalf("%v, %v", no, err)
		}
	}
	w.close()
	w.open()
	w.watched()
	if n := w.found("anomaly-refusals"); n != 1 {
		t.Errorf("%d findings", n)
	}
}

func TestThresholdsOfAnomaliesAreStrict(t *testing.T) {
	for _, section := range []string{"anomalies: { lookup: 5 }", "anomalies: { lookups: -5 }", "anomalies: { off: [everything] }", "anomalies: { hours: { zone: Mars } }"} {
		_, without := ParseRules("rules.yaml", []byte(testRules)) // its keys are placeholders
		_, with := ParseRules("rules.yaml", []byte(testRules+section+"\n"))
		if with == nil || strings.Count(with.Error(), "\n") != strings.Count(without.Error(), "\n")+1 {
			t.Errorf("%s: %v", section, with)
		}
	}
}

// TestHeadsAreKeptByTheHour: what an order rests on, that records from an index on came after a time.
func TestHeadsAreKeptByTheHour(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.log.pad(3)
		w.log.cosigned(w.m)
		if err := w.m.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.clock.add(40 * time.Minute)
	}
	w.close()
	w.open() // the last one kept is known again
	w.log.pad(1)
	w.log.cosigned(w.m)
	if err := w.m.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	a, err := OpenArchive(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	heads, err := a.Logs[0].Heads(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var sizes []uint64
	for i, h := range heads {
		sizes = append(sizes, h.Checkpoint.Size)
		if i > 0 && h.At.Before(heads[i-1].At) {
			t.Errorf("head %d is before the one before", i)
		}
	}
	// Kept at minutes 0, 80, 160; the one at 200 is the newest, and comes from the mirror.
	if show(sizes) != "[3,9,15,16]" {
		t.Errorf("sizes of the heads: %v", sizes)
	}
}

func TestAnArchiveGivesEachRecordOnceWithItsDecision(t *testing.T) {
	w := newWorld(t)
	w.acknowledged(supportDefinition())
	a := w.access("aoife", supportDefinition())
	w.permitted(w.start(a))
	late := w.log.add(w.release(a, 0, 10, 10)) // mirrored first, permitted after
	cp := w.log.cosigned(w.m)
	if err := w.m.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	want, no, err := w.m.Permit(context.Background(), w.log.request(late, cp))
	if err != nil || no != nil {
		t.Fatal(err, no)
	}
	w.refused(ruleReplay, w.release(a, 0, 10, 10))
	if err := w.m.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	r, err := OpenArchive(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	head, err := r.Logs[0].Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]int{}
	err = r.Range(testOrigin, 0, head.Checkpoint.Size, func(index uint64, k *Kept) error {
		if k == nil || k.Index != index {
			t.Fatalf("record %d: %v", index, k)
		}
		seen[index]++
		receipt, err := r.Receipt(context.Background(), head, k)
		if err != nil {
			return err
		}
		if _, err := w.trust.VerifyReceipt(receipt); err != nil && k.Refusal == "" {
			t.Errorf("receipt %d: %v", index, err)
		}
		if index == late && receipt.Permit != want {
			t.Error("the permit is not the one that was given")
		}
		return nil
	})
	if err != nil || uint64(len(seen)) != head.Checkpoint.Size {
		t.Errorf("%d records: %v", len(seen), err)
	}
	all, err := Records(w.dir)
	if err != nil || len(all) != len(seen) {
		t.Errorf("%d records: %v", len(all), err)
	}
}
