package enclave

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
)

// unixPrefix marks a listener that is a socket in the file system.
const unixPrefix = "unix:"

// doors are open listeners by the address of the configuration: those of clients and the log's.
type doors map[string]net.Listener

// clientAddresses are where clients may come to.
func (c *Config) clientAddresses() []string {
	return append([]string{c.Gateway.Listen}, c.Gateway.ListenAlso...)
}

// openDoors opens every address that is not open yet.
func (c *Config) openDoors(ctx context.Context, open doors) error {
	for _, address := range append(c.clientAddresses(), append(c.valveAddresses(), c.Log.Listen)...) {
		if open[address] != nil {
			continue
		}
		l, err := openListener(ctx, address)
		if err != nil {
			return fmt.Errorf("open listener: %w", err)
		}
		open[address] = l
	}
	return nil
}

func (d doors) close() {
	for _, l := range d {
		_ = l.Close()
	}
}

func openListener(ctx context.Context, address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, unixPrefix)
	if !isUnix {
		return gateway.Listen(ctx, address)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: another process listens there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it may be another gateway's by then
	// Whoever may enter the directory may knock, as at PostgreSQL's own sockets.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// socketClient speaks to the running gateway through its socket.
func (c *Config) socketClient() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.Gateway.Status)
		}}}
}
