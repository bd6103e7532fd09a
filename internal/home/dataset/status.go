package dataset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Status is what there is to say of a defined dataset.
type Status struct {
	Name    string
	Cluster string
	Class   law.Class
	Hash    string // of the definition as the files have it now
	Info    *Info  // nil when it is not built
	Current bool   // it was built from that definition

	Flow  *FlowState    // nil when it was not built to follow its source
	Lag   time.Duration // our clock less the source's at the newest snapshot; of use while it follows
	Fresh Freshness     // the same with bytes and bounds

	Retained int64 // bytes of its log that the source keeps for it; -1: not known, or it has no slot
	Bound    int64 // beyond this the slot is given up
	Rebuilt  int64 // how often it was built again since it was built first
	Resynced int64 // how often it was brought back by comparison instead
	Held     bool  // a build waits for somebody to look at a column (trefoil dataset drift)
}

// Status tells whether a dataset stands, and from which definition.
func (b *Builder) Status(ctx context.Context, name string) (*Status, error) {
	def, hash, err := b.Define(name)
	if err != nil {
		return nil, err
	}
	class, _ := catalog.ClassOf(def)
	s := &Status{Retained: -1, Name: name, Cluster: def.Cluster, Class: class, Hash: hash}
	if s.Info, s.Flow, err = b.Standing(ctx, name); err != nil {
		if errors.Is(err, ErrNotBuilt) {
			return s, nil
		}
		return nil, err
	}
	s.Current = s.Info.DefinitionHash == hash
	at := b.Positions()
	defer at.Close()
	s.Fresh = b.FreshnessOf(ctx, s.Info, s.Flow, at)
	s.Lag = s.Fresh.Lag
	if err := b.careOf(ctx, s, at); err != nil {
		return nil, err
	}
	return s, nil
}

// Preview is what a build would do.
type Preview struct {
	Definition *trefoil.Definition
	Hash       string
	Tables     []TablePreview // in the order they are read
	Notes      []string       // what the dataset does not have of the source, and why
}

// TablePreview is one table that a build reads.
type TablePreview struct {
	Table string
	Rows  int64    // the source's estimate
	Held  bool     // part of the dataset; else it only leads to the person
	Reads []string // columns that leave the source
	Needs []string // tables whose rows decide which of its rows belong
}

// Plan resolves a dataset against its live source. It reads no row and writes nothing.
func (b *Builder) Plan(ctx context.Context, name string) (*Preview, error) {
	ds := b.dataset(name)
	if ds == nil {
		return nil, fmt.Errorf("dataset %s is not defined", name)
	}
	def, _, err := b.Define(name)
	if err != nil {
		return nil, err
	}
	if err := b.allowed(def); err != nil {
		return nil, err
	}
	dsn, err := b.sourceDSN(ds)
	if err != nil {
		return nil, err
	}
	s, err := openSource(ctx, dsn, 0)
	if err != nil {
		return nil, fmt.Errorf("plan dataset %s: %w", name, err)
	}
	defer s.close()
	p, err := b.makePlan(name, s.schema)
	if err != nil {
		return nil, err
	}
	out := &Preview{Definition: p.def, Hash: p.hash}
	for _, t := range p.tables {
		tp := TablePreview{Table: t.name, Rows: t.src.Rows, Held: t.held, Reads: t.read}
		for _, r := range t.refs {
			tp.Needs = append(tp.Needs, r.to.name)
		}
		if t.held {
			p.foreseeable(t)
		}
		out.Tables = append(out.Tables, tp)
	}
	out.Notes = p.notes
	return out, nil
}

// foreseeable notes what a table's forms rule out, before any row is read.
func (p *plan) foreseeable(t *table) {
	p.partitions(t)
	for _, ix := range t.src.Indexes {
		if ix.Constraint != "" || ix.Primary {
			continue
		}
		if _, why := t.indexSQL(ix); why != "" {
			p.note("index %s of %s: %s", ix.Name, t.name, why)
		}
	}
}
