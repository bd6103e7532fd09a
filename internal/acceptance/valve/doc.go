// Package valve runs the whole of Trefoil with the monitor's valve before the gateway, as
// real processes over real TLS: what is permitted comes through to the byte, and what is
// not does not. It holds nothing but tests.
package valve
