package enclave

import "github.com/trefoil-eu/trefoil/internal/home/dataset"

// SetCases puts a builder's cases in force.
func (a *Authoriser) SetCases(b *dataset.Builder) { a.now.setCases(b) }

// Reload puts other rules in force.
func (a *Authoriser) Reload(r *Rules) { a.now.set(r) }
