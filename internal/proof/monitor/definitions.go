package monitor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/trefoil-eu/trefoil"
)

// Definitions are the definitions of datasets that records published, by dataset: each once, the
// oldest first. Those of a dataset end with the record that it was dropped. Published is less than
// acknowledged: it says what a database may hold without being found, not what may be released.
type Definitions map[string][]*trefoil.Definition

// note takes one catalog record.
func (d Definitions) note(c *trefoil.CatalogBody) {
	switch {
	case c == nil || c.Definition == nil || c.Hash != trefoil.DefinitionHash(c.Definition):
	case c.Event == "dropped":
		delete(d, c.Definition.Name)
	default:
		if !slices.ContainsFunc(d[c.Definition.Name], func(old *trefoil.Definition) bool { return trefoil.DefinitionHash(old) == c.Hash }) {
			d[c.Definition.Name] = append(d[c.Definition.Name], c.Definition)
		}
	}
}

// noteRaw takes the body of one catalog record.
func (d Definitions) noteRaw(raw []byte) error {
	b, err := trefoil.DecodeBody(raw)
	if err != nil {
		return fmt.Errorf("decode published definition: %w", err)
	}
	d.note(b.Catalog)
	return nil
}

// Definitions returns the definitions that the watched logs publish now.
func (m *Monitor) Definitions() Definitions {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	out := maps.Clone(m.state.published)
	for name, of := range out {
		out[name] = slices.Clone(of)
	}
	return out
}

// ReadDefinitions reads the published definitions from the mirror in dir, a monitor's directory.
// It changes nothing, and may run beside the monitor.
func ReadDefinitions(dir string) (Definitions, error) {
	all, err := Records(dir)
	if errors.Is(err, os.ErrNotExist) {
		return Definitions{}, nil // it has never run: nothing is published
	}
	if err != nil {
		return nil, fmt.Errorf("read published definitions: %w", err)
	}
	out := Definitions{}
	for _, r := range all {
		out.note(r.Body.Catalog)
	}
	return out, nil
}
