package enclave

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// ErrMoreThanEpochs says that a file of purposes changed in more than the epochs of their keys:
// that waits until somebody says so.
var ErrMoreThanEpochs = errors.New("catalogs, datasets or purposes changed in more than the epochs of keys")

// Rotated reads the files again and returns r with the epochs that purposes have now, nil where
// they are as they were. It is what trefoil key rotate changes; anything else that changed
// makes it fail.
func (r *Rules) Rotated() (*Rules, error) {
	read := &Rules{Config: r.Config}
	if err := read.loadFiles(); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(read.Files.Purposes, r.Files.Purposes) {
		return nil, nil
	}
	if !reflect.DeepEqual(withoutEpochs(read.Files.Purposes), withoutEpochs(r.Files.Purposes)) ||
		!reflect.DeepEqual(read.Files.Catalogs, r.Files.Catalogs) || !reflect.DeepEqual(read.Files.Datasets, r.Files.Datasets) {
		return nil, ErrMoreThanEpochs
	}
	next := *r
	next.Files, next.CatalogHash = read.Files, read.CatalogHash
	next.Definitions, next.Classes = map[string]*trefoil.Definition{}, map[string]law.Class{}
	maps.Copy(next.Definitions, r.Definitions) // cases too
	maps.Copy(next.Classes, r.Classes)
	return &next, next.define()
}

func withoutEpochs(p *catalog.Purposes) []catalog.Purpose {
	out := slices.Clone(p.Purposes)
	for i := range out {
		out[i].Epoch = 0
	}
	return out
}

// reloadEpochs puts new epochs of keys in force. Sessions go on: a dataset is built anew beside
// what they read.
func (p *process) reloadEpochs(ctx context.Context) error {
	old := p.auth.now.get()
	next, err := old.Rotated()
	if err != nil || next == nil {
		return err
	}
	return p.enforce(ctx, old, next, compare(old, next))
}
