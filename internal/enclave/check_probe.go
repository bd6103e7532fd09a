package enclave

import (
	"fmt"
	"maps"
	"slices"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// ProbeServer is what a superuser of one server runs, once, for the monitor's probe.
type ProbeServer struct {
	Server     string   `json:"server"`        // a database or dataset cluster of enclave.yaml
	Database   string   `json:"database"`      // connect to this one
	How        string   `json:"how,omitempty"` // how a superuser gets there, where Trefoil runs the server itself
	Statements []string `json:"statements"`
	Built      []string `json:"built,omitempty"` // for each dataset that was built before; later builds do it themselves
}

// ProbeInstall lists the statements that let the monitor's probe ask each server of an enclave.
// Verifier is the SCRAM verifier that the monitor gave. It connects to nothing.
func ProbeInstall(path, verifier string) ([]ProbeServer, error) {
	c, _, err := LoadLenient(path)
	if err != nil {
		return nil, err
	}
	src, err := readBounded(c.Datasets)
	if err != nil {
		return nil, fmt.Errorf("read datasets: %w", err)
	}
	datasets, _, err := catalog.ParseDatasets(c.Datasets, src)
	if err != nil {
		return nil, err
	}
	var out []ProbeServer
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		database := c.Databases[name].DBName
		if database == "" {
			database = name
		}
		out = append(out, ProbeServer{Server: "database " + name, Database: database, Statements: install.Statements(database, verifier)})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Clusters)) {
		p := ProbeServer{Server: "dataset cluster " + name, Database: "postgres", Statements: install.Statements("postgres", verifier)}
		if e := c.Clusters[name].Embedded; e != nil {
			p.How = fmt.Sprintf("psql, by the socket of the cluster in %s as postgres; the password is in superuser.password there", e.Directory)
		}
		for _, d := range datasets.Datasets {
			if d.Cluster == name {
				p.Built = append(p.Built, install.Enter(d.Name))
			}
		}
		out = append(out, p)
	}
	return out, nil
}
