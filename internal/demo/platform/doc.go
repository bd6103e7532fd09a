// Package platform generates the demonstration's video platform: people of 35 countries,
// their devices, videos, watch events, messages and payments, in two schemas.
//
// The invariant it keeps: everything follows from the seed and the number of people. Two
// loads are equal row by row, and the clear values of any person can be told without
// reading the database (Canaries), so a byte search knows what to look for.
//
// It writes with COPY over several connections. It knows nothing of datasets or forms, and
// nobody it makes exists: addresses are under the reserved domain .example, telephone
// numbers and IBANs are drawn from the whole range and checked against nothing.
package platform

import _ "embed"

// Schema is the DDL of the platform without its keys and indexes; Finish adds these after
// the load.
//
//go:embed schema.sql
var Schema string

// Finish adds primary keys, foreign keys and indexes, and the service's role.
//
//go:embed finish.sql
var Finish string
