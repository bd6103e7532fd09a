package enclave

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// gatewayName is the common name of the gateway's client certificate.
const gatewayName = "gateway"

// ClusterAddress is how to reach a dataset cluster: Gateway is a DSN with the gateway's
// certificate, Steward one that may build.
type ClusterAddress struct {
	Gateway string
	Steward string
}

// Clusters are the dataset clusters of an enclave, running.
type Clusters struct {
	Addresses map[string]ClusterAddress
	started   []*postgres.Cluster
}

// OpenClusters starts the embedded dataset clusters that do not run yet and returns where
// all of them are.
func (c *Config) OpenClusters(ctx context.Context, logger *slog.Logger) (*Clusters, error) {
	out := &Clusters{Addresses: map[string]ClusterAddress{}}
	for name, cl := range c.Clusters {
		if cl.Embedded == nil {
			out.Addresses[name] = ClusterAddress{Gateway: cl.DSN, Steward: cl.Steward}
			continue
		}
		pg, addr, err := c.embed(ctx, name, cl.Embedded, logger)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start dataset cluster %s: %w", name, err), out.Stop(ctx))
		}
		if pg != nil {
			out.started = append(out.started, pg)
		}
		out.Addresses[name] = addr
	}
	return out, nil
}

// Stop stops the clusters that OpenClusters started; those it found running go on.
func (c *Clusters) Stop(ctx context.Context) error {
	var errs []error
	for _, pg := range c.started {
		errs = append(errs, pg.Stop(ctx, postgres.StopFast))
	}
	return errors.Join(errs...)
}

// embed sets up and starts one cluster. The first result is nil when it ran already.
func (c *Config) embed(ctx context.Context, name string, e *Embedded, logger *slog.Logger) (*postgres.Cluster, ClusterAddress, error) {
	fail := func(err error) (*postgres.Cluster, ClusterAddress, error) { return nil, ClusterAddress{}, err }
	dir := filepath.Join(filepath.Dir(e.Directory), "authority")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(fmt.Errorf("make authority: %w", err))
	}
	authority, err := postgres.NewAuthority(dir, "trefoil", nil)
	if err != nil {
		return fail(err)
	}
	server, err := authority.Server(dir, name, "127.0.0.1", "localhost")
	if err != nil {
		return fail(err)
	}
	client, err := authority.Client(dir, gatewayName)
	if err != nil {
		return fail(err)
	}
	pg, err := postgres.Ensure(ctx, postgres.Options{
		Directory: e.Directory, Bin: e.Bin, Name: "trefoil-" + name, Port: e.Port, Settings: postgres.DatasetSettings(),
		Access: postgres.DatasetAccess(), Logger: logger,
		TLS: &postgres.ServerTLS{Authority: authority.File, Server: server},
	})
	if err != nil {
		return fail(err)
	}
	ran := pg.Running()
	if err := pg.Start(ctx); err != nil {
		return fail(err)
	}
	password, err := stewardPassword(filepath.Join(e.Directory, "steward.password"))
	if err != nil {
		return fail(err)
	}
	if err := postgres.PrepareDatasetCluster(ctx, pg, password); err != nil {
		return fail(err)
	}
	addr := ClusterAddress{
		Gateway: pg.TLSDSN("", "", authority.File, client),
		Steward: pg.SocketDSN(postgres.StewardRole, password, "postgres"),
	}
	if ran {
		pg = nil
	}
	return pg, addr, nil
}

// stewardPassword reads the steward's password, or makes one.
func stewardPassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read steward's password: %w", err)
	}
	raw := make([]byte, 24)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("make steward's password: %w", err)
	}
	password := hex.EncodeToString(raw)
	if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep steward's password: %w", err)
	}
	return password, nil
}
