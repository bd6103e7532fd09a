// Package compat shows what works through the gateway: each client and each feature of
// PostgreSQL that applications lean on, on the service path and on the release path, against
// PostgreSQL 15 and 18.
//
// docs/compatibility.md is written from what its tests see (TREFOIL_UPDATE=1), and a test
// fails when the page is not what they see. Where CI is set, a row that could not be tried
// is a failure: make test installs every client.
//
// It has no code but its tests. What the gateway does under load, and with clients that
// behave badly, is shown by internal/acceptance/endure.
package compat
