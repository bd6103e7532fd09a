// Package model reads tree models that an operator trained elsewhere and scores rows with them.
//
// The invariant it keeps: a file that is not wholly understood is refused, with the line; what
// is read gives the score that its own library gives (LightGBM's in float64, XGBoost's in
// float32 with XGBoost's order of additions). A model does not change after it was read.
//
// It implements LightGBM's text format v3 and v4 (with the decisions of LightGBM 4) and
// XGBoost's JSON format of 1.3 and later (gbtree and dart). It does not train, transforms no
// raw score into a probability, and refuses linear trees, vector leaves and gblinear.
package model

import (
	"fmt"
	"math"
	"slices"
	"sync"
)

// Bounds of what is read. A model beyond them is refused before it takes more memory than that.
const (
	MaxBytes    = 64 << 20 // of a model file
	MaxFeatures = 1 << 16
	MaxTrees    = 1 << 17
	MaxOutputs  = 1 << 10
	MaxDepth    = 512     // splits between a tree's root and a leaf
	MaxCategory = 1 << 20 // a category is a whole number below it
	maxWords    = 1 << 22 // 32-bit words of category sets in one model
	maxKnown    = 1 << 21 // categories of all features together
	maxNodes    = 1 << 21 // splits of one tree
)

// Format is the library a model comes from.
type Format string

// The formats that are read.
const (
	LightGBM Format = "lightgbm"
	XGBoost  Format = "xgboost"
)

// Feature is one column of a row.
type Feature struct {
	Name        string // as the model names it; "Column_3" or "f3" where it names none
	Categorical bool   // a split or the model's own table takes it as a category
	Categories  []int  // ascending: the categories that the model knows. Nil if numeric
}

// Model is an ensemble of trees. It is safe for concurrent use.
type Model struct {
	Format    Format
	Objective string    // as the file names it, without parameters: lambdarank, binary:logistic, …
	Outputs   int       // scores a row has: 1, or the number of classes or targets
	Average   bool      // scores are means over trees, not sums (LightGBM random forest)
	Features  []Feature // in the order of a row's values
	Hash      string    // hex SHA-256 of the file's bytes

	trees   []Tree    // LightGBM's: output k has trees k, k+Outputs, …
	base    []float32 // XGBoost's starting margin of each output; nil otherwise
	divisor float64   // 1, or trees an output where Average
	quick   *quick    // nil: walk every tree
	pool    sync.Pool // of *[]uint64, a word for each of quick's trees
}

// Trees returns the model's trees in their order. They must not be changed.
func (m *Model) Trees() []Tree { return m.trees }

// Index returns the position of a feature in a row, or -1.
func (m *Model) Index(name string) int {
	return slices.IndexFunc(m.Features, func(f Feature) bool { return f.Name == name })
}

// Names returns the features' names in the order of a row's values.
func (m *Model) Names() []string {
	names := make([]string, len(m.Features))
	for i, f := range m.Features {
		names[i] = f.Name
	}
	return names
}

// CheckRow says why a row cannot be scored: wrong length or an infinity. NaN is a missing value.
// It names the feature and not its value.
func (m *Model) CheckRow(row []float64) error {
	if len(row) != len(m.Features) {
		return fmt.Errorf("a row has %d values, the model has %d features", len(row), len(m.Features))
	}
	for i, v := range row {
		if math.IsInf(v, 0) {
			return fmt.Errorf("feature %s is infinite", m.Features[i].Name)
		}
	}
	return nil
}
