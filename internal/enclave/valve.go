package enclave

import (
	"net"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/preamble"
	"github.com/trefoil-eu/trefoil/internal/proof/audit/secrets"
)

// Valve is where the monitor's valve connects to the gateway, and nobody else: each connection
// there begins with a preamble made with the key. Let nothing but the valve reach it.
type Valve struct {
	Listen string `yaml:"listen"`
	Key    string `yaml:"key"` // file: the key shared with the valve, 32 bytes or more

	Secrets *Secrets `yaml:"secrets,omitempty"` // none: no session can be audited
}

// Secrets is where the TLS secrets of sessions through the valve are kept, encrypted. Keep as
// many days as the valve does, and the key elsewhere than the directory.
type Secrets struct {
	Directory string `yaml:"directory"`
	Key       string `yaml:"key"`            // file: 32 random bytes or more
	Days      int    `yaml:"days,omitempty"` // after a session's end; default 90
}

const defaultSecretDays = 90

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
	if s := v.Secrets; s != nil {
		if s.Directory == "" || s.Key == "" {
			bad("gateway.valve.secrets", "needs directory and key: where session secrets are kept, and the file with their key")
		}
		if s.Days < 0 || s.Days > 3650 {
			bad("gateway.valve.secrets.days", "must be at most 3650")
		}
	}
}

func (v *Valve) resolve(dir string) {
	join(dir, &v.Key)
	if v.Secrets != nil {
		join(dir, &v.Secrets.Directory)
		join(dir, &v.Secrets.Key)
	}
}

// SessionSecrets opens the store of session secrets; nil where the configuration names none.
func (c *Config) SessionSecrets() (*secrets.Store, error) {
	if c.Gateway.Valve == nil || c.Gateway.Valve.Secrets == nil {
		return nil, nil
	}
	s := c.Gateway.Valve.Secrets
	key, err := readSecret(s.Key, "key of session secrets")
	if err != nil {
		return nil, err
	}
	days := s.Days
	if days == 0 {
		days = defaultSecretDays
	}
	return secrets.Open(s.Directory, key, time.Duration(days)*24*time.Hour, time.Now)
}

// secretKeeper is SessionSecrets for the gateway: an interface that is nil where there is none.
func (p *process) secretKeeper() (gateway.SecretKeeper, error) {
	var err error
	if p.secrets, err = p.config.SessionSecrets(); err != nil || p.secrets == nil {
		return nil, err
	}
	return p.secrets, nil
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
