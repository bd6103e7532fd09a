// Package endure shows what a real gateway does under load, over time, and with clients and
// servers that behave badly: no client ever sees another's results, nothing leaks, and what
// is wrong ends with a clear error where it is wrong, and nowhere else.
//
// Its long forms are make chaos-tagged (TREFOIL_TAGGED: statements) and make soak
// (TREFOIL_SOAK: minutes). It has no code but its tests.
package endure
