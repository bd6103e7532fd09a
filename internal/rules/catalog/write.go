package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const catalogHead = `The personal data of one database: what each column is, and whose each row is.
A column counts as withheld until somebody has looked at it and set reviewed: true.
Categories: identifier, contact, location, content, behaviour, device, financial, special.
Traits: birth, time, key, typed (users write it), neutral (about no person), residence.
Columns of one domain get the same pseudonyms and join.`

const datasetsHead = `What each purpose may see: a database of its own a dataset, with these columns in these
forms and nothing else. Forms: clear, generalised (by: year, month, day, hour, prefix:N, net,
bucket:N, lookup), pseudonymised, withheld. A column that is not listed is withheld.`

const purposesHead = `Why data may be looked at: each purpose with its legal basis and a sentence that people
can read. A new epoch gives a purpose new pseudonyms at the next build.`

// MarshalCatalog writes catalog.yaml for review: one column a line, those that nobody has
// looked at under a comment with the reason for the guess. ParseCatalog reads it back as it
// was.
func MarshalCatalog(c *Catalog) ([]byte, error) {
	return marshal(c, catalogHead, func(root *yaml.Node) {
		tables := child(root, "tables")
		for i, t := range items(tables) {
			flow(child(t, "subject"))
			for _, r := range items(child(t, "references")) {
				flow(r)
			}
			open := 0
			for j, col := range items(child(t, "columns")) {
				flow(col)
				if !c.Tables[i].Columns[j].Reviewed {
					open++
					col.HeadComment = comment("review: ", c.Tables[i].Columns[j].Why)
				}
			}
			t.HeadComment = fmt.Sprintf("# %d columns, %d to review", len(c.Tables[i].Columns), open)
		}
	})
}

// MarshalDatasets writes datasets.yaml. Notes are comments by dataset name, or by
// dataset/schema.table.column; they may be nil. ParseDatasets reads it back as it was.
func MarshalDatasets(d *Datasets, notes map[string]string) ([]byte, error) {
	return marshal(d, datasetsHead, func(root *yaml.Node) {
		for i, ds := range items(child(root, "datasets")) {
			one := &d.Datasets[i]
			ds.HeadComment = comment("", notes[one.Name])
			flow(child(child(ds, "rows"), "residence"))
			for j, t := range items(child(ds, "tables")) {
				for k, col := range items(child(t, "columns")) {
					dc := &one.Tables[j].Columns[k]
					if len(dc.Lookup) == 0 && len(dc.Paths) == 0 {
						flow(col)
					}
					col.HeadComment = comment("", notes[one.Name+"/"+one.Tables[j].Table+"."+dc.Name])
				}
			}
		}
	})
}

// MarshalPurposes writes purposes.yaml. ParsePurposes reads it back as it was.
func MarshalPurposes(p *Purposes) ([]byte, error) {
	return marshal(p, purposesHead, func(*yaml.Node) {})
}

// marshal encodes v with a head comment, after dress has set styles and comments.
func marshal(v any, head string, dress func(*yaml.Node)) ([]byte, error) {
	var root yaml.Node
	if err := root.Encode(v); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	if !allText(&root) {
		return nil, errors.New("write YAML: a name or text is not valid UTF-8")
	}
	dress(&root)
	var buf bytes.Buffer
	for line := range strings.SplitSeq(head, "\n") {
		buf.WriteString("# " + line + "\n")
	}
	buf.WriteByte('\n')
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return buf.Bytes(), nil
}

// allText reports whether every scalar is valid UTF-8; YAML would turn another into base64.
func allText(n *yaml.Node) bool {
	if n.Tag == "!!binary" || !utf8.ValidString(n.Value) {
		return false
	}
	for _, c := range n.Content {
		if !allText(c) {
			return false
		}
	}
	return true
}

// child returns the value of a key in a mapping, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// items returns the items of a sequence; none for nil.
func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// flow puts a node on one line.
func flow(n *yaml.Node) {
	if n == nil {
		return
	}
	n.Style |= yaml.FlowStyle
	for _, c := range n.Content {
		c.HeadComment, c.LineComment, c.FootComment = "", "", ""
	}
}

// comment is one comment line, or "" for no text.
func comment(lead, text string) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)), " ")
	if text == "" {
		if lead == "" {
			return ""
		}
		return "# " + strings.TrimSuffix(lead, ": ")
	}
	return "# " + lead + text
}
