package model

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

// What may stand in the head of a LightGBM model.
func headerKeys() []string {
	return []string{"version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective",
		"feature_names", "monotone_constraints", "feature_infos", "tree_sizes"}
}

const averageOutput = "average_output"

// readLightGBM reads LightGBM's text format. What follows the trees (importances, training
// parameters) does not change a score: it is read over.
func readLightGBM(name string, in *bufio.Reader) (*Model, error) {
	l := &lines{file: name, in: in}
	if err := l.scan(); err != nil {
		return nil, err
	}
	if l.text != "tree" {
		return nil, l.errorf("a LightGBM model begins with the line \"tree\"")
	}
	b, err := l.block(headerKeys(), averageOutput)
	if err != nil {
		return nil, err
	}
	m, sizes, err := l.header(b)
	if err != nil {
		return nil, err
	}
	if err := l.trees(m, sizes); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	return m, nil
}

// header makes the model that the head describes, and returns the trees' sizes in bytes, if any.
func (l *lines) header(b map[string]value) (*Model, []int32, error) {
	if v := b["version"]; v.text != "v3" && v.text != "v4" {
		return nil, nil, l.at(value{line: max(v.line, 1)}, "version is not v3 or v4")
	}
	m := &Model{Format: LightGBM}
	var err error
	if m.Outputs, err = l.whole(b, "num_tree_per_iteration", 1, MaxOutputs); err != nil {
		return nil, nil, err
	}
	if _, err = l.whole(b, "num_class", 1, MaxOutputs); err != nil {
		return nil, nil, err
	}
	last, err := l.whole(b, "max_feature_idx", 0, MaxFeatures-1)
	if err != nil {
		return nil, nil, err
	}
	_, m.Average = b[averageOutput]
	m.Objective, _, _ = strings.Cut(b["objective"].text, " ")
	if err := l.features(m, b, last+1); err != nil {
		return nil, nil, err
	}
	v, ok := b["tree_sizes"]
	if !ok || v.text == "" {
		return m, nil, nil
	}
	sizes, err := list(l, b, "tree_sizes", strings.Count(v.text, " ")+1, parseInt32)
	return m, sizes, err
}

func (l *lines) features(m *Model, b map[string]value, n int) error {
	names, err := list(l, b, "feature_names", n, func(s string) (string, error) {
		if s == "" {
			return "", errors.New("is empty")
		}
		return s, nil
	})
	if err != nil {
		return err
	}
	m.Features = make([]Feature, n)
	infos, err := list(l, b, "feature_infos", n, parseInfo)
	if err != nil {
		return err
	}
	for i := range names {
		m.Features[i] = infos[i]
		m.Features[i].Name = names[i]
	}
	return nil
}

// parseInfo reads "[least:greatest]" of a number, "3:1:2" of categories (-1 is missing), or
// "none" of a feature that no tree uses.
func parseInfo(s string) (Feature, error) {
	if s == "none" || (strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") && strings.Contains(s, ":")) {
		return Feature{}, nil
	}
	f := Feature{Categorical: true}
	for word := range strings.SplitSeq(s, ":") {
		c, err := strconv.Atoi(word)
		if err != nil || c < -1 || c >= MaxCategory {
			return f, errors.New("is neither a range, nor a list of categories, nor \"none\"")
		}
		if c >= 0 {
			f.Categories = append(f.Categories, c)
		}
	}
	return f, nil
}

// trees reads "Tree=0" … "end of trees".
func (l *lines) trees(m *Model, sizes []int32) error {
	words := 0
	for {
		if err := l.scan(); errors.Is(err, io.EOF) {
			return l.errorf("the file ends before the line \"end of trees\"")
		} else if err != nil {
			return err
		}
		n := len(m.trees)
		switch {
		case l.text == "" && n > 0:
			continue
		case l.text == "end of trees":
			return l.ended(m, sizes)
		case l.text != "Tree="+strconv.Itoa(n):
			return l.errorf("want the line \"Tree=%d\" or \"end of trees\"", n)
		case n == MaxTrees:
			return l.errorf("the model has more than %d trees", MaxTrees)
		case sizes != nil && n >= len(sizes):
			return l.errorf("the model has more trees than tree_sizes says")
		}
		from := l.from
		t, err := l.tree(len(m.Features))
		if err != nil {
			return err
		}
		if words += len(t.Sets); words > maxWords {
			return l.errorf("the model's category sets are larger than %d words", maxWords)
		}
		t.Output = n % m.Outputs
		m.trees = append(m.trees, t)
		// A tree's block is followed by one empty line of its own and one of the list's.
		if got := l.next - from + 1; sizes != nil && got != int(sizes[n]) {
			return l.errorf("tree %d has %d bytes, tree_sizes says %d: the file was changed after LightGBM wrote it", n, got, sizes[n])
		}
	}
}

func (l *lines) ended(m *Model, sizes []int32) error {
	n := len(m.trees)
	switch {
	case sizes != nil && n != len(sizes):
		return l.errorf("the model has %d trees, tree_sizes says %d", n, len(sizes))
	case n == 0:
		return l.errorf("the model has no trees")
	case n%m.Outputs != 0:
		return l.errorf("the model has %d trees, which %d outputs do not divide", n, m.Outputs)
	}
	if m.Average {
		m.divisor = float64(n / m.Outputs)
	}
	return nil
}
