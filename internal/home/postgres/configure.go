package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// initdb makes the data directory: UTF8, C.UTF-8 where the system has it, checksums, SCRAM.
func (c *Cluster) initdb(ctx context.Context) error {
	pw := filepath.Join(c.tlsDir(), "initdb.password")
	if err := c.writeOwned(pw, []byte(c.o.Password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(pw)
	args := []string{
		"-D", c.DataDir(), "-U", c.o.Superuser, "--pwfile=" + pw, "--auth=scram-sha-256",
		"--encoding=" + c.o.Encoding, "--locale=" + localeFor(c.o.Encoding), "--data-checksums",
	}
	if c.prog.Major >= 15 {
		args = append(args, "--locale-provider=libc")
	}
	if c.o.NoSync {
		args = append(args, "--no-sync")
	}
	if err := c.command(ctx, "initdb", args...); err != nil {
		if rm := os.RemoveAll(c.DataDir()); rm != nil {
			return fmt.Errorf("%w; and remove what it left: %w", err, rm)
		}
		return err
	}
	return nil
}

// localeFor is C.UTF-8 for UTF8: byte order, and letters known beyond ASCII.
func localeFor(encoding string) string {
	if strings.EqualFold(encoding, "UTF8") {
		return "C.UTF-8"
	}
	return "C"
}

// command runs one of PostgreSQL's programs as the server's user. Its last words on failure
// become part of the error: these programs print paths and settings, never data.
func (c *Cluster) command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, c.prog.Path(name), args...)
	cmd.Env = c.prog.environment()
	cmd.Dir = "/"
	cmd.SysProcAttr = c.account.attributes(false)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w%s", name, err, lastLines(string(out), 6, func(string) bool { return true }))
	}
	return nil
}

// defaults are the settings of every cluster. The log holds no statement and no value:
// errors that carry either are not logged at all (log_min_messages above ERROR).
func (c *Cluster) defaults() map[string]string {
	s := map[string]string{
		"listen_addresses": c.o.Host, "port": strconv.Itoa(c.port), "cluster_name": c.o.Name,
		"unix_socket_directories": c.SocketDir(), "unix_socket_permissions": "0777",
		"max_connections": "200", "shared_buffers": "128MB", "dynamic_shared_memory_type": "posix",
		"password_encryption": "scram-sha-256", "timezone": "UTC", "log_timezone": "UTC",
		"datestyle": "iso, mdy", "lc_messages": "C", "default_text_search_config": "pg_catalog.english",
		"logging_collector": "off", "log_destination": "stderr", "log_line_prefix": "%m [%p] ",
		"log_statement": "none", "log_min_messages": "log", "log_min_error_statement": "panic",
		"log_error_verbosity": "terse", "log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0",
		"log_min_duration_statement": "-1", "log_autovacuum_min_duration": "-1", "log_checkpoints": "off",
		"ssl": "off",
	}
	if c.o.NoTCP {
		s["listen_addresses"] = ""
	}
	if c.o.NoSync {
		s["fsync"], s["synchronous_commit"], s["full_page_writes"] = "off", "off", "off"
	}
	if t := c.o.TLS; t != nil {
		s["ssl"], s["ssl_min_protocol_version"] = "on", "TLSv1.2"
		s["ssl_cert_file"], s["ssl_key_file"] = filepath.Join(c.tlsDir(), "server.crt"), filepath.Join(c.tlsDir(), "server.key")
		s["ssl_ca_file"] = filepath.Join(c.tlsDir(), "ca.crt")
	}
	return s
}

// writeConfiguration writes postgresql.conf, pg_hba.conf, pg_ident.conf and the TLS files.
func (c *Cluster) writeConfiguration() error {
	settings := c.defaults()
	for k, v := range c.o.Settings {
		settings[k] = v
	}
	if err := c.copyTLS(); err != nil {
		return err
	}
	files := map[string]string{
		"postgresql.conf": renderSettings(settings),
		"pg_hba.conf":     c.o.Access.hba(c.o.Superuser, c.o.TLS != nil),
		"pg_ident.conf":   c.o.Access.ident(),
	}
	for name, text := range files {
		if err := c.writeOwned(filepath.Join(c.DataDir(), name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Configure changes settings for the next Start or Reload. An empty value removes one.
func (c *Cluster) Configure(settings map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	merged := map[string]string{}
	for k, v := range c.o.Settings {
		merged[k] = v
	}
	for k, v := range settings {
		if v == "" {
			delete(merged, k)
			continue
		}
		merged[k] = v
	}
	c.o.Settings = merged
}

// SetAccess changes who may log in from the next Start or Reload on.
func (c *Cluster) SetAccess(a Access) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.o.Access = a
}

func renderSettings(settings map[string]string) string {
	names := make([]string, 0, len(settings))
	for k := range settings {
		names = append(names, k)
	}
	sort.Strings(names)
	var b strings.Builder
	b.WriteString("# Written by trefoil at every start. Changes here are lost.\n")
	for _, k := range names {
		fmt.Fprintf(&b, "%s = %s\n", k, quoteSetting(settings[k]))
	}
	return b.String()
}

// quoteSetting quotes a value of postgresql.conf; a line break cannot be part of one.
func quoteSetting(v string) string {
	v = strings.NewReplacer("\n", " ", "\r", " ", `\`, `\\`, "'", "''").Replace(v)
	return "'" + v + "'"
}

// writeOwned replaces a file at once (rename), owned by the server's user.
func (c *Cluster) writeOwned(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Chmod(tmp, mode); err != nil {
		return fmt.Errorf("set mode of %s: %w", filepath.Base(path), err)
	}
	if err := c.account.own(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("replace %s: %w", filepath.Base(path), err)
	}
	return nil
}

// logTail is what the server said since offset from: only what startup and configuration
// print, never lines that could hold a statement or a value.
func (c *Cluster) logTail(from int64) string {
	f, err := os.Open(c.LogPath())
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, 16<<10)
	if size := fileSize(c.LogPath()); size-from > int64(len(buf)) {
		from = size - int64(len(buf))
	}
	n, _ := f.ReadAt(buf, from) // what could be read is all there is to show
	return lastLines(string(buf[:n]), 8, func(line string) bool {
		for _, level := range []string{"FATAL:", "PANIC:", "LOG:", "HINT:", "error while loading"} {
			if strings.Contains(line, level) {
				return true
			}
		}
		return false
	})
}

// lastLines renders at most n of the lines that keep accepts, indented for an error.
func lastLines(text string, n int, keep func(string) bool) string {
	var lines []string
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		if l = strings.TrimSpace(l); l != "" && keep(l) {
			if len(l) > 300 {
				l = l[:300] + "…"
			}
			lines = append(lines, l)
		}
	}
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	if len(lines) == 0 {
		return ""
	}
	return "\n  " + strings.Join(lines, "\n  ")
}

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}
