package enclave

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
)

// validateIdentity checks the mode and the ways to log in.
func (c *Config) validateIdentity(bad func(string, string, ...any)) {
	if c.Mode != "" && c.Mode != ModeEnforce && c.Mode != ModeObserve {
		bad("mode", "mode is enforce or observe")
	}
	if _, err := logLevel(c.Gateway.LogLevel); err != nil {
		bad("gateway.log_level", "log_level is debug, info, warn or error")
	}
	employers := func(at string, m *identity.Mapping) {
		if m.Employer == nil {
			return
		}
		for _, to := range m.Employer.Values {
			for _, key := range to {
				if _, known := c.Entities[key]; !known {
					bad(at+".map.employer", "entity %q is not listed under entities", key)
				}
			}
		}
	}
	for i := range c.Identity.OIDC {
		at := fmt.Sprintf("identity.oidc[%d]", i)
		identity.CheckIssuer(&c.Identity.OIDC[i], func(key, format string, args ...any) { bad(at+"."+key, format, args...) })
		employers(at, &c.Identity.OIDC[i].Map)
	}
	if cert := c.Identity.Certificates; cert != nil {
		at := "identity.certificates"
		identity.CheckCertificates(cert, func(key, format string, args ...any) { bad(at+"."+key, format, args...) })
		employers(at, &cert.Map)
	}
	if (len(c.Identity.OIDC) > 0 || c.Identity.Certificates != nil) && c.Gateway.Certificate == "" {
		bad("identity", "ID tokens and client certificates need TLS: set gateway.certificate")
	}
}

// resolveIdentity makes paths absolute to the file's directory.
func (c *Config) resolveIdentity(dir string) {
	for i := range c.Identity.OIDC {
		join(dir, &c.Identity.OIDC[i].Authority)
	}
	if cert := c.Identity.Certificates; cert != nil {
		join(dir, &cert.Authority)
		for i := range cert.CRLs {
			join(dir, &cert.CRLs[i])
		}
	}
}

// logLevel reads a level by its name; "" is info.
func logLevel(text string) (slog.Level, error) {
	var l slog.Level
	if text == "" {
		return slog.LevelInfo, nil
	}
	err := l.UnmarshalText([]byte(text))
	return l, err
}

// logins reads the certificates and issuers that the configuration names.
func (c *Config) logins(logger *slog.Logger) (*identity.OIDC, *identity.Certificates, error) {
	issuers, err := identity.NewOIDC(c.Identity.OIDC, time.Now, logger)
	if err != nil || c.Identity.Certificates == nil {
		return issuers, nil, err
	}
	certificates, err := identity.LoadCertificates(*c.Identity.Certificates)
	return issuers, certificates, err
}
