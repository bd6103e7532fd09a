// Package probe runs the monitor's probe against real servers on which datasets are built, follow
// their source and are built again: what Trefoil itself makes is no alarm, and what somebody adds
// by hand is found at the next look. It holds nothing but tests.
package probe
