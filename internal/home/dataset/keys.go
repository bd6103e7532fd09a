package dataset

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/trefoil-eu/trefoil/internal/home/keyring"
)

// BuiltWith lists what depends on the key of a purpose and epoch: the datasets that stand and
// were built with it, or may have been, and "purposes.yaml" where it is the present epoch of a
// purpose that has datasets.
func (b *Builder) BuiltWith(ctx context.Context, purpose string, epoch int) ([]string, error) {
	var users []string
	for _, d := range b.cfg.Datasets.Datasets {
		if d.Purpose != purpose {
			continue
		}
		if p := b.cfg.Purposes.Purpose(purpose); p != nil && p.Epoch == epoch && !slices.Contains(users, "purposes.yaml") {
			users = append(users, "purposes.yaml")
		}
		info, err := b.Info(ctx, d.Name)
		if errors.Is(err, ErrNotBuilt) {
			continue
		}
		if err != nil {
			return nil, err
		}
		def, hash, err := b.Define(d.Name)
		if err != nil {
			return nil, err
		}
		// Of another definition's epoch nothing is known: it may be this one.
		if info.DefinitionHash != hash || def.Epoch == int64(epoch) {
			users = append(users, d.Name)
		}
	}
	return users, nil
}

// keyStands ends following when the key was destroyed, though it is in memory still.
func (b *Builder) keyStands(p *plan) error {
	if err := b.ring.Stands(p.purpose.Name, p.purpose.Epoch); errors.Is(err, keyring.ErrDestroyed) {
		return &staleError{fmt.Sprintf("it can be followed no more: %v", err)}
	}
	return nil // what else may be wrong with the ring shows when it is needed
}
