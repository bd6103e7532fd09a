package policy

import (
	"fmt"
	"testing"

	"github.com/cedar-policy/cedar-go"
	cedarast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// mutant is one policy with one thing changed; nil means it is gone.
type mutant struct {
	what   string
	policy *ast.Policy
}

// mutants inverts a rule in every single way: effect, each condition dropped and negated,
// each operand of a condition dropped and negated, each member of a set dropped, the whole
// rule removed. The scopes' types are implied by the schema.
func mutants(p *ast.Policy) []mutant {
	copyOf := func() *ast.Policy {
		c := *p
		c.Conditions = append([]ast.ConditionType(nil), p.Conditions...)
		return &c
	}
	flipped := copyOf()
	flipped.Effect = !p.Effect
	out := []mutant{{"effect inverted", flipped}, {"removed", nil}}
	for i, c := range p.Conditions {
		dropped := copyOf()
		dropped.Conditions = append(dropped.Conditions[:i:i], dropped.Conditions[i+1:]...)
		negated := copyOf()
		negated.Conditions[i].Condition = !c.Condition
		out = append(out, mutant{fmt.Sprintf("condition %d dropped", i+1), dropped}, mutant{fmt.Sprintf("condition %d negated", i+1), negated})
		for j, body := range variants(c.Body) {
			changed := copyOf()
			changed.Conditions[i].Body = body
			out = append(out, mutant{fmt.Sprintf("condition %d, part %d changed", i+1, j+1), changed})
		}
	}
	return out
}

// variants changes a part of an expression.
func variants(n ast.IsNode) []ast.IsNode {
	not := func(n ast.IsNode) ast.IsNode { return ast.NodeTypeNot{UnaryNode: ast.UnaryNode{Arg: n}} }
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		out := []ast.IsNode{n.Left, n.Right}
		for _, l := range append(variants(n.Left), not(n.Left)) {
			out = append(out, ast.NodeTypeAnd{BinaryNode: ast.BinaryNode{Left: l, Right: n.Right}})
		}
		for _, r := range append(variants(n.Right), not(n.Right)) {
			out = append(out, ast.NodeTypeAnd{BinaryNode: ast.BinaryNode{Left: n.Left, Right: r}})
		}
		return out
	case ast.NodeTypeOr:
		out := []ast.IsNode{n.Left, n.Right}
		for _, l := range append(variants(n.Left), not(n.Left)) {
			out = append(out, ast.NodeTypeOr{BinaryNode: ast.BinaryNode{Left: l, Right: n.Right}})
		}
		for _, r := range append(variants(n.Right), not(n.Right)) {
			out = append(out, ast.NodeTypeOr{BinaryNode: ast.BinaryNode{Left: n.Left, Right: r}})
		}
		return out
	case ast.NodeTypeContains:
		set, ok := n.Left.(ast.NodeTypeSet)
		if !ok {
			return nil
		}
		var out []ast.IsNode
		for i := range set.Elements {
			fewer := append(append([]ast.IsNode(nil), set.Elements[:i]...), set.Elements[i+1:]...)
			out = append(out, ast.NodeTypeContains{BinaryNode: ast.BinaryNode{Left: ast.NodeTypeSet{Elements: fewer}, Right: n.Right}})
		}
		return out
	}
	return nil
}

// TestInvertingAnyRuleFailsACase shows that the corpus holds every rule, and every part of
// it, in place.
func TestInvertingAnyRuleFailsACase(t *testing.T) {
	e, err := Load(Shipped())
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for id, p := range e.policies.All() {
		for _, m := range mutants((*ast.Policy)(p.AST())) {
			changed := &Engine{policies: cedar.NewPolicySet(), laws: e.Policies()}
			for other, q := range e.policies.All() {
				if other != id {
					changed.policies.Add(other, q)
				}
			}
			if m.policy != nil {
				changed.policies.Add(id, cedar.NewPolicyFromAST((*cedarast.Policy)(m.policy)))
			}
			_, failures, err := RunCorpus(changed, Shipped())
			if err != nil {
				t.Fatal(err)
			}
			tried++
			if len(failures) == 0 {
				t.Errorf("%s: %s: no case fails", id, m.what)
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d changes were tried", tried)
	}
	t.Logf("%d changes, each failed a case", tried)
}
