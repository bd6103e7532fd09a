package valve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/certfile"
	"github.com/trefoil-eu/trefoil/internal/preamble"
	"github.com/trefoil-eu/trefoil/internal/proof/valve/kept"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// File is valve.yaml. Relative paths are relative to the file's directory.
type File struct {
	Version   int       `yaml:"version"`
	Listen    string    `yaml:"listen"`  // where clients come to
	Gateway   string    `yaml:"gateway"` // host:port of the gateway's listener for the valve
	Key       string    `yaml:"key"`     // file: the key shared with the gateway, 32 bytes or more
	Monitor   Monitor   `yaml:"monitor"`
	Handshake int64     `yaml:"handshake_bytes,omitempty"` // toward the client before any permit; default 16384
	Limits    FileLimit `yaml:"limits,omitempty"`
	Keep      *Keep     `yaml:"keep,omitempty"` // ciphertext for audits; none: nothing is kept
}

// Keep is where ciphertext is kept, in the region, and for how long.
type Keep struct {
	Directory string `yaml:"directory"`
	Days      int    `yaml:"days,omitempty"` // after a connection's last byte; default 90
}

const defaultDays = 90

// Monitor is how the valve hears its monitor.
type Monitor struct {
	URL       string `yaml:"url"`
	Token     string `yaml:"token"`               // file: the valve's own token
	Authority string `yaml:"authority,omitempty"` // PEM file behind an https URL; default the system's
}

// FileLimit bounds what clients can make the valve do. Empty fields take the defaults.
type FileLimit struct {
	Connections int    `yaml:"connections,omitempty"` // at once; default 1000
	PerAddress  int    `yaml:"per_address,omitempty"` // of one address; default 64
	Startup     string `yaml:"startup,omitempty"`     // from the connection to its first permit; default 30s
	Hold        string `yaml:"hold,omitempty"`        // how long bytes wait for a permit; default 10s
	Stall       string `yaml:"stall,omitempty"`       // a client that takes nothing for so long is closed; default 15m
}

// Config is all a valve needs. Listener, Gateway, Key and Monitor are required.
type Config struct {
	Listener  net.Listener // the valve closes it
	Gateway   string       // host:port
	Key       []byte
	Monitor   string // URL
	Token     string
	HTTP      *http.Client // without a timeout of its own; nil: one that trusts the system's authorities
	Handshake int64
	Limits    Limits
	Keep      *kept.Store // nil: nothing is kept
	Logger    *slog.Logger
	Now       func() time.Time
}

// Limits are FileLimit's, read.
type Limits struct {
	Connections, PerAddress int
	Startup, Hold, Stall    time.Duration
}

func (l *Limits) defaults() {
	if l.Connections == 0 {
		l.Connections = 1000
	}
	if l.PerAddress == 0 {
		l.PerAddress = 64
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&l.Startup, 30 * time.Second}, {&l.Hold, 10 * time.Second}, {&l.Stall, 15 * time.Minute}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
}

// defaultHandshake holds a TLS handshake with a chain of several certificates, the log-in, and
// the gateway's own words (refusals, notices, the last error).
const defaultHandshake = 16 << 10

// Load reads valve.yaml strictly. The error lists everything that is wrong.
func Load(path string) (*File, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read valve's configuration: %w", err)
	}
	var f File
	pos, err := strict.DecodeWithPositions(path, src, &f)
	errs := strict.All(path, err)
	want := func(ok bool, at, text string) {
		if !ok {
			errs = append(errs, pos.Errorf(at, "%s", text))
		}
	}
	want(f.Version == 1, "version", "must be 1")
	for at, v := range map[string]string{"listen": f.Listen, "gateway": f.Gateway} {
		_, _, err := net.SplitHostPort(v)
		want(err == nil, at, "must be host:port")
	}
	want(f.Key != "", "key", "is missing: the file with the key shared with the gateway")
	want(strings.HasPrefix(f.Monitor.URL, "http://") || strings.HasPrefix(f.Monitor.URL, "https://"), "monitor.url", "must be an http or https URL")
	want(f.Monitor.Token != "", "monitor.token", "is missing: the file with the valve's token")
	want(f.Handshake >= 0 && f.Handshake <= 1<<20, "handshake_bytes", "must be at most 1048576")
	want(f.Limits.Connections >= 0 && f.Limits.PerAddress >= 0, "limits", "must not be negative")
	for at, v := range map[string]string{"startup": f.Limits.Startup, "hold": f.Limits.Hold, "stall": f.Limits.Stall} {
		d, err := time.ParseDuration(v)
		want(v == "" || err == nil && d > 0 && d <= 24*time.Hour, "limits."+at, "must be a duration such as 10s")
	}
	if k := f.Keep; k != nil {
		want(k.Directory != "", "keep.directory", "is missing: where ciphertext is kept")
		want(k.Days >= 0 && k.Days <= 3650, "keep.days", "must be at most 3650")
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	paths := []*string{&f.Key, &f.Monitor.Token, &f.Monitor.Authority}
	if f.Keep != nil {
		paths = append(paths, &f.Keep.Directory)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return &f, nil
}

// Config reads the files that f names. The listener is the caller's to set.
func (f *File) Config() (Config, error) {
	c := Config{Gateway: f.Gateway, Monitor: f.Monitor.URL, Handshake: f.Handshake,
		Limits: Limits{Connections: f.Limits.Connections, PerAddress: f.Limits.PerAddress,
			Startup: duration(f.Limits.Startup), Hold: duration(f.Limits.Hold), Stall: duration(f.Limits.Stall)}}
	key, err := preamble.ReadKey(f.Key)
	if err != nil {
		return c, err
	}
	c.Key = key
	token, err := os.ReadFile(f.Monitor.Token)
	if err != nil {
		return c, fmt.Errorf("read the valve's token: %w", err)
	}
	if c.Token = strings.TrimSpace(string(token)); c.Token == "" {
		return c, fmt.Errorf("read the valve's token: %s is empty", f.Monitor.Token)
	}
	secure, err := certfile.Client(f.Monitor.Authority)
	if err != nil {
		return c, err
	}
	c.HTTP = newHTTP(secure)
	return c, nil
}

// Store opens what f says of keeping; nil where it says nothing.
func (f *File) Store(logger *slog.Logger) (*kept.Store, error) {
	if f.Keep == nil {
		return nil, nil
	}
	days := f.Keep.Days
	if days == 0 {
		days = defaultDays
	}
	return kept.Open(f.Keep.Directory, time.Duration(days)*24*time.Hour, time.Now, logger)
}

// duration reads what Load has checked; "" is 0, the default.
func duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0
	}
	return d
}

func newHTTP(secure *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: secure, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 5 * time.Second, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (c *Config) check() error {
	if c.Listener == nil || c.Gateway == "" || len(c.Key) < 32 || c.Monitor == "" || c.Token == "" {
		return errors.New("open valve: listener, gateway, key, monitor and token are needed")
	}
	c.Monitor = strings.TrimRight(c.Monitor, "/")
	c.Limits.defaults()
	if c.Handshake == 0 {
		c.Handshake = defaultHandshake
	}
	if c.HTTP == nil {
		c.HTTP = newHTTP(nil)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}
