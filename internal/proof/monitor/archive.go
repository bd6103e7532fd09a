package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"golang.org/x/mod/sumdb/note"
)

// Archive reads a monitor's directory beside the monitor that runs on it, or after it: records,
// decisions, heads. It changes nothing. Its methods are not safe for concurrent use.
type Archive struct {
	Dir   string
	Rules *Rules
	Logs  []*ArchivedLog
	keys  *keys
	late  map[place]decision // decisions that came after the record's body
}

// ArchivedLog is one watched log in an archive.
type ArchivedLog struct {
	Origin string
	Key    string // vkey
	Hash   string // names its directory
	Tiles  trefoil.Directory
	Trust  *trefoil.Trust // the log's key, this monitor's witness and permit keys

	dir string
}

// Kept is one record as the journal has it. Body and Raw must not be changed.
type Kept struct {
	Origin   string
	Index    uint64
	Leaf     [32]byte // RFC 6962 leaf hash
	Raw      []byte
	Salt     []byte
	Body     *trefoil.Body
	Received time.Time // by the monitor's clock
	decision
}

// decision is what the monitor decided on a record. The zero value: nobody asked.
type decision struct {
	Permitted bool
	Refusal   string // rule, "" for none
	expires   int64
	epoch     uint64
}

// place names a record of any log.
type place struct {
	origin string
	index  uint64
}

// OpenArchive opens the directory of a monitor.
func OpenArchive(dir string) (*Archive, error) {
	rules, err := LoadRules(dir)
	if err != nil {
		return nil, err
	}
	k, err := loadKeys(dir, rules.Name)
	if err != nil {
		return nil, err
	}
	a := &Archive{Dir: dir, Rules: rules, keys: k, late: map[place]decision{}}
	for _, l := range rules.Logs {
		v, err := note.NewVerifier(l.Key)
		if err != nil {
			return nil, fmt.Errorf("open archive: key of a log: %w", err)
		}
		h := originHash(l.Origin)
		path := filepath.Join(dir, "state", "mirror", h)
		t, err := k.fullTrust(v)
		if err != nil {
			return nil, fmt.Errorf("open archive: %w", err)
		}
		a.Logs = append(a.Logs, &ArchivedLog{Origin: l.Origin, Key: l.Key, Hash: h, Tiles: trefoil.Directory(path), Trust: t, dir: dir})
	}
	if err := a.decisions(); err != nil {
		return nil, err
	}
	return a, nil
}

// Log returns the log of an origin, nil if the rules name none.
func (a *Archive) Log(origin string) *ArchivedLog {
	i := slices.IndexFunc(a.Logs, func(l *ArchivedLog) bool { return l.Origin == origin })
	if i < 0 {
		return nil
	}
	return a.Logs[i]
}

// decisions collects those that are not beside the record's body.
func (a *Archive) decisions() error {
	err := a.journal(func(e *entry, raw []byte) error {
		if e.Type == entryRecord && len(raw) == 0 && (e.Permitted || e.Rule != "") {
			at := place{e.Origin, e.Index}
			if d := decisionOf(e); d.Permitted || !a.late[at].Permitted {
				a.late[at] = d
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("open archive: %w", err)
	}
	return nil
}

// journal calls f for each entry; a monitor that has received nothing yet has none.
func (a *Archive) journal(f func(e *entry, raw []byte) error) error {
	err := readJournal(filepath.Join(a.Dir, "state"), f)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func decisionOf(e *entry) decision {
	return decision{Permitted: e.Permitted, Refusal: e.Rule, expires: e.Expires, epoch: e.Epoch}
}

// Each calls f for every record of the logs in the rules, once each, in the order in which the
// monitor took them. An error of f ends it.
func (a *Archive) Each(f func(*Kept) error) error {
	err := a.journal(func(e *entry, raw []byte) error {
		if e.Type != entryRecord || len(raw) == 0 || a.Log(e.Origin) == nil {
			return nil
		}
		body, err := trefoil.DecodeBody(raw)
		if err != nil {
			return fmt.Errorf("record %d of %s: %w", e.Index, e.Origin, err)
		}
		k := &Kept{Origin: e.Origin, Index: e.Index, Leaf: [32]byte(e.Leaf), Raw: raw, Salt: e.Salt, Body: body,
			Received: time.UnixMicro(e.At).UTC(), decision: decisionOf(e)}
		if d, later := a.late[place{e.Origin, e.Index}]; later && (d.Permitted || !k.Permitted) {
			k.decision = d
		}
		return f(k)
	})
	if err != nil {
		return fmt.Errorf("read mirrored records: %w", err)
	}
	return nil
}

// block is how many records Range holds in memory at once.
const block = 100_000

// Range calls f for the records of one log from begin up to, and without, end, in the order of
// the log. A record whose body the mirror does not hold comes as nil.
func (a *Archive) Range(origin string, begin, end uint64, f func(index uint64, k *Kept) error) error {
	for from := begin; from < end; from += block {
		to := min(from+block, end)
		held := make([]*Kept, to-from)
		err := a.Each(func(k *Kept) error {
			if k.Origin == origin && k.Index >= from && k.Index < to {
				held[k.Index-from] = k
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i, k := range held {
			if err := f(from+uint64(i), k); err != nil {
				return err
			}
		}
	}
	return nil
}

// Permit returns the permit of a record as the monitor signed it, "" if it gave none. Ed25519
// signatures are deterministic: it is the same text.
func (a *Archive) Permit(k *Kept) (string, error) {
	if !k.Permitted {
		return "", nil
	}
	first, others := a.keys.permitAt(time.Unix(k.expires, 0))
	return trefoil.SignPermit(trefoil.Permit{Origin: k.Origin, Index: k.Index, Leaf: k.Leaf,
		Expires: time.Unix(k.expires, 0).UTC(), StopEpoch: k.epoch}, first, others...)
}

// Receipt returns the receipt of a record under a head of its log.
func (a *Archive) Receipt(ctx context.Context, h *Head, k *Kept) (*trefoil.Receipt, error) {
	rec := trefoil.Record{Body: k.Raw, Salt: k.Salt}
	path, err := trefoil.ProveInclusion(ctx, a.Log(k.Origin).Tiles, h.Checkpoint, k.Index, rec.Leaf())
	if err != nil {
		return nil, err
	}
	permit, err := a.Permit(k)
	if err != nil {
		return nil, err
	}
	p := trefoil.Proof{Index: k.Index, Hashes: path, Checkpoint: h.Raw}
	return &trefoil.Receipt{Record: rec, Proof: p.String(), Permit: permit}, nil
}

// Public are the monitor's public keys: vkeys by use.
func (a *Archive) Public() (map[string]string, error) {
	out := map[string]string{}
	for _, use := range []string{UseLog, UseWitness, UsePermit, UseStatement} {
		v, err := ReadVerifierKey(use, filepath.Join(a.Dir, "keys", use))
		if err != nil {
			return nil, err
		}
		out[use] = v
	}
	return out, nil
}

// Signer signs what the monitor publishes.
func (a *Archive) Signer() note.Signer { return a.keys.statement }

// OwnLog is the monitor's own log, with its bodies.
func (a *Archive) OwnLog() (*accesslog.Reader, trefoil.Directory, error) {
	dir := filepath.Join(a.Dir, "state", "log")
	r, err := accesslog.OpenReader(dir)
	return r, trefoil.Directory(filepath.Join(dir, accesslog.PublicDir)), err
}

// Findings calls f for each finding, oldest first.
func (a *Archive) Findings(f func(Finding) error) error {
	file, err := os.Open(filepath.Join(a.Dir, "state", "findings.jsonl"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read findings: %w", err)
	}
	defer file.Close()
	for dec := json.NewDecoder(file); dec.More(); {
		var x Finding
		if err := dec.Decode(&x); err != nil {
			return nil // the last line is being written
		}
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

// PublicRules are the rules as an outsider may read them: principals under their pseudonyms of
// at's month, and nothing of files, tokens and addresses.
func (a *Archive) PublicRules(at time.Time) (map[string]any, error) {
	b, err := newBook(a.Rules, a.Dir)
	if err != nil {
		return nil, err
	}
	r := a.Rules
	people := make([]map[string]any, len(r.Principals))
	name := func(id string) string { return trefoil.StaffPseudonym(b.staffKey, at, id) }
	for i, p := range r.Principals {
		people[i] = map[string]any{"principal": name(p.ID), "employer": p.Employer, "workplace": p.Workplace, "groups": p.Groups, "service": p.Service}
	}
	approvers := make([]map[string]any, len(r.Approvers))
	for i, x := range r.Approvers {
		persons := make([]string, len(x.Persons))
		for j, id := range x.Persons {
			persons[j] = name(id)
		}
		approvers[i] = map[string]any{"key": x.Key, "purposes": x.Purposes, "persons": persons}
	}
	officers := make([]string, len(r.Officers))
	for i, o := range r.Officers {
		officers[i] = o.Key
	}
	return map[string]any{"name": r.Name, "region": r.Region, "exporter": r.Exporter, "entities": r.Entities, "principals": people,
		"instruments": r.Instruments, "approvers": approvers, "officer_keys": officers, "datasets": r.Datasets, "transfer_purposes": r.Transfers,
		"policies": r.Policies, "catalogs": r.Catalogs, "binaries": r.Binaries, "ceilings": r.Ceilings, "office_hours": r.Hours, "valve": r.Valve,
		"clock_doubt": r.ClockDoubt, "permit_term": r.PermitTerm, "grace": r.Grace, "anomalies": r.Anomalies}, nil
}
