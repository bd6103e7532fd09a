package main

import "fmt"

// workload is one case of pgbench.
type workload struct {
	name    string // of its figures, without the prefix
	mode    string // pgbench -M
	tpcb    bool   // TPC-B-like; else -S
	clients int
	pooled  bool // transaction pooling
	tls     bool
	connect bool // a connection a transaction
	pgpool  bool // beside Pgpool-II, not PgBouncer
}

// cases are all comparisons; quick keeps few.
func cases(quick bool) []workload {
	var list []workload
	add := func(c workload, name string) {
		c.name = fmt.Sprintf("%s_%d", name, c.clients)
		list = append(list, c)
	}
	if quick {
		for _, mode := range []string{"simple", "prepared"} {
			for _, n := range []int{1, 64} {
				add(workload{mode: mode, clients: n}, mode)
			}
		}
		add(workload{mode: "simple", clients: 64, tls: true}, "tls_simple")
		return list
	}
	for _, n := range []int{1, 8, 64, 512} {
		for _, mode := range []string{"simple", "extended", "prepared"} {
			add(workload{mode: mode, clients: n}, mode)
		}
		add(workload{mode: "simple", tpcb: true, clients: n}, "tpcb")
	}
	for _, n := range []int{1, 8, 64, 512} {
		add(workload{mode: "simple", clients: n, pooled: true}, "pooled_simple")
		add(workload{mode: "extended", clients: n, pooled: true}, "pooled_extended")
	}
	add(workload{mode: "simple", tpcb: true, clients: 64, pooled: true}, "pooled_tpcb")
	for _, n := range []int{1, 64} {
		add(workload{mode: "simple", clients: n, tls: true}, "tls_simple")
		add(workload{mode: "prepared", clients: n, tls: true}, "tls_prepared")
	}
	add(workload{mode: "simple", clients: 8, connect: true}, "connect")
	for _, n := range []int{1, pgpoolClients} {
		add(workload{mode: "simple", clients: n, pgpool: true}, "simple")
		add(workload{mode: "prepared", clients: n, pgpool: true}, "prepared")
	}
	return list
}
