// Package policy answers, with Cedar policies that an operator writes, who may hold, open,
// operate and approve what.
//
// The invariant it keeps: it only narrows. A decision to open is the policy's and the floor's
// (rules/law), and no policy lifts the floor. Policies that do not parse, do not fit the
// schema, or have no @id and @law are an error, and a nil or zero Engine denies. A policy
// that fails while it is evaluated denies: a forbid must not fall away by an error.
//
// It implements the Cedar policy language by cedar-go, with a fixed schema
// (schema.cedarschema) checked strictly. It reads an fs.FS it is given and no clock. It does
// not know who somebody is or where: identity does.
package policy

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed schema.cedarschema
var schemaText []byte

// maxPolicies bounds the text of all policies, in bytes.
const maxPolicies = 4 << 20

// Engine decides by one set of policies. It does not change, and is safe for concurrent use.
// The zero value and nil deny everything.
type Engine struct {
	policies *cedar.PolicySet
	laws     map[string]string // policy id → its @law
	hash     string
}

// Load reads every *.cedar file at the top of fsys. The error names all policies that are
// wrong, with file and line.
func Load(fsys fs.FS) (*Engine, error) {
	names, err := fs.Glob(fsys, "*.cedar")
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	slices.Sort(names)
	files := make([]source, 0, len(names))
	size := 0
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		if size += len(text); size > maxPolicies {
			return nil, fmt.Errorf("read policies: more than %d bytes", maxPolicies)
		}
		files = append(files, source{name, text})
	}
	return newEngine(files)
}

// source is one file of policies.
type source struct {
	name string
	text []byte
}

func newEngine(files []source) (*Engine, error) {
	check, err := newValidator()
	if err != nil {
		return nil, err
	}
	e := &Engine{policies: cedar.NewPolicySet(), laws: map[string]string{}}
	h := sha256.New()
	fmt.Fprintf(h, "schema %d\n%s", len(schemaText), schemaText)
	var wrong []error
	for _, f := range files {
		fmt.Fprintf(h, "%s %d\n%s", f.name, len(f.text), f.text)
		list, err := cedar.NewPolicyListFromBytes(f.name, f.text)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", f.name, err))
			continue
		}
		for _, p := range list {
			if err := e.add(p, check); err != nil {
				wrong = append(wrong, fmt.Errorf("%s:%d: %w", f.name, p.Position().Line, err))
			}
		}
	}
	switch {
	case len(wrong) > 0:
		return nil, fmt.Errorf("load policies: %w", errors.Join(wrong...))
	case len(e.laws) == 0:
		return nil, errors.New("load policies: there is none")
	}
	e.hash = hex.EncodeToString(h.Sum(nil))
	return e, nil
}

// with returns an engine that has the policies of one more file.
func (e *Engine) with(name, text string) (*Engine, error) {
	if e == nil || e.policies == nil {
		return nil, errors.New("no policy is in force")
	}
	check, err := newValidator()
	if err != nil {
		return nil, err
	}
	more := &Engine{policies: cedar.NewPolicySet(), laws: e.Policies(), hash: e.hash}
	for id, p := range e.policies.All() {
		more.policies.Add(id, p)
	}
	list, err := cedar.NewPolicyListFromBytes(name, []byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range list {
		if err := more.add(p, check); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return more, nil
}

// add takes one policy into the set, if it is well formed.
func (e *Engine) add(p *cedar.Policy, check *validate.Validator) error {
	notes := p.Annotations()
	id, law := string(notes["id"]), string(notes["law"])
	switch {
	case id == "":
		return errors.New(`a policy needs @id("…")`)
	case strings.ContainsAny(id, " \t\r\n") || len(id) > 80:
		return fmt.Errorf("policy id %q: at most 80 characters without blanks", id)
	case law == "":
		return fmt.Errorf(`policy %s needs @law("GDPR art. …")`, id)
	case e.laws[id] != "":
		return fmt.Errorf("policy id %s is used twice", id)
	}
	if err := check.Policy(id, (*ast.Policy)(p.AST())); err != nil {
		return fmt.Errorf("policy %s: %w", id, err)
	}
	e.laws[id] = law
	e.policies.Add(cedar.PolicyID(id), p)
	return nil
}

// newValidator checks policies against the schema, strictly.
func newValidator() (*validate.Validator, error) {
	var s schema.Schema
	s.SetFilename("schema.cedarschema")
	if err := s.UnmarshalCedar(schemaText); err != nil {
		return nil, fmt.Errorf("parse policy schema: %w", err)
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("resolve policy schema: %w", err)
	}
	return validate.New(resolved), nil
}

// Hash returns the hex SHA-256 of the schema and all policies in force; "" for a nil Engine.
func (e *Engine) Hash() string {
	if e == nil {
		return ""
	}
	return e.hash
}

// Policies returns the ids of all policies with their @law.
func (e *Engine) Policies() map[string]string {
	out := map[string]string{}
	if e != nil {
		for id, law := range e.laws {
			out[id] = law
		}
	}
	return out
}
