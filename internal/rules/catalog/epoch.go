package catalog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SetEpoch changes the pseudonym epoch of a purpose in the text of purposes.yaml, and nothing
// else of it: comments, order and spelling stay as their author left them.
func SetEpoch(text []byte, purpose string, epoch int) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) != 1 {
		return nil, errors.New("set epoch: the file is not YAML")
	}
	list := member(doc.Content[0], "purposes")
	if list == nil {
		return nil, errors.New("set epoch: the file has no purposes")
	}
	for _, one := range list.Content {
		name := member(one, "name")
		if name == nil || name.Value != purpose {
			continue
		}
		if old := member(one, "epoch"); old != nil {
			return replaced(text, old, strconv.Itoa(epoch))
		}
		if one.Style == yaml.FlowStyle {
			return replaced(text, name, name.Value+", epoch: "+strconv.Itoa(epoch))
		}
		indent := strings.Repeat(" ", one.Content[0].Column-1)
		lines := strings.SplitAfter(string(text), "\n")
		at := name.Line // after the line of the name
		lines = append(lines[:at], append([]string{indent + "epoch: " + strconv.Itoa(epoch) + "\n"}, lines[at:]...)...)
		return []byte(strings.Join(lines, "")), nil
	}
	return nil, fmt.Errorf("set epoch: there is no purpose %s", purpose)
}

func member(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// replaced puts text in the place of a plain scalar.
func replaced(src []byte, n *yaml.Node, text string) ([]byte, error) {
	lines := strings.SplitAfter(string(src), "\n")
	line := []rune(lines[n.Line-1])
	from := n.Column - 1
	if from > len(line) || !strings.HasPrefix(string(line[from:]), n.Value) || n.Value == "" {
		return nil, errors.New("set epoch: the value stands in a form that is not changed here: write it as a plain number")
	}
	rest := strings.TrimPrefix(string(line[from:]), n.Value)
	lines[n.Line-1] = string(line[:from]) + text + rest
	return []byte(strings.Join(lines, "")), nil
}
