package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
)

// Evidence is evidence.json: what the monitor states of the period. Everything in it that
// other files bear out is checked against them.
type Evidence struct {
	Findings  int64             `json:"findings"`  // of the period, in findings.jsonl
	ByRule    map[string]int64  `json:"by_rule"`   // of those
	Incidents int64             `json:"incidents"` // events in incidents.jsonl
	Rules     string            `json:"rules"`     // hex SHA-256 of the rules in force, as officers sign them
	Receipts  []ReceiptOf       `json:"receipts"`  // asked for, or named by a finding
	Absent    []ReceiptOf       `json:"absent"`    // likewise, and the mirror has no body of them
	Sizes     map[string]uint64 `json:"sizes"`     // origin → size of the last head
}

// ReceiptOf names a record.
type ReceiptOf struct {
	Origin string `json:"origin"`
	Index  uint64 `json:"index"`
}

// PackedFinding is one line of findings.jsonl.
type PackedFinding struct {
	At       time.Time       `json:"at"`
	Rule     string          `json:"rule"`
	Origin   string          `json:"origin,omitempty"`
	Index    *uint64         `json:"index,omitempty"`
	Text     string          `json:"text"`
	Evidence string          `json:"evidence,omitempty"`
	Alert    json.RawMessage `json:"alert,omitempty"`
}

func (v *verifier) evidence(m *Manifest) error {
	var e Evidence
	if err := v.json("evidence.json", &e); err != nil {
		return err
	}
	for _, step := range []func(*Manifest, *Evidence) error{v.evidenceHeads, v.evidenceReceipts, v.evidenceFindings, v.incidents, v.statements, v.rules, v.ownLog} {
		if err := step(m, &e); err != nil {
			return err
		}
	}
	v.caveat("that the monitor saw everything: the statements and the heads bind it to what it says, not to what it left out")
	v.caveat("that no byte left without a record: that takes the valve and egress totals")
	return nil
}

func (v *verifier) evidenceHeads(_ *Manifest, e *Evidence) error {
	if len(e.Sizes) != len(v.keys.Logs) {
		return failed("evidence.json leaves out a log")
	}
	for _, l := range v.keys.Logs {
		last, n, err := v.heads("logs/"+l.Hash, v.logs[l.Hash])
		if err != nil {
			return err
		}
		size := uint64(0)
		if last != nil {
			size = last.Size
		}
		if stated, named := e.Sizes[l.Origin]; !named || stated != size {
			return failed("evidence.json states another size of %s than its last head", l.Origin)
		}
		v.prove("%d heads of %s, signed and cosigned, each going on from the one before, the last of %d entries", n, l.Origin, size)
	}
	return nil
}

func (v *verifier) evidenceReceipts(_ *Manifest, e *Evidence) error {
	byOrigin := map[string]LogKey{}
	for _, l := range v.keys.Logs {
		byOrigin[l.Origin] = l
	}
	for _, r := range e.Receipts {
		l, known := byOrigin[r.Origin]
		if !known {
			return failed("evidence.json names a log that the pack has no key of")
		}
		if _, err := v.receipt(l, r.Index, false); err != nil {
			return err
		}
	}
	if n := len(e.Receipts); n > 0 {
		v.prove("%d receipts: logged, witnessed, and permitted where that is needed", n)
	}
	if n := len(e.Absent); n > 0 {
		v.caveat("what %d records held: their bodies are deleted or were never given", n)
	}
	return nil
}

func (v *verifier) evidenceFindings(m *Manifest, e *Evidence) error {
	raw, err := v.read("findings.jsonl")
	if err != nil {
		return err
	}
	n, rules := int64(0), map[string]int64{}
	for line := range bytes.Lines(raw) {
		var f PackedFinding
		if strictJSON(line, &f) != nil || f.Rule == "" || f.At.Before(m.From) || f.At.After(m.Until) {
			return failed("a line of findings.jsonl is no finding of the period")
		}
		n++
		rules[f.Rule]++
	}
	if n != e.Findings || !same(rules, e.ByRule) {
		return failed("evidence.json counts other findings than findings.jsonl has")
	}
	v.prove("%d findings of the period, as the monitor signed them with this pack", n)
	return nil
}

// incidents checks that the store's lines are a chain: each names the hash of the one before.
func (v *verifier) incidents(_ *Manifest, e *Evidence) error {
	raw, err := v.read("incidents.jsonl")
	if err != nil {
		return err
	}
	n, prev := int64(0), ""
	for line := range bytes.Lines(raw) {
		var x struct {
			N    int64  `json:"n"`
			Prev string `json:"prev"`
		}
		if json.Unmarshal(line, &x) != nil || x.N != n+1 || x.Prev != prev {
			return failed("event %d of incidents.jsonl does not follow the one before", n+1)
		}
		sum := sha256.Sum256(bytes.TrimSuffix(line, []byte("\n")))
		n, prev = n+1, hex.EncodeToString(sum[:])
	}
	if n != e.Incidents {
		return failed("evidence.json counts other events than incidents.jsonl has")
	}
	if n > 0 {
		v.prove("%d events of incidents, a chain without a gap, from the first on", n)
	}
	return nil
}

// statements checks the monitor's published statements that are here: one chain.
func (v *verifier) statements(*Manifest, *Evidence) error {
	names := v.under("statements")
	if len(names) == 0 {
		return nil
	}
	signer, err := note.NewVerifier(v.keys.Signer)
	if err != nil {
		return failed("%s names no signer", keysFile)
	}
	trust := map[string]*trefoil.Trust{}
	for _, l := range v.keys.Logs {
		trust[l.Origin] = v.logs[l.Hash]
	}
	texts := make([]string, len(names))
	for i, name := range names {
		raw, err := v.read(name)
		if err != nil {
			return err
		}
		texts[i] = string(raw)
	}
	all, err := trefoil.VerifyStatements(texts, signer, trust)
	if err != nil {
		return err
	}
	v.prove("statements %d to %d of the monitor, a chain without a gap", all[0].Number, all[len(all)-1].Number)
	return nil
}

// rules checks what is stated of the rules in force, and reads their changes: signed files of
// officers, which are the monitor's own evidence.
func (v *verifier) rules(_ *Manifest, e *Evidence) error {
	raw, err := v.read("rules.json")
	if err != nil {
		return err
	}
	if !json.Valid(raw) || len(e.Rules) != 64 {
		return failed("rules.json cannot be read")
	}
	changes := v.under("rules")
	for _, name := range changes {
		v.used[name] = true
	}
	v.prove("the rules in force are of SHA-256 %s; %d files of their changes", e.Rules, len(changes))
	v.caveat("that rules.json is those rules: principals stand in it under pseudonyms, so only the hash can be compared")
	return nil
}

// ownLog checks the monitor's own log of the period, where it is packed, and that every permit
// of a receipt is in it.
func (v *verifier) ownLog(_ *Manifest, e *Evidence) error {
	if len(v.under("own")) == 0 {
		if v.keys.MonitorLog != "" {
			v.caveat("the monitor's own log: it is not in the pack")
		}
		return nil
	}
	own, err := note.NewVerifier(v.keys.MonitorLog)
	if err != nil {
		return failed("%s names no key of the monitor's own log", keysFile)
	}
	issued, events := map[string]bool{}, map[string]int64{}
	p, err := v.run("own", &trefoil.Trust{Log: own, Quorum: -1}, func(r *packedRecord) error {
		if r.body == nil || r.body.Permit == nil {
			return nil
		}
		events[r.body.Permit.Event]++
		if r.body.Permit.Event == "issued" {
			issued[fmt.Sprintf("%s %d", r.body.Permit.Log, r.body.Permit.Index)] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.used["own/records.jsonl"] = true
	v.prove("%s of the monitor's own log: %s", p.text(), countText(events))
	missing := 0
	for _, r := range e.Receipts {
		if !issued[r.Origin+" "+strconv.FormatUint(r.Index, 10)] {
			missing++
		}
	}
	if missing > 0 {
		v.caveat("that %d of the receipts are in this part of the monitor's own log: they need no permit, or it was given outside the period", missing)
	}
	return nil
}

func countText(m map[string]int64) string {
	var parts []string
	for _, k := range []string{"issued", "refused", "stopped", "resumed"} {
		parts = append(parts, fmt.Sprintf("%d %s", m[k], k))
	}
	return strings.Join(parts, ", ")
}
