// Package flow holds tests of datasets that follow a source which works, changes its schema and
// fails, while every part is killed. It has no code of its own.
//
// The invariant they guard: whatever happened between, a dataset that follows ends as a second
// one that is built from nothing of the source at rest, row for row, and no value above its
// form ever reached a file of the cluster outside. The comparison is this package's own: it
// reads both databases itself and asks nothing of the product's `dataset verify`.
//
// The follower is a process of its own (this test binary, run again), ended by SIGKILL; both
// servers are killed too. `make test` runs a short form; `make chaos-flow` minutes of it, built
// with failpoints (TREFOIL_CHAOS_FLOW=MINUTES, build tag sabotage). Statements follow from the
// seed that is printed; how sessions interleave does not. Loss of power is not played here.
package flow
