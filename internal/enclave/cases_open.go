package enclave

import (
	"fmt"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
)

// onCase says why somebody may not open a case: who is not named for it, comes after its end,
// or does not hold the grant that it rests on.
func (a *Authoriser) onCase(q gateway.Request, c trefoil.Case, granted bool) *gateway.Refusal {
	no := gateway.Refusal{SQLState: "42501", Law: "GDPR art. 5(1)(b); art. 29", Reason: "policy", Rule: "case-names-nobody-else",
		Message: fmt.Sprintf("case %s is not for you", c.Name), Detail: "A case is opened by those whom it names.",
		Hint: "trefoil request --dataset " + c.Of + " --for 4h"}
	switch {
	case !q.At.Before(c.Until):
		no.Rule, no.Message, no.Detail = "case-over", fmt.Sprintf("case %s is over", c.Name), "Its rows are dropped."
	case !c.Opens(a.rules.StaffKey, q.Principal.ID, q.At):
	case c.Grant != "" && !granted:
		no.Rule, no.Message = "case-grant", fmt.Sprintf("the grant that case %s rests on is not in force", c.Name)
		no.Detail = "It was revoked, has run out, or is for another definition of its dataset."
	default:
		return nil
	}
	return &no
}
