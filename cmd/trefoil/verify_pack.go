package main

import (
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/pack"
)

// pack checks a pack, under the keys given or else under its own.
func (v *verdict) pack(path string, f *verifyFlags) error {
	var believed []string
	for _, k := range append(append([]string{f.logKey, f.statementKey}, f.monitorKeys...), f.witnessKeys...) {
		if k != "" {
			believed = append(believed, k)
		}
	}
	r, err := pack.Verify(path, believed)
	if err != nil {
		return err
	}
	v.Origin = r.Name
	if r.From.Year() > 1 {
		v.prove("it is a pack of kind %s about %s to %s", r.Kind, r.From.Format(time.RFC3339), r.Until.Format(time.RFC3339))
	}
	v.Proven = append(v.Proven, r.Proven...)
	v.Caveats = append(v.Caveats, r.Caveats...)
	return nil
}
