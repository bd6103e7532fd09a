// Package hostile runs the demonstration's enclave with a gateway that works against its
// monitor: a build of this tree with the tag sabotage, which widens policy, skips records,
// reorders or understates them. It shows what the monitor refuses or finds of each, and after
// how many records. It holds nothing but tests.
package hostile
