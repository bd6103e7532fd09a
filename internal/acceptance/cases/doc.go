// Package cases asks for grants of a running enclave as a ticket system, approvers and the monitor
// do, over HTTP, and reads through the gateway what they open: a dataset from outside the region, a
// case of a few subjects, the answers to one statement. It draws an inspector's sample of what came
// of it. It holds nothing but tests.
package cases
