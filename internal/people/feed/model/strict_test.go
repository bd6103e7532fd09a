package model

import (
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/testkit/treetest"
)

// small is a model with a numeric and a categorical split.
func small() *treetest.Ensemble {
	leaf := func(v float64, n int) *treetest.Node { return &treetest.Node{Value: v, Cover: n} }
	right := &treetest.Node{Feature: 1, Categories: []int{1, 33}, Left: leaf(2, 3), Right: leaf(3, 4), Cover: 7}
	root := &treetest.Node{Feature: 0, Threshold: 0.5, Missing: 2, DefaultLeft: true, Left: leaf(1, 5), Right: right, Cover: 12}
	return &treetest.Ensemble{Features: 2, Categorical: []bool{false, true}, Outputs: 1, Objective: "rank:ndcg", Base: 0.5, Trees: []*treetest.Node{root, leaf(0.25, 1)}}
}

// unsized is the text without tree_sizes, so that a change is seen for what it is.
func unsized(text string) string {
	from := strings.Index(text, "tree_sizes=")
	return text[:from] + text[from+strings.Index(text[from:], "\n")+1:]
}

// refused says whether a file is refused with a message that holds want, and with a line if it
// must have one.
func refused(t *testing.T, what, text, want string, line bool) {
	t.Helper()
	m, err := Read("m", strings.NewReader(text))
	var e *Error
	switch {
	case err == nil:
		t.Errorf("%s: accepted: %+v", what, m.Features)
	case !errors.As(err, &e):
		t.Errorf("%s: %v is no *Error", what, err)
	case !strings.Contains(err.Error(), want):
		t.Errorf("%s: %q does not say %q", what, err, want)
	case line && e.Line == 0:
		t.Errorf("%s: %q has no line", what, err)
	}
}

func TestHostileLightGBMModelsAreRefused(t *testing.T) {
	whole := small().Text()
	if _, err := Read("m", strings.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	text := unsized(whole)
	for _, c := range []struct{ what, old, new, want string }{
		{"a cycle", "left_child=-1 -2", "left_child=-1 0", "its own ancestor"},
		{"a node under itself", "right_child=1 -3", "right_child=0 -3", "its own ancestor"},
		{"a leaf twice", "left_child=-1 -2", "left_child=-1 -1", "two parents"},
		{"a child that is not there", "right_child=1 -3", "right_child=1 -9", "a child that is not there"},
		{"a NaN leaf", "leaf_value=1 2 3", "leaf_value=1 nan 3", "leaf_value: value 1 is no finite number"},
		{"an infinite threshold", "threshold=0.5 0", "threshold=inf 0", "threshold: value 0 is no finite number"},
		{"a number that overflows", "threshold=0.5 0", "threshold=1e999 0", "no finite number"},
		{"a word for a number", "leaf_value=1 2 3", "leaf_value=1 two 3", "no finite number"},
		{"too few values", "leaf_value=1 2 3", "leaf_value=1 2", "leaf_value has 2 values, want 3"},
		{"too many values", "leaf_value=1 2 3", "leaf_value=1 2 3 4", "leaf_value has 4 values, want 3"},
		{"two spaces", "leaf_value=1 2 3", "leaf_value=1  2 3", "leaf_value has 4 values"},
		{"a feature that is not there", "split_feature=0 1", "split_feature=0 2", "a feature that is not there"},
		{"a negative feature", "split_feature=0 1", "split_feature=-1 1", "a feature that is not there"},
		{"an unknown decision type", "decision_type=10 1", "decision_type=12 1", "a type that is not understood"},
		{"a category set that is not there", "threshold=0.5 0", "threshold=0.5 1", "a category set that is not there"},
		{"half a category set", "threshold=0.5 0", "threshold=0.5 0.5", "a category set that is not there"},
		{"a set out of order", "cat_boundaries=0 2", "cat_boundaries=2 0", "out of order"},
		{"a set beyond its words", "cat_boundaries=0 2", "cat_boundaries=0 3", "cat_threshold has 2 values, want 3"},
		{"a set too wide", "cat_threshold=2 2", "cat_threshold=2 4294967296", "no whole number of 32 bits"},
		{"a linear tree", "is_linear=0", "is_linear=1", "linear trees are not read"},
		{"an unknown key in a tree", "is_linear=0", "is_linear=0\nis_spline=1", "unknown key \"is_spline\""},
		{"an unknown key in the head", "label_index=0", "label_index=0\nlink=exp", "unknown key \"link\""},
		{"a key twice", "num_cat=1", "num_cat=1\nnum_cat=1", "comes twice"},
		{"no key", "num_cat=1\n", "", "num_cat is missing"},
		{"another version", "version=v4", "version=v5", "version is not v3 or v4"},
		{"a tree too many leaves", "num_leaves=3", "num_leaves=99999999", "num_leaves is no whole number between"},
		{"a tree without leaves", "num_leaves=3", "num_leaves=0", "num_leaves is no whole number between"},
		{"a tree out of order", "Tree=1", "Tree=2", "want the line \"Tree=1\""},
		{"outputs that do not divide the trees", "num_tree_per_iteration=1", "num_tree_per_iteration=3", "do not divide"},
		{"features without names", "feature_names=Column_0 Column_1", "feature_names=Column_0", "feature_names has 1 values, want 2"},
		{"two features of one name", "feature_names=Column_0 Column_1", "feature_names=a a", "have one name"},
		{"a category outside bounds", "-1:3:1:0", "-1:3:1048576", "feature_infos"},
		{"an end before the end", "end of trees", "", "want the line"},
		{"a negative count", "leaf_count=5 3 4", "leaf_count=5 -3 4", "no count"},
	} {
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: the model does not hold %q", c.what, c.old)
		}
		refused(t, c.what, strings.Replace(text, c.old, c.new, 1), c.want, c.what != "two features of one name" && c.what != "an end before the end")
	}
	refused(t, "a tree changed by hand", strings.Replace(whole, "leaf_value=1 2", "leaf_value=1.5 2", 1), "the file was changed", true)
	refused(t, "a file cut short", text[:strings.Index(text, "Tree=1")], "ends before", true)
	for i := range len(text) {
		if i < strings.Index(text, "end of trees")+len("end of trees") {
			if _, err := Read("m", strings.NewReader(text[:i])); err == nil {
				t.Fatalf("a file cut after %d bytes was accepted", i)
			}
		}
	}
}

func TestHostileXGBoostModelsAreRefused(t *testing.T) {
	text := small().JSON()
	if _, err := Read("m", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, old, new, want string }{
		{"a cycle", `"left_children":[1,-1,3,-1,-1]`, `"left_children":[1,-1,0,-1,-1]`, "its own ancestor"},
		{"a child that is not there", `"left_children":[1,-1,3,-1,-1]`, `"left_children":[1,-1,9,-1,-1]`, "a child that is not there"},
		{"one child only", `"left_children":[1,-1,3,-1,-1]`, `"left_children":[1,-1,-1,-1,-1]`, "a child that is not there"},
		{"a node that hangs on nothing", `"num_nodes":"5"`, `"num_nodes":"6"`, "num_nodes says 6"},
		{"an infinite threshold", `"split_conditions":[0.5,`, `"split_conditions":[Infinity,`, "no finite number"},
		{"a NaN threshold", `"split_conditions":[0.5,`, `"split_conditions":[NaN,`, "no finite number"},
		{"a threshold beyond float32", `"split_conditions":[0.5,`, `"split_conditions":[1e39,`, "no finite number"},
		{"a word for a number", `"split_conditions":[0.5,`, `"split_conditions":["x",`, "want a number"},
		{"a feature that is not there", `"split_indices":[0,`, `"split_indices":[7,`, "splits on feature 7 of 2"},
		{"a negative feature", `"split_indices":[0,`, `"split_indices":[-7,`, "a feature that is not there"},
		{"half a feature", `"split_indices":[0,`, `"split_indices":[0.5,`, "no whole number"},
		{"a category outside bounds", `"categories":[1,33]`, `"categories":[1,1048576]`, "a category outside 0 to"},
		{"a negative category", `"categories":[1,33]`, `"categories":[-1,33]`, "a category outside 0 to"},
		{"categories that are not there", `"categories_sizes":[2]`, `"categories_sizes":[3]`, "are not there"},
		{"a type that does not fit", `"split_type":[0,0,1,0,0]`, `"split_type":[1,0,1,0,0]`, "does not fit"},
		{"vectors as leaves", `"size_leaf_vector":"1"`, `"size_leaf_vector":"3"`, "vectors as leaves"},
		{"an unknown key in a tree", `"default_left":`, `"soft_left":[0],"default_left":`, `unknown key "soft_left"`},
		{"an unknown booster", `"name":"gbtree"`, `"name":"gblinear"`, `booster "gblinear" is not read`},
		{"an unknown objective", `"name":"rank:ndcg"`, `"name":"rank:guess"`, "is not known"},
		{"a base score that is no number", `"base_score":"5E-01"`, `"base_score":"NaN"`, "base_score is no finite number"},
		{"two base scores", `"base_score":"5E-01"`, `"base_score":"[5E-01,1]"`, "another number of values"},
		{"a logit of 2", `"name":"rank:ndcg"`, `"name":"binary:logistic"`, ""},
		{"another version", `"version":[2,1,0]`, `"version":[9,1,0]`, "version is not"},
		{"a tree info of another output", `"tree_info":[0,0]`, `"tree_info":[0,1]`, "adds to output 1 of 1"},
		{"a tree too few", `"num_trees":"2"`, `"num_trees":"3"`, "num_trees says 3"},
		{"a key twice", `"version":`, `"version":[2,0,0],"version":`, "comes twice"},
		{"a second document", "", "", "something follows"},
		{"a deep document", `"best_iteration":"7"`, `"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested deeper"},
	} {
		changed := strings.Replace(text, c.old, c.new, 1)
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: the model does not hold %q", c.what, c.old)
		}
		switch c.what {
		case "a second document":
			changed = text + "{}"
		case "a logit of 2":
			changed, c.want = strings.Replace(changed, `"base_score":"5E-01"`, `"base_score":"2"`, 1), "outside what objective"
		}
		refused(t, c.what, changed, c.want, false)
	}
	for i := range len(text) {
		if _, err := Read("m", strings.NewReader(text[:i])); err == nil {
			t.Fatalf("a document cut after %d bytes was accepted", i)
		}
	}
}

func TestBaseScoresBecomeMargins(t *testing.T) {
	for objective, want := range map[string]float64{"rank:ndcg": 0.25, "reg:squarederror": 0.25,
		"binary:logistic": math.Log(0.25 / 0.75), "count:poisson": math.Log(0.25), "reg:tweedie": math.Log(0.25)} {
		e := small()
		e.Objective, e.Base = objective, 0.25
		for _, text := range []string{e.JSON(), strings.Replace(e.JSON(), `"base_score":"2.5E-01"`, `"base_score":"[2.5E-1]"`, 1)} {
			m, err := Read("m", strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Base(0); math.Abs(got-want) > 1e-6 {
				t.Errorf("%s: the margin of 0.25 is %v, want %v", objective, got, want)
			}
		}
	}
}

// endless is a file of one repeated piece.
type endless struct {
	piece string
	sent  int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && e.sent < 100<<20 {
		c := copy(p[n:], e.piece[e.sent%len(e.piece):])
		n, e.sent = n+c, e.sent+c
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestAModelOfAHundredMegabytesIsRefusedInBoundedMemory reads files that are as large as they
// are cheap to write and dear to hold.
func TestAModelOfAHundredMegabytesIsRefusedInBoundedMemory(t *testing.T) {
	head := "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=0\nobjective=x\nfeature_names=a\nfeature_infos=none\n\n"
	for what, in := range map[string]io.Reader{
		"one line":            &endless{piece: "tree "},
		"empty lines":         io.MultiReader(strings.NewReader(head), &endless{piece: "\n"}),
		"trees without end":   io.MultiReader(strings.NewReader(head), &endless{piece: "Tree=0\nnum_leaves=1\n"}),
		"parameters":          io.MultiReader(strings.NewReader(unsized(small().Text())), &endless{piece: "[x: 1]\n"}),
		"an array of numbers": io.MultiReader(strings.NewReader(`{"version":[`), &endless{piece: "0,"}),
		"arrays in arrays":    io.MultiReader(strings.NewReader(`{"learner":{"attributes":`), &endless{piece: "["}),
		"a string":            io.MultiReader(strings.NewReader(`{"learner":{"attributes":"`), &endless{piece: "x"}),
		"white space":         &endless{piece: " "},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, err := Read("m", in)
		runtime.ReadMemStats(&after)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", what, err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 4*MaxBytes {
			t.Errorf("%s: %d MiB were taken", what, grown>>20)
		}
	}
}

func TestRowsAreReadStrictly(t *testing.T) {
	m, err := Read("m", strings.NewReader(small().Text()))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text  string
		label int
		want  string // of the error; "" if rows are fine
	}{
		{"y\tColumn_1\tColumn_0\n1\t33\tnan\n", 0, ""},
		{"Column_0,Column_1\n0.5,NA\r\n", -1, ""},
		{"", 0, "is empty"},
		{"y\tColumn_0\n", 0, `no column for the model's feature "Column_1"`},
		{"Column_0\tColumn_1\n", 0, `no column for the model's feature "Column_0" (column 0 was taken as the label)`},
		{"y\tColumn_0\tColumn_1\n", -1, `column 0 is named "y": the model has no such feature`},
		{"y\tColumn_0\tColumn_0\n", 0, "comes twice"},
		{"y\tColumn_0\tColumn_1\n1\t2\n", 0, "rows:2: has 2 columns"},
		{"y\tColumn_0\tColumn_1\n1\t2\t3\t4\n", 0, "rows:2: has more than 3 columns"},
		{"y\tColumn_0\tColumn_1\n1\t2\t3\n1\tsecret\t3\n", 0, "rows:3: Column_0: is no number"},
		{"y\tColumn_0\tColumn_1\n1\t\t3\n", 0, "rows:2: Column_0: is empty"},
		{"y\tColumn_0\tColumn_1\n1\t1e999\t3\n", 0, "rows:2: Column_0: is infinite"},
		{"y\tColumn_0\tColumn_1\n1\t-Inf\t3\n", 0, "rows:2: Column_0: is infinite"},
		{"y\tColumn_0\tColumn_1\n", 3, "the label is column 3 of 3"},
	} {
		err := readRows(c.text, m, c.label)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error repeats a value: %v", err)
		}
	}
}

func readRows(text string, m *Model, label int) error {
	rows, err := NewRows("rows", strings.NewReader(text), m, label)
	for err == nil {
		_, err = rows.Next()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func TestCheckRowRefusesInfinities(t *testing.T) {
	m, err := Read("m", strings.NewReader(small().Text()))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range [][]float64{{1}, {1, 2, 3}, {math.Inf(1), 0}, {0, math.Inf(-1)}} {
		if m.CheckRow(row) == nil {
			t.Errorf("a row of %d values was taken", len(row))
		}
	}
	if err := m.CheckRow([]float64{math.NaN(), math.NaN()}); err != nil {
		t.Error(err)
	}
}

// TestXGBoostsOtherSpellingsMeanTheSame: what versions 1 and 3 write differently from version 2.
func TestXGBoostsOtherSpellingsMeanTheSame(t *testing.T) {
	e := small()
	e.Weights = []float32{0.5, 0.25}
	text := e.JSON()
	row := []float64{math.NaN(), 33}
	want := float64(e.ScoreXGBoost(0, row))
	for what, change := range map[string][]string{
		"as it is":                   nil,
		"true and false":             {`"default_left":[1,0,0,0,0]`, `"default_left":[true,false,false,false,false]`},
		"a list of base scores":      {`"base_score":"5E-01"`, `"base_score":"[5E-1]"`, `"version":[2,1,0]`, `"version":[3,1,0]`},
		"weights within the model":   {`"weight_drop":[0.5,0.25]`, `"weight_drop":[0.5,0.25]`, `"tree_info"`, `"weight_drop":[0.5,0.25],"tree_info"`},
		"names of categories":        {`"tree_info"`, `"cats":{"enc":[],"feature_segments":[],"sorted_idx":[]},"tree_info"`},
		"losses that are no numbers": {`"loss_changes":[12`, `"loss_changes":[NaN,-Infinity,12`},
		"spaces and lines":           {`"learner":{`, "\n \t\"learner\" : {\r\n"},
	} {
		changed := text
		for i := 0; i+1 < len(change); i += 2 {
			if !strings.Contains(changed, change[i]) {
				t.Fatalf("%s: the model does not hold %q", what, change[i])
			}
			changed = strings.Replace(changed, change[i], change[i+1], 1)
		}
		m, err := Read("m", strings.NewReader(changed))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got := m.Score(row); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
}
