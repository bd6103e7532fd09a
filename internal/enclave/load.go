package enclave

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 16 << 20

// Load reads and validates enclave.yaml. Every finding has its line and column
// (strict.Errors); relative paths come back joined to the file's directory.
func Load(path string) (*Config, error) {
	src, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var c Config
	pos, err := strict.DecodeWithPositions(path, src, &c)
	var found strict.Errors
	if err != nil && !errors.As(err, &found) {
		return nil, err
	}
	if err == nil {
		found = c.validate(pos)
	}
	if len(found) > 0 {
		return nil, found
	}
	c.resolve(filepath.Dir(path))
	c.path = path
	return &c, nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

// validate reports what decoding alone cannot see.
func (c *Config) validate(pos *strict.Positions) strict.Errors {
	var out strict.Errors
	bad := func(path, format string, args ...any) { out = append(out, pos.Errorf(path, format, args...)) }
	if c.Version != 1 {
		bad("version", "version %d is not known: this Trefoil reads version 1", c.Version)
	}
	need := func(path, value string) {
		if value == "" {
			bad(path, "%s is missing", path)
		}
	}
	need("name", c.Name)
	need("exporter.name", c.Exporter.Name)
	need("exporter.country", c.Exporter.Country)
	if len(c.Databases) == 0 {
		bad("databases", "no database: name at least one source under databases")
	}
	c.validateIdentity(bad)
	c.validateApprovals(bad)
	c.validateRetain(bad)
	c.validateNames(bad)
	if r := c.Regulator; r != nil && r.File == "" && r.Webhook == "" {
		bad("regulator", "regulator needs a file or a webhook")
	}
	c.validatePools(bad)
	c.validateSites(bad)
	for name, cl := range c.Clusters {
		if name != "inside" && name != "outside" {
			bad(strict.Join("clusters", name), "a cluster is named inside or outside, not %q", name)
		}
		if (cl.Embedded == nil) == (cl.Steward == "") {
			bad(strict.Join("clusters", name), "give either embedded, or dsn and steward")
		}
	}
	for kind, d := range c.Log.Retention {
		if _, err := time.ParseDuration(d); err != nil {
			bad("log.retention."+kind, "%q is not a duration such as 8760h", d)
		}
	}
	for i, a := range c.Gateway.ListenAlso {
		path, isUnix := strings.CutPrefix(a, unixPrefix)
		if _, _, err := net.SplitHostPort(a); !isUnix && err != nil || isUnix && !filepath.IsAbs(path) {
			bad(fmt.Sprintf("gateway.listen_also[%d]", i), "%q is neither host:port nor unix:/PATH", a)
		}
	}
	if v := c.Gateway.Valve; v != nil {
		v.validate(c, bad)
	}
	c.Gateway.Traces.validate(bad)
	if d := c.Gateway.SummaryInterval; d != "" {
		if _, err := time.ParseDuration(d); err != nil {
			bad("gateway.summary_interval", "%q is not a duration such as 60s", d)
		}
	}
	return out
}

// validateNames checks what refers to a name declared elsewhere in the file.
func (c *Config) validateNames(bad func(string, string, ...any)) {
	for i, in := range c.Instruments {
		if _, ok := c.Entities[in.Entity]; !ok {
			bad(fmt.Sprintf("instruments[%d].entity", i), "entity %q is not listed under entities", in.Entity)
		}
		for _, f := range []struct{ key, day string }{{"date", in.Date}, {"tia_date", in.TIADate}, {"until", in.Until}} {
			if _, err := time.Parse(time.DateOnly, f.day); f.day != "" && err != nil {
				bad(fmt.Sprintf("instruments[%d].%s", i, f.key), "%q is not a date such as 2026-01-31", f.day)
			}
		}
	}
	for name, e := range c.Entities {
		if len(e.Country) != 2 || strings.ToUpper(e.Country) != e.Country {
			bad("entities."+name+".country", "%q is not an ISO 3166-1 alpha-2 country", e.Country)
		}
		for i, scope := range e.Scopes {
			if _, known := law.Current().Scope(scope); !known {
				bad(fmt.Sprintf("entities.%s.scopes[%d]", name, i), "%q is no scope that an adequacy decision asks for", scope)
			}
		}
	}
}

func (c *Config) validateSites(bad func(string, string, ...any)) {
	known := map[string]bool{}
	for i, s := range c.Sites {
		if known[s.Name] {
			bad(fmt.Sprintf("sites[%d].name", i), "site %q is listed twice", s.Name)
		}
		known[s.Name] = true
	}
	if c.Site != "" && !known[c.Site] {
		bad("site", "site %q is not listed under sites", c.Site)
	}
	for name, d := range c.Databases {
		if d.Site != "" && !known[d.Site] {
			bad("databases."+name+".site", "site %q is not listed under sites", d.Site)
		}
		if d.DSN == "" {
			bad("databases."+name, "dsn is missing")
		}
		if d.Route != nil {
			c.validateRoute("databases."+name+".route", d.Route, bad)
		}
	}
}

func (c *Config) validateRoute(path string, r *Route, bad func(string, string, ...any)) {
	if len(r.Members) == 0 {
		bad(path, "members are missing: list the servers, the nearest first")
	}
	for i, m := range r.Members {
		if _, _, err := hostPort(m.Address); err != nil {
			bad(fmt.Sprintf("%s.members[%d].address", path, i), "%v", err)
		}
	}
	if _, taken := c.Databases[r.ReadOnly]; taken {
		bad(path+".read_only", "%q is a database itself", r.ReadOnly)
	}
	if _, err := time.ParseDuration(r.Interval); r.Interval != "" && err != nil {
		bad(path+".interval", "%q is not a duration such as 1s", r.Interval)
	}
	if r.MaxLag < 0 {
		bad(path+".max_lag", "%d is not a number of bytes", r.MaxLag)
	}
}

// resolve fills defaults and makes paths absolute to the file's directory.
func (c *Config) resolve(dir string) {
	if len(c.Catalogs) == 0 {
		c.Catalogs = []string{"catalog.yaml"}
	}
	def := func(p *string, value string) {
		if *p == "" {
			*p = value
		}
	}
	def(&c.Datasets, "datasets.yaml")
	def(&c.Purposes, "purposes.yaml")
	def(&c.People, "people.yaml")
	def(&c.Policy, "policy")
	def(&c.Tokens, "tokens.yaml")
	def(&c.Mode, ModeEnforce)
	def(&c.Gateway.Status, "gateway.sock")
	if len(c.Region) == 0 {
		c.Region = []string{"EEA", "GB", "CH"}
	}
	for i := range c.Catalogs {
		join(dir, &c.Catalogs[i])
	}
	c.resolveIdentity(dir)
	for i := range c.Monitor.Successions {
		join(dir, &c.Monitor.Successions[i])
	}
	if c.Regulator != nil {
		join(dir, &c.Regulator.File)
	}
	for _, p := range []*string{&c.Datasets, &c.Purposes, &c.People, &c.Policy, &c.Tokens, &c.NetworkCountries,
		&c.Gateway.Certificate, &c.Gateway.Key, &c.Gateway.ClientCertificate, &c.Gateway.ClientKey, &c.Gateway.SpillDir, &c.Gateway.Status,
		&c.Log.Directory, &c.Log.Key, &c.Log.Certificate, &c.Log.ServerKey, &c.Monitor.Token, &c.Monitor.Authority,
		&c.Keys.Pseudonyms, &c.Keys.Staff, &c.Keys.Statements, &c.Keys.Digests, &c.Keys.KMSToken, &c.Keys.KMSCA} {
		join(dir, p)
	}
	if c.Gateway.Valve != nil {
		c.Gateway.Valve.resolve(dir)
	}
	if c.Gateway.Traces != nil {
		join(dir, &c.Gateway.Traces.Authority)
	}
	for i := range c.Log.Witnesses {
		join(dir, &c.Log.Witnesses[i].Authority)
	}
	for name, cl := range c.Clusters {
		if cl.Embedded != nil {
			join(dir, &cl.Embedded.Directory)
			c.Clusters[name] = cl
		}
	}
}

func join(dir string, p *string) {
	if *p != "" && !filepath.IsAbs(*p) {
		*p = filepath.Join(dir, *p)
	}
}
