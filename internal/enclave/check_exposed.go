package enclave

import (
	"net"
	"net/netip"
	"net/url"
	"os"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/home/intake"
)

// exposed finds what others on the network or on the machine could read: lines without TLS
// and secret files that are not their owner's alone.
func (k *checking) exposed(c *Config) {
	if u, err := url.Parse(c.Monitor.URL); err == nil && u.Scheme == "http" && !local(u.Hostname()) {
		k.add(intake.Error, "", "monitor.url is http: the token, bodies and salts of records would cross the network in clear; use https")
	}
	if host, _, err := net.SplitHostPort(c.Gateway.Listen); err == nil && !local(host) && c.Gateway.Certificate == "" {
		k.add(intake.Error, "", "gateway.listen is reached from elsewhere and there is no certificate: no dataset is opened without TLS")
	}
	if host, _, err := net.SplitHostPort(c.Log.Listen); err == nil && !local(host) && c.Log.Certificate == "" {
		k.add(intake.Warning, "", "log.listen is reached from elsewhere and speaks http: bodies go there to the monitor; set log.certificate and log.server_key, or put a server with TLS before it")
	}
	for name, db := range c.Databases {
		for what, dsn := range map[string]string{"dsn": db.DSN, "reader": db.Reader} {
			if cfg, err := pgconn.ParseConfig(dsn); err == nil && dsn != "" && clearLine(cfg) {
				k.add(intake.Warning, "", "databases.%s.%s: clear values may cross the network without TLS; set sslmode=verify-full", name, what)
			}
		}
	}
	for what, path := range map[string]string{"pseudonym key": c.Keys.Pseudonyms, "staff key": c.Keys.Staff, "statements key": c.Keys.Statements,
		"digests key": c.Keys.Digests, "log key": c.Log.Key, "monitor's token": c.Monitor.Token, "gateway's key": c.Gateway.Key,
		"gateway's client key": c.Gateway.ClientKey, "log's server key": c.Log.ServerKey, "key management system's token": c.Keys.KMSToken} {
		if info, err := os.Stat(path); path != "" && err == nil && info.Mode().Perm()&0o077 != 0 {
			k.add(intake.Error, "", "the %s can be read by others (mode %04o): chmod 600 %s, and change the key if they did", what, info.Mode().Perm(), path)
		}
	}
}

// local reports whether a host is this machine. An empty host is every address.
func local(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// clearLine reports whether any way that a DSN allows goes without TLS to another machine.
func clearLine(cfg *pgconn.Config) bool {
	remote := func(host string) bool {
		network, _ := pgconn.NetworkAddress(host, 5432)
		return network != "unix" && !local(host)
	}
	found := cfg.TLSConfig == nil && remote(cfg.Host)
	for _, f := range cfg.Fallbacks {
		found = found || f.TLSConfig == nil && remote(f.Host)
	}
	return found
}
