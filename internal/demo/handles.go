package demo

import "github.com/trefoil-eu/trefoil/internal/home/postgres"

// Clusters returns the PostgreSQL instances by name: the sites, inside and outside. The first
// site is the primary. They are the enclave's own, to be killed and started again.
func (w *World) Clusters() map[string]*postgres.Cluster {
	all := map[string]*postgres.Cluster{"inside": w.inside, "outside": w.outside, sites[0]: w.primary}
	for i, r := range w.replicas {
		all[sites[i+1]] = r
	}
	return all
}

// Path is the place of a file of the enclave.
func (w *World) Path(parts ...string) string { return w.path(parts...) }
