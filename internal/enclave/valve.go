package enclave

import (
	"net"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/preamble"
)

// Valve is where the monitor's valve connects to the gateway, and nobody else: each connection
// there begins with a preamble made with the key. Let nothing but the valve reach it.
type Valve struct {
	Listen string `yaml:"listen"`
	Key    string `yaml:"key"` // file: the key shared with the valve, 32 bytes or more
}

func (v *Valve) validate(c *Config, bad func(string, string, ...any)) {
	if _, _, err := net.SplitHostPort(v.Listen); err != nil {
		bad("gateway.valve.listen", "%q is not host:port", v.Listen)
	}
	if v.Key == "" {
		bad("gateway.valve.key", "is missing: the file with the key shared with the valve")
	}
	if c.Gateway.Certificate == "" {
		bad("gateway.valve", "needs gateway.certificate: only TLS goes through the valve")
	}
}

func (c *Config) valveAddresses() []string {
	if c.Gateway.Valve == nil {
		return nil
	}
	return []string{c.Gateway.Valve.Listen}
}

// withValve adds the valve's listener to those of clients.
func (p *process) withValve(clients []net.Listener) ([]net.Listener, error) {
	for _, address := range p.config.valveAddresses() {
		key, err := preamble.ReadKey(p.config.Gateway.Valve.Key)
		if err != nil {
			return nil, err
		}
		clients = append(clients, gateway.ValveListener(p.doors[address], key))
	}
	return clients, nil
}
