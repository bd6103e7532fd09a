package model

// Node is one split. A child ≥ 0 is a node, a child < 0 is leaf ^child.
type Node struct {
	Threshold   float64 // numeric: LightGBM goes left at value ≤ threshold, XGBoost at value < threshold
	Feature     int32
	Left, Right int32
	Set         int32 // first word of the category set in Tree.Sets, when categorical
	Words       int32 // 32-bit words of that set
	Kind        Kind
}

// Kind says how a node decides.
type Kind uint8

// What a node does. The first five are LightGBM's, the rest XGBoost's.
const (
	leZeroed       Kind = iota // missing type none: NaN counts as 0
	leZeroLeft                 // zero and NaN are missing, and go left
	leZeroRight                // zero and NaN are missing, and go right
	leNaNLeft                  // NaN goes left
	leNaNRight                 // NaN goes right
	inSetLeft                  // category in the set: left; all else, NaN too: right
	ltNaNLeft                  // float32: value < threshold left; NaN left
	ltNaNRight                 // float32: value < threshold left; NaN right
	inSetRightNaNL             // category in the set: right; outside: left; NaN left
	inSetRightNaNR             // category in the set: right; outside: left; NaN right
)

// Categorical says whether the node asks for a category.
func (k Kind) Categorical() bool { return k == inSetLeft || k == inSetRightNaNL || k == inSetRightNaNR }

// Tree is one tree. Without nodes it is its only leaf.
type Tree struct {
	Output int // the score it adds to
	Nodes  []Node
	Sets   []uint32  // bit sets of categories
	Leaves []float64 // values, with the model's shrinkage or DART weight not yet applied: see Weight
	Weight float64   // factor of the leaves: XGBoost's DART weight, else 1

	NodeCover, LeafCover []float64 // training rows (LightGBM) or Hessian (XGBoost) that passed
}
