package evidence

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
)

// Period is what a pack is about, and which records it has receipts of besides those that
// findings name.
type Period struct {
	From, Until time.Time
	Records     []pack.ReceiptOf
}

// maker makes one pack.
type maker struct {
	a      *monitor.Archive
	w      *pack.Writer
	p      Period
	e      pack.Evidence
	wanted map[pack.ReceiptOf]bool
}

// Pack writes to path the evidence of a period.
func Pack(ctx context.Context, a *monitor.Archive, p Period, now time.Time, path string) (*pack.Evidence, *pack.Report, error) {
	k, err := keysOf(a)
	if err != nil {
		return nil, nil, err
	}
	w, err := pack.NewWriter(path)
	if err != nil {
		return nil, nil, err
	}
	p.From, p.Until = p.From.UTC().Truncate(time.Microsecond), p.Until.UTC().Truncate(time.Microsecond)
	m := &maker{a: a, w: w, p: p, wanted: map[pack.ReceiptOf]bool{},
		e: pack.Evidence{ByRule: map[string]int64{}, Receipts: []pack.ReceiptOf{}, Absent: []pack.ReceiptOf{}, Sizes: map[string]uint64{}}}
	for _, r := range p.Records {
		m.wanted[r] = true
	}
	for _, step := range []func(context.Context) error{m.findings, m.heads, m.receipts, m.incidents, m.statements, m.rules, m.ownLog} {
		if err := step(ctx); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("make pack: %w", err), w.Abort())
		}
	}
	if err := w.AddJSON("evidence.json", m.e); err != nil {
		return nil, nil, errors.Join(err, w.Abort())
	}
	report, err := finish(w, path, pack.Manifest{At: now, Kind: pack.KindEvidence, Name: a.Rules.Name, From: p.From, Until: p.Until}, k, a)
	return &m.e, report, err
}

func (m *maker) within(at time.Time) bool { return !at.Before(m.p.From) && !at.After(m.p.Until) }

// findings packs those of the period and asks for the receipts of their records.
func (m *maker) findings(context.Context) error {
	out, err := m.w.Create("findings.jsonl")
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	return m.a.Findings(func(x monitor.Finding) error {
		if !m.within(x.At) {
			return nil
		}
		line := pack.PackedFinding{At: x.At, Rule: x.Rule, Origin: x.Origin, Index: x.Index, Text: x.Text, Evidence: x.Evidence}
		if x.Alert != nil {
			if line.Alert, err = json.Marshal(x.Alert); err != nil {
				return err
			}
			for _, r := range x.Alert.Records {
				m.wanted[pack.ReceiptOf{Origin: r.Origin, Index: r.Index}] = true
			}
		}
		if x.Index != nil && x.Origin != "" {
			m.wanted[pack.ReceiptOf{Origin: x.Origin, Index: *x.Index}] = true
		}
		m.e.Findings++
		m.e.ByRule[x.Rule]++
		return enc.Encode(line)
	})
}

func (m *maker) heads(ctx context.Context) error {
	for _, l := range m.a.Logs {
		all, err := l.Heads(ctx)
		if err != nil {
			return err
		}
		var raws [][]byte
		m.e.Sizes[l.Origin] = 0
		for _, h := range headsBetween(all, m.p.From, m.p.Until) {
			raws = append(raws, h.Raw)
			m.e.Sizes[l.Origin] = h.Checkpoint.Size
		}
		if err := m.w.AddHeads(ctx, "logs/"+l.Hash, l.Tiles, raws); err != nil {
			return err
		}
	}
	return nil
}

// receipts packs those that are wanted. A record that needs a permit and has none has no
// receipt: it is named as absent, its finding says why.
func (m *maker) receipts(ctx context.Context) error {
	heads := map[string]*monitor.Head{}
	for _, l := range m.a.Logs {
		h, err := l.Head(ctx)
		if err != nil {
			if len(m.wanted) == 0 {
				continue
			}
			return err
		}
		heads[l.Origin] = h
	}
	err := m.a.Each(func(k *monitor.Kept) error {
		r := pack.ReceiptOf{Origin: k.Origin, Index: k.Index}
		h := heads[k.Origin]
		if !m.wanted[r] || h == nil || k.Index >= h.Checkpoint.Size || trefoil.NeedsPermit(k.Body) && !k.Permitted && !trefoil.Unpermitted(k.Body) {
			return nil
		}
		receipt, err := m.a.Receipt(ctx, h, k)
		if err != nil {
			return err
		}
		text, err := receipt.Marshal()
		if err != nil {
			return err
		}
		delete(m.wanted, r)
		m.e.Receipts = append(m.e.Receipts, r)
		return m.w.Add(pack.ReceiptPath(m.a.Log(k.Origin).Hash, k.Index), text)
	})
	for r := range m.wanted {
		m.e.Absent = append(m.e.Absent, r)
	}
	for _, list := range [][]pack.ReceiptOf{m.e.Receipts, m.e.Absent} {
		slices.SortFunc(list, func(a, b pack.ReceiptOf) int {
			if c := strings.Compare(a.Origin, b.Origin); c != 0 {
				return c
			}
			return int(int64(a.Index) - int64(b.Index))
		})
	}
	return err
}

// incidents packs the store as it is: a chain from its first event on.
func (m *maker) incidents(context.Context) error {
	out, err := m.w.Create("incidents.jsonl")
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(m.a.Dir, monitor.IncidentsDir, incident.FileName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil { // the end, or a line that is being written
			return nil
		}
		m.e.Incidents++
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
}

// statements packs the published statements that end in the period.
func (m *maker) statements(context.Context) error {
	dir := filepath.Join(m.a.Dir, monitor.StatementsDir)
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		day, err := time.Parse(time.DateOnly, strings.TrimSuffix(f.Name(), ".note"))
		if err != nil || !strings.HasSuffix(f.Name(), ".note") || day.Before(m.p.From.Add(-24*time.Hour)) || day.After(m.p.Until) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		if err := m.w.Add("statements/"+f.Name(), text); err != nil {
			return err
		}
	}
	return nil
}

// rules packs the rules in force, with pseudonyms for principals and without what is secret or
// names the machine, and the hash of the file as officers sign it.
func (m *maker) rules(context.Context) error {
	source, err := os.ReadFile(filepath.Join(m.a.Dir, monitor.RulesFile))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(source)
	m.e.Rules = hex.EncodeToString(sum[:])
	r, err := m.a.PublicRules(m.p.Until)
	if err != nil {
		return err
	}
	return m.w.AddJSON("rules.json", r)
}

// ownLog packs the monitor's own log of the period: what it decided, by index and leaf.
func (m *maker) ownLog(ctx context.Context) error {
	r, tiles, err := m.a.OwnLog()
	if errors.Is(err, os.ErrNotExist) {
		return nil // the monitor never ran
	}
	if err != nil {
		return err
	}
	defer r.Close()
	c, raw, err := r.Checkpoint(ctx)
	if errors.Is(err, trefoil.ErrNotFound) || err == nil && c.Size == 0 {
		return nil // nothing was decided yet
	}
	if err != nil {
		return err
	}
	begin, end, err := m.span(r, c.Size)
	if err != nil {
		return err
	}
	run, err := m.w.AddRun(ctx, "own", tiles, raw, begin, end, nil)
	if err != nil {
		return err
	}
	leaves := leafReader{tiles: tiles, size: c.Size}
	for index := begin; index < end; index++ {
		rec, _, err := r.Body(index)
		if errors.Is(err, accesslog.ErrNoBody) {
			leaf, err := leaves.at(ctx, index)
			if err != nil {
				return err
			}
			if err := run.Leaf(leaf); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := run.Record(rec, ""); err != nil {
			return err
		}
	}
	return nil
}

// span finds the entries of the own log from the first to the last of the period.
func (m *maker) span(r *accesslog.Reader, size uint64) (begin, end uint64, err error) {
	begin, end = size, 0
	for index := range size {
		rec, _, err := r.Body(index)
		if errors.Is(err, accesslog.ErrNoBody) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		b, err := trefoil.DecodeBody(rec.Body)
		if err != nil {
			return 0, 0, err
		}
		if m.within(b.At) {
			begin, end = min(begin, index), index+1
		}
	}
	if end == 0 {
		return 0, 0, nil
	}
	return begin, end, nil
}
