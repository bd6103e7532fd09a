package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// Bounds of a condition.
const (
	maxCondition     = 4096   // bytes of text
	maxConditionCost = 10_000 // CEL cost units of one evaluation
)

// ErrUndecided says that a condition had no answer for a row: a NULL or a value that does
// not fit. The row is not chosen; the caller should count it.
var ErrUndecided = errors.New("condition has no answer for this row")

// Condition chooses subjects by a CEL expression over columns of the person table, for
// example person.plan == "pro". It is safe for concurrent use.
type Condition struct {
	program cel.Program
	columns []string
}

// CompileCondition checks text against the columns it may read: name → PostgreSQL type, as
// format_type prints it. Dates and timestamps are CEL timestamps, whole numbers int, other
// numbers double, truth values bool, and text, uuid and addresses string; enums and what is
// not PostgreSQL's own are compared as they come. Documents and arrays cannot be named. The result must be true or false.
func CompileCondition(text string, columns map[string]string) (*Condition, error) {
	if len(text) > maxCondition {
		return nil, fmt.Errorf("compile condition: longer than %d bytes", maxCondition)
	}
	options := []cel.EnvOption{}
	names := make([]string, 0, len(columns))
	for name, pgType := range columns {
		if t := celType(pgType); t != nil && isIdentifier(name) {
			options = append(options, cel.Variable("person."+name, t))
			names = append(names, name)
		}
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("compile condition: %w", err)
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, fmt.Errorf("compile condition: %s", firstIssue(issues))
	}
	if out := ast.OutputType(); out != cel.BoolType && !out.IsExactType(cel.NullableType(cel.BoolType)) {
		return nil, errors.New("compile condition: the result is not true or false")
	}
	program, err := env.Program(ast, cel.CostLimit(maxConditionCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("compile condition: %w", err)
	}
	used := referenced(ast, names)
	if len(used) == 0 {
		return nil, errors.New("compile condition: no column of the person table is named (write person.column)")
	}
	return &Condition{program: program, columns: used}, nil
}

// Columns returns the columns that the condition reads, sorted.
func (c *Condition) Columns() []string { return slices.Clone(c.columns) }

// Eval answers for one person: column → value, as bool, int64, float64, string or time.Time;
// nil for NULL. No answer is false with ErrUndecided; the error repeats no value.
func (c *Condition) Eval(row map[string]any) (bool, error) {
	vars := make(map[string]any, len(c.columns))
	for _, name := range c.columns {
		value, ok := row[name]
		if !ok || value == nil {
			vars["person."+name] = types.NullValue
			continue
		}
		vars["person."+name] = value
	}
	out, _, err := c.program.Eval(vars)
	if err != nil {
		return false, ErrUndecided
	}
	answer, ok := out.Value().(bool)
	if !ok {
		return false, ErrUndecided
	}
	return answer, nil
}

// referenced lists which of names the checked expression reads.
func referenced(ast *cel.Ast, names []string) []string {
	var used []string
	for _, ref := range ast.NativeRep().ReferenceMap() {
		name, ok := strings.CutPrefix(ref.Name, "person.")
		if ok && slices.Contains(names, name) && !slices.Contains(used, name) {
			used = append(used, name)
		}
	}
	slices.Sort(used)
	return used
}

// firstIssue is CEL's first finding, on one line and without the source's text, in which
// there may be values.
func firstIssue(issues *cel.Issues) string {
	if all := issues.Errors(); len(all) > 0 {
		e := all[0]
		msg, _, _ := strings.Cut(e.Message, "\n")
		if strings.HasPrefix(msg, "Syntax error") {
			msg = "syntax error" // the rest quotes the text
		}
		return fmt.Sprintf("column %d: %s", e.Location.Column()+1, msg)
	}
	return "not a condition"
}

// celType maps a PostgreSQL type, or nil where a condition cannot read it. Every type may be
// null, so that a condition can ask for it.
func celType(pgType string) *cel.Type {
	base, array := splitType(pgType)
	if array {
		return nil
	}
	switch familyOf(base) {
	case familyBool:
		return cel.NullableType(cel.BoolType)
	case familyInt:
		return cel.NullableType(cel.IntType)
	case familyNumber:
		return cel.NullableType(cel.DoubleType)
	case familyText, familyUUID, familyNet:
		return cel.NullableType(cel.StringType)
	case familyOther:
		return cel.DynType // an enum, or a domain whose base is not given
	case familyDate, familyStamp:
		return cel.NullableType(cel.TimestampType)
	}
	return nil
}

// isIdentifier reports whether name can be written after "person." in CEL.
func isIdentifier(name string) bool {
	for i, r := range name {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}
