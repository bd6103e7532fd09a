package postgres

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// lowestFree is the first port that FreePort tries: below are those that well-known services use.
const lowestFree = 15000

// FreePort finds a port of the host (an address) that nobody listens on now, for a server that
// will be started a little later. It looks below the ports that the kernel gives to outgoing
// connections: one of those could be taken by anybody's connection before the server listens.
func FreePort(host string) (int, error) {
	below := ephemeralFrom()
	var last error
	for range 200 {
		port := 0 // the kernel's choice, where there is no room below its own
		if below > lowestFree+1000 {
			port = lowestFree + rand.IntN(below-lowestFree)
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		port = l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("find a free port of %s: %w", host, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("find a free port of %s: %w", host, last)
}

// ephemeralFrom is the least port that outgoing connections are given. 0: unknown.
func ephemeralFrom() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	var from, to int
	if _, err := fmt.Sscan(string(text), &from, &to); err != nil {
		return 0
	}
	return from
}
