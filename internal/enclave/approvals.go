package enclave

import (
	"fmt"
	"net"

	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// validateApprovals checks approvers' keys and the rules of who has to approve what. Persons
// come with people.yaml: trefoil check looks again with them.
func (c *Config) validateApprovals(bad func(string, string, ...any)) {
	book := grant.Book{Rules: c.Approvals}
	for i, a := range c.Approvers {
		at := fmt.Sprintf("approvers[%d]", i)
		known := grant.Approver{Name: a.Name}
		if a.Name == "" {
			bad(at+".name", "is missing")
		}
		if v, err := grant.NewVerifier(a.Key); err == nil { // a key that is none is said when the rules are read
			known.Verifier = v
		}
		if _, _, err := grant.ParseTerm(a.From, a.Until); err != nil {
			bad(at+".until", "%v", err)
		}
		if a.Principal != "" {
			known.Persons = []string{a.Principal}
		}
		book.Approvers = append(book.Approvers, known)
	}
	for _, f := range book.Faults() {
		bad("approvals"+f.Path, "%s", f.Text)
	}
	if a := c.Gateway.API; a != "" {
		if _, _, err := net.SplitHostPort(a); err != nil {
			bad("gateway.api", "%q is not host:port", a)
		}
	}
	names := map[string]bool{}
	for i, a := range c.Callers {
		at := fmt.Sprintf("callers[%d]", i)
		if a.Name == "" || names[a.Name] {
			bad(at+".name", "is missing or given twice")
		}
		names[a.Name] = true
		if _, err := grant.NewVerifier(a.Key); err != nil {
			bad(at+".key", "is not a verifier key")
		}
		if len(a.Principals) == 0 {
			bad(at+".principals", `names nobody; "*" is everybody in people.yaml`)
		}
	}
}
