// Package valve is a relay of TLS ciphertext that the monitor runs before the gateway, on the
// only route out: a release that the monitor did not permit does not pass it, whatever the
// gateway does.
//
// The invariant it keeps: of one connection, no more bytes pass toward the client than the
// handshake allowance and what the monitor credited this connection with, payload and a
// stated overhead; while the monitor has stopped releases, or is not heard, nothing of what
// it credited passes. What is not known is no credit.
//
// It implements docs/design/valve.md. It holds no key of TLS and can read nothing; it bounds
// how much leaves and when, and cannot tell whether these were the recorded bytes. Toward
// the gateway it bounds nothing.
package valve
