package model

import (
	"bufio"
	"math"
	"slices"
	"strconv"
	"strings"
)

// xgb is what an XGBoost document says, before it becomes a Model.
type xgb struct {
	*scanner
	version         []int32
	names, types    []string
	objective       string
	baseScore       string
	features        int // num_feature
	classes, target int
	booster         string
	params          bool // gbtree_model_param was there
	numTrees        int
	trees           []Tree
	info            []int32 // tree_info: the output of each tree
	weights         []float32
	words           int // of all category sets
	kept            *Model
}

// readXGBoost reads XGBoost's JSON model. Keys that do not bear on a score (attributes,
// parameters of the objective) are read over; an unknown key beside the trees is refused.
func readXGBoost(name string, in *bufio.Reader) (*Model, error) {
	x := &xgb{scanner: &scanner{file: name, in: in, line: 1, column: 1}, kept: &Model{Format: XGBoost}}
	err := x.object(func(key string) (err error) {
		switch key {
		case "learner":
			return x.object(x.learner)
		case "version":
			x.version, err = x.wholes("version")
			return err
		}
		return x.unknown("the document", key)
	})
	if err == nil {
		err = x.end()
	}
	if err != nil {
		return nil, err
	}
	return x.model()
}

func (x *xgb) unknown(where, key string) error {
	return x.errorf("unknown key %q in %s: this version of the format is not understood", clip(key), where)
}

func (x *xgb) learner(key string) (err error) {
	switch key {
	case "attributes":
		return x.skip()
	case "feature_names":
		x.names, err = x.texts(key, MaxFeatures)
		return err
	case "feature_types":
		x.types, err = x.texts(key, MaxFeatures)
		return err
	case "learner_model_param":
		return x.object(x.learnerParam)
	case "gradient_booster":
		return x.object(x.boosterKey)
	case "objective":
		return x.object(func(key string) (err error) {
			if key == "name" {
				x.objective, err = x.text()
				return err
			}
			return x.skip()
		})
	}
	return x.unknown("learner", key)
}

func (x *xgb) learnerParam(key string) (err error) {
	switch key {
	case "base_score":
		x.baseScore, err = x.text()
	case "num_class":
		x.classes, err = x.whole(key, 0, MaxOutputs)
	case "num_target":
		x.target, err = x.whole(key, 0, MaxOutputs)
	case "num_feature":
		x.features, err = x.whole(key, 1, MaxFeatures)
	case "boost_from_average":
		return x.skip()
	default:
		return x.unknown("learner_model_param", key)
	}
	return err
}

func (x *xgb) boosterKey(key string) (err error) {
	switch key {
	case "name":
		x.booster, err = x.text()
		if err == nil && x.booster != "gbtree" && x.booster != "dart" {
			return x.errorf("booster %q is not read: only gbtree and dart are", clip(x.booster))
		}
		return err
	case "model":
		return x.object(x.modelKey)
	case "gbtree": // dart wraps it
		return x.object(func(key string) error {
			switch key {
			case "model":
				return x.object(x.modelKey)
			case "name":
				return x.skip()
			}
			return x.unknown("gbtree", key)
		})
	case "weight_drop":
		x.weights, err = x.floats(key)
		return err
	}
	return x.unknown("gradient_booster", key)
}

func (x *xgb) modelKey(key string) (err error) {
	switch key {
	case "gbtree_model_param":
		x.params = true
		return x.object(func(key string) (err error) {
			if key == "num_trees" {
				x.numTrees, err = x.whole(key, 0, MaxTrees)
				return err
			}
			return x.skip()
		})
	case "tree_info":
		x.info, err = x.wholes(key)
		return err
	case "weight_drop":
		x.weights, err = x.floats(key)
		return err
	case "iteration_indptr", "cats":
		return x.skip()
	case "trees":
		return x.array(func(i int) error {
			if i == MaxTrees {
				return x.errorf("the model has more than %d trees", MaxTrees)
			}
			t, err := x.tree(i)
			x.trees = append(x.trees, t)
			return err
		})
	}
	return x.unknown("model", key)
}

// model puts the parts together.
func (x *xgb) model() (*Model, error) {
	m := x.kept
	m.Objective, m.trees, m.Outputs = x.objective, x.trees, max(1, x.classes, x.target)
	if err := x.consistent(); err != nil {
		return nil, err
	}
	m.Features = make([]Feature, x.features)
	for i := range m.Features {
		m.Features[i].Name = "f" + strconv.Itoa(i)
		if len(x.names) > 0 {
			m.Features[i].Name = x.names[i]
		}
		m.Features[i].Categorical = len(x.types) > 0 && x.types[i] == "c"
	}
	for i := range m.trees {
		m.trees[i].Output = int(x.info[i])
		if len(x.weights) > 0 {
			m.trees[i].Weight = float64(x.weights[i])
		}
	}
	var err error
	m.base, err = x.margin(m.Outputs)
	return m, err
}

// consistent checks what needs the whole document.
func (x *xgb) consistent() error {
	fail := func(format string, args ...any) error {
		err := x.errorf(format, args...).(*Error)
		err.Line, err.Column = 0, 0
		return err
	}
	outputs := max(1, x.classes, x.target)
	switch {
	case len(x.version) == 0 || x.version[0] < 1 || x.version[0] > 3:
		return fail("the version is not 1, 2 or 3")
	case x.booster == "":
		return fail("gradient_booster has no name")
	case x.features == 0:
		return fail("learner_model_param has no num_feature")
	case !x.params || len(x.trees) == 0:
		return fail("the model has no trees")
	case len(x.trees) != x.numTrees || len(x.info) != x.numTrees:
		return fail("num_trees says %d: there are %d trees and %d entries of tree_info", x.numTrees, len(x.trees), len(x.info))
	case x.booster == "dart" && len(x.weights) == 0, len(x.weights) > 0 && len(x.weights) != x.numTrees:
		return fail("weight_drop has %d values for %d trees", len(x.weights), x.numTrees)
	case len(x.names) > 0 && len(x.names) != x.features, len(x.types) > 0 && len(x.types) != x.features:
		return fail("num_feature says %d: there are %d names and %d types", x.features, len(x.names), len(x.types))
	case x.classes > 1 && x.target > 1:
		return fail("several classes and several targets at once are not read")
	}
	for i, k := range x.info {
		if k < 0 || int(k) >= outputs {
			return fail("tree_info: tree %d adds to output %d of %d", i, k, outputs)
		}
	}
	for i := range x.trees {
		for j := range x.trees[i].Nodes {
			if f := x.trees[i].Nodes[j].Feature; int(f) >= x.features {
				return fail("tree %d splits on feature %d of %d", i, f, x.features)
			}
		}
	}
	return nil
}

// margin turns the base score into what sums start from, as the objective does.
func (x *xgb) margin(outputs int) ([]float32, error) {
	text := strings.TrimSuffix(strings.TrimPrefix(x.baseScore, "["), "]")
	var base []float32
	for word := range strings.SplitSeq(text, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(word), 32)
		if err != nil || !finite(v) {
			return nil, &Error{File: x.file, Message: "base_score is no finite number"}
		}
		base = append(base, float32(v))
	}
	if len(base) == 1 {
		base = slices.Repeat(base, outputs)
	}
	if len(base) != outputs {
		return nil, &Error{File: x.file, Message: "base_score has another number of values than the model has outputs"}
	}
	link, ok := links(int(x.version[0]))[x.objective]
	if !ok {
		return nil, &Error{File: x.file, Message: "objective " + strconv.Quote(clip(x.objective)) + ": what it makes of base_score is not known"}
	}
	for i, v := range base {
		if base[i] = link(v); !finite(float64(base[i])) {
			return nil, &Error{File: x.file, Message: "base_score is outside what objective " + x.objective + " takes"}
		}
	}
	return base, nil
}

// links says for each objective how a base score becomes a margin.
func links(version int) map[string]func(float32) float32 {
	same := func(v float32) float32 { return v }
	logit := func(v float32) float32 { return float32(-math.Log(float64(1/v - 1))) }
	logarithm := func(v float32) float32 { return float32(math.Log(float64(v))) }
	out := map[string]func(float32) float32{"reg:logistic": logit, "binary:logistic": logit,
		"count:poisson": logarithm, "reg:gamma": logarithm, "reg:tweedie": logarithm, "survival:cox": logarithm, "survival:aft": logarithm}
	for _, name := range []string{"rank:ndcg", "rank:map", "rank:pairwise", "reg:squarederror", "reg:linear", "reg:squaredlogerror",
		"reg:pseudohubererror", "reg:absoluteerror", "reg:quantileerror", "binary:hinge", "multi:softmax", "multi:softprob"} {
		out[name] = same
	}
	if version < 3 { // version 3 changed it between minor releases
		out["binary:logitraw"] = logit
	}
	return out
}
