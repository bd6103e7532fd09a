package main

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// write makes files of a directory.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func mustCLI(t *testing.T, args ...string) string {
	t.Helper()
	out, err := cli(t, t.Context(), args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// probed sets up a monitor's directory and a server that its probe may ask, by the commands alone.
func probed(t *testing.T) (dir string, c *pgtest.Cluster, database string) {
	dir, c = t.TempDir(), pgtest.Private(t)
	dsn, err := url.Parse(c.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	database = strings.TrimPrefix(dsn.Path, "/")
	mustCLI(t, "monitor", "init", "--dir", dir, "--name", "monitor.example")
	logKey, err := monitor.NewKey(monitor.UseLog, "example.eu/log", filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	officer := strings.TrimSpace(mustCLI(t, "key", "new", "officer", "--out", filepath.Join(dir, "ada"), "ada"))
	second := strings.TrimSpace(mustCLI(t, "key", "new", "officer", "--out", filepath.Join(dir, "ben"), "ben"))
	rules, err := os.ReadFile(filepath.Join(dir, monitor.RulesFile))
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("\nlogs: []\n", "\nlogs:\n  - { origin: example.eu/log, key: "+logKey+" }\n", "listen: 127.0.0.1:7480", "listen: 127.0.0.1:0").Replace(string(rules)) +
		"\nofficers:\n  - { name: ada, person: ada, key: " + officer + " }\n  - { name: ben, person: ben, key: " + second + " }\n"
	write(t, dir, map[string]string{monitor.RulesFile: filled, "keys/staff": strings.Repeat("k", 32)})

	verifier := strings.TrimSpace(mustCLI(t, "monitor", "probe", "init", "--dir", dir))
	conf := t.TempDir()
	write(t, conf, map[string]string{"enclave.yaml": "version: 1\ndatabases: {app: {site: a, dsn: 'postgres://h/x', dbname: " + database + "}}\n", "datasets.yaml": "version: 1\ndatasets: []\n"})
	var servers []enclave.ProbeServer
	if err := json.Unmarshal([]byte(mustCLI(t, "--json", "-c", filepath.Join(conf, "enclave.yaml"), "check", "--probe", "--verifier", verifier)), &servers); err != nil || len(servers) != 1 {
		t.Fatalf("%d servers, %v", len(servers), err)
	}
	for _, sql := range servers[0].Statements {
		c.Exec(t, c.SuperuserDSN(servers[0].Database), sql)
	}
	text := mustCLI(t, "-c", filepath.Join(conf, "enclave.yaml"), "check", "--probe", "--verifier", verifier)
	if !strings.Contains(text, servers[0].Statements[1]+";\n") {
		t.Errorf("what is printed is not what is reported: %s", text)
	}
	write(t, dir, map[string]string{"probe.yaml": "version: 1\nevery: 50ms\ntargets:\n  - {name: platform, kind: source, dsn: '" +
		c.SocketDSN("trefoil_probe", "", database) + "', password: keys/probe}\n"})
	return dir, c, database
}

// TestProbeCommands installs the probe, enrols, finds a role that was made by hand, and enrols it.
func TestProbeCommands(t *testing.T) {
	dir, c, database := probed(t)
	if code := run(t.Context(), []string{"monitor", "probe", "--dir", dir}); code != exitUnheld {
		t.Errorf("nothing is enrolled: exit code %d", code)
	}
	draft := filepath.Join(dir, "draft.json")
	enrol := func() {
		t.Helper()
		mustCLI(t, "monitor", "enrol", "--dir", dir, "--out", draft, "--peer", "platform: user=postgres address=local")
		mustCLI(t, "monitor", "enrol", "--dir", dir, "--sign", draft, "--key", filepath.Join(dir, "ada"))
	}
	enrol()
	if out, err := cli(t, t.Context(), "monitor", "probe", "--dir", dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if code := run(t.Context(), []string{"monitor", "enrol", "--dir", dir, "--sign", draft, "--key", filepath.Join(dir, "ada")}); code != exitFailed {
		t.Errorf("the same draft again: exit code %d", code)
	}
	if code := run(t.Context(), []string{"monitor", "enrol", "--dir", dir, "--sign", draft, "--key", filepath.Join(dir, "keys", "log")}); code != exitFailed {
		t.Errorf("signed by the monitor's log key: exit code %d", code)
	}
	for _, args := range [][]string{{}, {"--out", draft, "--sign", draft}, {"--sign", draft}, {"--out", draft, "--peer", "nobody: user=x"}} {
		if code := run(t.Context(), append([]string{"monitor", "enrol", "--dir", dir}, args...)); code != exitUsage {
			t.Errorf("enrol %v: exit code %d", args, code)
		}
	}
	c.Exec(t, c.SuperuserDSN(database), "CREATE ROLE mole LOGIN")
	if out, err := cli(t, t.Context(), "monitor", "probe", "--dir", dir); err == nil || !strings.Contains(out, "role mole") {
		t.Errorf("%v\n%s", err, out)
	}
	enrol()
	mustCLI(t, "monitor", "probe", "--dir", dir)
}

// TestARunningMonitorProbes waits for the incident of a role that was made by hand.
func TestARunningMonitorProbes(t *testing.T) {
	dir, c, database := probed(t)
	draft := filepath.Join(dir, "draft.json")
	mustCLI(t, "monitor", "enrol", "--dir", dir, "--out", draft, "--peer", "platform: user=postgres address=local")
	mustCLI(t, "monitor", "enrol", "--dir", dir, "--sign", draft, "--key", filepath.Join(dir, "ben"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := cli(t, ctx, "monitor", "--dir", dir)
		done <- err
	}()
	c.Exec(t, c.SuperuserDSN(database), "CREATE ROLE mole LOGIN")
	store := filepath.Join(dir, monitor.IncidentsDir)
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if found := rulesOf(t, store); len(found) > 0 {
			if found[0] != "probe-role" || len(found) > 1 {
				t.Errorf("incidents: %v", found)
			}
			break
		}
		select {
		case err := <-done:
			t.Fatalf("the monitor ended: %v", err)
		default:
		}
		if time.Since(start) > time.Minute {
			t.Fatal("no incident")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func rulesOf(t *testing.T, dir string) []string {
	t.Helper()
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	s, err := incident.OpenStore(incident.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := s.List(nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, x := range all {
		out = append(out, x.Rule)
	}
	return out
}
