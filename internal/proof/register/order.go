package register

import (
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// OrderResult is what one log's records from Begin up to End say of a country.
type OrderResult struct {
	Origin       string    `json:"origin"`
	Begin        uint64    `json:"begin"`
	End          uint64    `json:"end"`             // first record that is not covered
	Before       time.Time `json:"before"`          // everything from Begin on was logged after it; year 1: Begin is 0
	Until        time.Time `json:"until"`           // when the log's head was cosigned
	To           []uint64  `json:"to"`              // records by which something went to the country, at most 1,000
	Of           int64     `json:"to_count"`        // how many they are
	NotPermitted []uint64  `json:"not_permitted"`   // asked for from there, and permitted never; at most 1,000
	Unknown      []uint64  `json:"unknown"`         // something went out and employer, workplace or importer is unknown; at most 1,000
	NoBody       []uint64  `json:"no_body"`         // the body is deleted or was never given: nothing can be said; at most 1,000
	NoNetwork    int64     `json:"network_unknown"` // something went out, and the network's country is unknown
	Refused      int64     `json:"refused"`         // refusals to the country
}

// maxNamed bounds how many records a result names of each sort.
const maxNamed = 1000

// Holds reports whether none of the records went to the country: all are there, all say where.
func (o *OrderResult) Holds() bool {
	return o.Of == 0 && len(o.Unknown) == 0 && len(o.NoBody) == 0
}

// NewOrderResult returns a result with nothing in it.
func NewOrderResult(origin string, begin, end uint64) *OrderResult {
	return &OrderResult{Origin: origin, Begin: begin, End: end, To: []uint64{}, NotPermitted: []uint64{}, Unknown: []uint64{}, NoBody: []uint64{}}
}

// Add takes the record at index; nil: its body is not there.
func (o *OrderResult) Add(index uint64, r *Record, country string) {
	name := func(list *[]uint64) {
		if len(*list) < maxNamed {
			*list = append(*list, index)
		}
	}
	if r == nil {
		name(&o.NoBody)
		return
	}
	if r.Body.Refusal != nil && reaches(&r.Body.Refusal.Access, country) {
		o.Refused++
	}
	a := lettingOut(r)
	if a == nil {
		return
	}
	p := Places(a)
	switch {
	case reaches(a, country) && !LetOut(r):
		name(&o.NotPermitted)
	case reaches(a, country):
		o.Of++
		name(&o.To)
	case !LetOut(r):
	case p["importer"] == "" || p["employer"] == "" || p["workplace"] == "":
		name(&o.Unknown)
	case p["network"] == "":
		o.NoNetwork++
	}
}

// reaches reports whether an access counts as being in the country by any of its places.
func reaches(a *trefoil.Access, country string) bool {
	return a.Importer.Country == country || slices.ContainsFunc(a.Location, func(p trefoil.Place) bool { return p.Country == country })
}

// lettingOut is the access of a record under which bytes left or could leave: releases, what
// services did, and both ends of a session.
func lettingOut(r *Record) *trefoil.Access {
	switch b := r.Body; {
	case b.Release != nil:
		return &b.Release.Access
	case b.Summary != nil:
		return &b.Summary.Access
	case b.Session != nil && (b.Session.Event == "start" || b.Session.Released+b.Session.Covered > 0):
		return &b.Session.Access
	}
	return nil
}
