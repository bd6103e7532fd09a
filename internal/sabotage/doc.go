// Package sabotage makes claims of the demonstration false on purpose, one at a time, so
// that tests can show that the check of each claim notices.
//
// The invariant it keeps: it exists only in binaries built with the tag `sabotage`. In every
// other one Active is constant false, the compiler removes what depends on it, and no
// environment variable changes that.
//
// Hostile makes a gateway that works against the monitor, for the runs that show what the
// monitor refuses or finds.
//
// Point is a failpoint for tests that kill a part at a chosen step, or make the step fail.
//
// Each hook stands where its claim is made true: sabotage.Active("floor") in the floor.
package sabotage
