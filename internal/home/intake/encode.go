package intake

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// EncodeCatalog writes catalog.yaml: one line a column, so that review is reading down.
func EncodeCatalog(c *catalog.Catalog) ([]byte, error) { return encode(c) }

// EncodeDatasets writes datasets.yaml, likewise.
func EncodeDatasets(d *catalog.Datasets) ([]byte, error) { return encode(d) }

// EncodePurposes writes purposes.yaml.
func EncodePurposes(p *catalog.Purposes) ([]byte, error) { return encode(p) }

func encode(v any) ([]byte, error) {
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		return nil, fmt.Errorf("encode file: %w", err)
	}
	compact(&n, "")
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return nil, fmt.Errorf("encode file: %w", err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("encode file: %w", err)
	}
	return b.Bytes(), nil
}

// compact puts columns, references, subjects and rows on one line each, and leaves out what
// is empty: an empty category is said by leaving it out.
func compact(n *yaml.Node, key string) {
	switch n.Kind {
	case yaml.MappingNode:
		kept := n.Content[:0:0]
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			compact(v, k.Value)
			if v.Kind == yaml.ScalarNode && v.Tag == "!!str" && v.Value == "" && key != "text" {
				continue
			}
			kept = append(kept, k, v)
		}
		n.Content = kept
		if key == "columns" || key == "references" || key == "subject" || key == "rows" {
			n.Style |= yaml.FlowStyle
		}
	case yaml.SequenceNode:
		scalars := len(n.Content) > 0
		for _, v := range n.Content {
			compact(v, key)
			scalars = scalars && v.Kind == yaml.ScalarNode
		}
		if scalars {
			n.Style |= yaml.FlowStyle
		}
	}
}
