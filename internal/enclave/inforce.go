package enclave

import (
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// inForce holds the rules that are in force, the cases that stand among them. Whoever decides
// takes them once a decision.
type inForce struct {
	p     atomic.Pointer[Rules]
	mu    sync.Mutex // set and setCases
	cases *dataset.Builder
}

func newInForce(r *Rules) *inForce {
	f := &inForce{}
	f.p.Store(r)
	return f
}

func (f *inForce) get() *Rules { return f.p.Load() }

// set puts rules in force, with the cases that there are.
func (f *inForce) set(r *Rules) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cases != nil {
		r = r.withCases(f.cases)
	}
	f.p.Store(r)
}

// setCases puts the builder's cases in force, and no others.
func (f *inForce) setCases(b *dataset.Builder) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cases = b
	f.p.Store(f.p.Load().withCases(b))
}

// Runtime is what a running gateway listens to beside its clients.
type Runtime struct {
	Hangup <-chan os.Signal // each value: read the configuration again
	Level  *slog.LevelVar   // of the logger; nil: it stays
	Pinned bool             // the level was given on the command line: the configuration does not change it
}

// WithRuntime returns the configuration for a process that reloads.
func (c *Config) WithRuntime(r Runtime) *Config {
	c.runtime = r
	return c
}

// StartLevel is the log level that a gateway starts with.
func (c *Config) StartLevel(verbose bool) *slog.LevelVar {
	v := new(slog.LevelVar)
	level, _ := logLevel(c.Gateway.LogLevel) // checked by Load
	if v.Set(level); verbose {
		v.Set(slog.LevelDebug)
	}
	return v
}

// fixed are the keys of enclave.yaml that only a restart changes: what listens, where
// records go, keys, and what a running session rests on.
var fixed = []string{"name", "site", "sites", "exporter", "databases", "clusters", "control", "gateway.listen", "gateway.listen_also",
	"gateway.spill_dir", "gateway.chunk_bytes", "gateway.memory_bytes", "gateway.temporary_bytes", "gateway.temporary_bytes_all", "gateway.catalog_allowance", "gateway.summary_interval", "gateway.metrics",
	"gateway.status", "gateway.api", "log", "monitor", "keys", "region", "catalogs", "datasets", "tokens"}

// merge returns next with everything that only a restart changes as it was, and the keys
// that differ: those that come into force, and those that wait for a restart.
func merge(old, next *Config) (merged *Config, changed, waiting []string) {
	out := *next
	out.runtime = old.runtime
	for _, key := range differences("", reflect.ValueOf(*old), reflect.ValueOf(*next)) {
		if slices.ContainsFunc(fixed, func(f string) bool { return key == f || strings.HasPrefix(key, f+".") }) {
			waiting = append(waiting, key)
		} else {
			changed = append(changed, key)
		}
	}
	restore(reflect.ValueOf(old).Elem(), reflect.ValueOf(&out).Elem(), "")
	return &out, changed, waiting
}

// restore copies the fixed keys of old into out.
func restore(old, out reflect.Value, path string) {
	for i := range old.NumField() {
		key := yamlKey(old.Type().Field(i))
		if key == "" {
			continue
		}
		at := path + key
		switch {
		case slices.Contains(fixed, at):
			out.Field(i).Set(old.Field(i))
		case at == "gateway":
			restore(old.Field(i), out.Field(i), at+".")
		}
	}
}

// differences lists the keys of two configurations that differ, without their values. Lists
// and maps are one key each, but maps of named things.
func differences(path string, a, b reflect.Value) []string {
	switch {
	case a.Kind() == reflect.Struct:
		var out []string
		for i := range a.NumField() {
			if key := yamlKey(a.Type().Field(i)); key != "" {
				out = append(out, differences(join2(path, key), a.Field(i), b.Field(i))...)
			}
		}
		return out
	case a.Kind() == reflect.Map && a.Type().Key().Kind() == reflect.String:
		var out []string
		for _, key := range slices.Sorted(maps.Keys(keysOf(a, b))) {
			x, y := a.MapIndex(reflect.ValueOf(key)), b.MapIndex(reflect.ValueOf(key))
			if !x.IsValid() || !y.IsValid() || !reflect.DeepEqual(x.Interface(), y.Interface()) {
				out = append(out, join2(path, key))
			}
		}
		return out
	case !reflect.DeepEqual(a.Interface(), b.Interface()):
		return []string{path}
	}
	return nil
}

func keysOf(ms ...reflect.Value) map[string]bool {
	out := map[string]bool{}
	for _, m := range ms {
		for _, k := range m.MapKeys() {
			out[k.String()] = true
		}
	}
	return out
}

func join2(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func yamlKey(f reflect.StructField) string {
	if !f.IsExported() {
		return ""
	}
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key
}

// compare says in words what differs between two sets of rules, without an id or a secret.
func compare(old, next *Rules) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	was, is := map[string]any{}, map[string]any{}
	for _, p := range old.People.Directory.Principals() {
		was[p.ID] = p
	}
	for _, p := range next.People.Directory.Principals() {
		is[p.ID] = p
	}
	added, removed, altered := 0, 0, 0
	for id, p := range is {
		if before, there := was[id]; !there {
			added++
		} else if !reflect.DeepEqual(before, p) {
			altered++
		}
	}
	for id := range was {
		if _, there := is[id]; !there {
			removed++
		}
	}
	switch {
	case added+removed+altered > 0:
		say("people: %d added, %d removed, %d changed", added, removed, altered)
	case !reflect.DeepEqual(old.People.file, next.People.file):
		say("people: passwords or notes changed")
	}
	if !reflect.DeepEqual(old.People.Tokens, next.People.Tokens) {
		say("access tokens: %d, were %d", len(next.People.Tokens), len(old.People.Tokens))
	}
	if old.PolicyHash != next.PolicyHash {
		say("policy: %.12s, was %.12s", next.PolicyHash, old.PolicyHash)
	}
	if old.CatalogHash != next.CatalogHash {
		say("purposes: rules %.12s, were %.12s", next.CatalogHash, old.CatalogHash)
	}
	return out
}

func withURLUser(dsn, user string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn // the caller says that it does not parse
	}
	if password, has := u.User.Password(); has {
		u.User = url.UserPassword(user, password)
	} else {
		u.User = url.User(user)
	}
	if q := u.Query(); q.Has("user") {
		q.Del("user")
		u.RawQuery = q.Encode()
	}
	return u.String()
}
