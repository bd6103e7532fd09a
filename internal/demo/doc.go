// Package demo runs a whole enclave on one machine, and tells its story: every claim that it
// prints it has verified, against the running parts and by the means an outsider has.
//
// The invariant it keeps: a claim is printed as held only after its check passed, and a
// check fails when what it claims is made false (the sabotages show it, one for each
// claim). Everything it starts is its own: gateway and monitor are processes of the same
// binary, driven by their command line; the PostgreSQL instances stand under one directory;
// all of it stops with the demonstration or by Stop, also after a crash.
//
// The three sites are simulated: one machine, and everything says so.
package demo
