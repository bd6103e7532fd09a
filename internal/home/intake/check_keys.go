package intake

import (
	"context"
	"slices"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// keys finds tables that a dataset could be built of and not follow: it does not hold the primary
// key, or holds it in a form that merges values, and the catalog does not say which part of it
// alone tells rows apart.
func (k *sourceCheck) keys(context.Context) error {
	for _, ds := range k.Datasets {
		for _, dt := range ds.Tables {
			t, cat := k.schema.Table(dt.Table), k.Catalog.TableOf(dt.Table)
			if t == nil || cat == nil || t.PrimaryKey == nil {
				continue // said elsewhere
			}
			merged := merging(dt, t.PrimaryKey.Columns)
			part := len(cat.Key) > 0
			for _, c := range cat.Key {
				part = part && slices.Contains(t.PrimaryKey.Columns, c) && !slices.Contains(merged, c)
			}
			if len(merged) > 0 && !part {
				k.add(Warning, "", "", "dataset %s cannot follow: it does not keep column %s of the key of %s apart; where the rest of the key alone tells rows apart, say so in the catalog with key:",
					ds.Name, merged[0], t.Name)
			}
		}
	}
	return nil
}

// merging lists the columns of a key that a dataset does not hold, or holds in a form in which
// different values may be equal.
func merging(dt catalog.DatasetTable, key []string) (out []string) {
	for _, name := range key {
		i := slices.IndexFunc(dt.Columns, func(c catalog.DatasetColumn) bool { return c.Name == name })
		if i < 0 || dt.Columns[i].Form != law.Clear && dt.Columns[i].Form != law.Pseudonymised {
			out = append(out, name)
		}
	}
	return out
}
