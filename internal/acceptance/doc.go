// Package acceptance shows Trefoil as a whole: its tests run against a real enclave, started
// by internal/demo with the real binary, and look at it only as outsiders can.
//
// What they show: psql, pgx, node's pg and psycopg2 work through both paths, and wire
// scripts get the same answers as from PostgreSQL itself; values planted in every kind of
// column that the outside cluster may not hold are in none of its files, and in no byte that
// hostile sessions receive; every such byte is in a record of the monitor's mirror; withheld
// values change nothing that can be observed; and who may open what, and until when, holds
// end to end.
//
// It has no code but its tests. What a part does by itself is shown by its own package.
package acceptance
