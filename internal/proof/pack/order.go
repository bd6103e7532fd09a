package pack

import (
	"encoding/json"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/register"
)

// Order is order.json: the statement that nothing went to a country since a time.
type Order struct {
	Country string                  `json:"country"`
	Since   time.Time               `json:"since"`
	Holds   bool                    `json:"holds"`
	Logs    []*register.OrderResult `json:"logs"`
}

// order recomputes what order.json states from the records that are packed with it.
func (v *verifier) order(*Manifest) error {
	var stated Order
	if err := v.json("order.json", &stated); err != nil {
		return err
	}
	if len(stated.Logs) != len(v.keys.Logs) {
		return failed("order.json leaves out a log")
	}
	holds := true
	for i, l := range v.keys.Logs {
		got, err := v.orderLog(l, &stated)
		if err != nil {
			return err
		}
		if !same(got, stated.Logs[i]) {
			return failed("order.json states of %s what its records do not say", l.Origin)
		}
		holds = holds && got.Holds()
	}
	if holds != stated.Holds {
		return failed("order.json does not state what the records say")
	}
	if !holds {
		return failed("the order does not hold: something went to %s, or cannot be excluded; order.json names the records", stated.Country)
	}
	v.caveat("that no byte left without a record: that takes the valve and egress totals")
	return nil
}

func (v *verifier) orderLog(l LogKey, o *Order) (*register.OrderResult, error) {
	dir := "logs/" + l.Hash
	got := register.NewOrderResult(l.Origin, 0, 0)
	p, err := v.run(dir, v.logs[l.Hash], func(r *packedRecord) error {
		if r.body == nil {
			got.Add(r.index, nil, o.Country)
			return nil
		}
		got.Add(r.index, &register.Record{Origin: l.Origin, Index: r.index, Leaf: r.hash, Body: r.body, Permitted: r.permit}, o.Country)
		return nil
	})
	if err != nil {
		return nil, err
	}
	v.used[dir+"/records.jsonl"] = true
	got.Begin, got.End, got.Until = p.Begin, p.End, cosigned(p.checkpoint)
	switch {
	case p.End != p.checkpoint.Size:
		return nil, failed("the records of %s end before its head", l.Origin)
	case p.before == nil && p.Begin != 0:
		return nil, failed("nothing shows that the records of %s begin early enough", l.Origin)
	case p.before != nil:
		got.Before = cosigned(p.before)
		if got.Before.After(o.Since) {
			return nil, failed("the records of %s begin after the time that the order is about", l.Origin)
		}
	}
	since := "from the log's beginning"
	if p.before != nil {
		since = "everything that was logged after " + got.Before.Format(time.RFC3339)
	}
	if got.Holds() {
		v.prove("since %s none of %s (%s) went to %s; head cosigned at %s", o.Since.Format(time.RFC3339), p.text(), since, o.Country, got.Until.Format(time.RFC3339))
	}
	if n := len(got.NotPermitted); n > 0 {
		v.caveat("that %d records of %s which ask for a release to %s let nothing out: no permit is here, and the monitor says it gave none", n, l.Origin, o.Country)
	}
	if got.NoNetwork > 0 {
		v.caveat("where %d sessions' networks of %s were: no country is recorded for them; employer and workplace are", got.NoNetwork, l.Origin)
	}
	return got, nil
}

// cosigned is when the witness signed last.
func cosigned(c *trefoil.Checkpoint) time.Time {
	if len(c.Witnessed) == 0 {
		return time.Time{}
	}
	return c.Witnessed[len(c.Witnessed)-1].At
}

// same compares two values by their JSON.
func same(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}
