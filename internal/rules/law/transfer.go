package law

import (
	"fmt"
	"slices"
	"time"
)

// qualify says whether the access counts as a transfer, and under which article it may be.
func (d *Data) qualify(out *Assessment, a Access, at time.Time) {
	same := a.Importer.Name != "" && a.Importer.Name == a.Exporter.Name && a.Importer.Country == a.Exporter.Country
	if same && d.countries[a.Importer.Country] {
		out.Law = "GDPR art. 32; EDPB 05/2021"
		return
	}
	decision := d.AdequateAll(a.Regimes, a.Importer.Country, a.Importer.Scopes, at)
	if decision.Domestic && a.Importer.Name != "" {
		out.Law = "GDPR art. 32; EDPB 05/2021" // a separate entity, but at home in every regime
		return
	}
	out.Transfer = true
	inside := out.Zone == ZoneRegion || out.Zone == ZoneAdequate
	if decision.OK && inside && a.Importer.Name != "" {
		out.Article, out.Instrument, out.Law = "45", decision.Reference, "GDPR art. 45"
		return
	}
	if found := pick(a, at); found != nil {
		out.Article, out.Instrument, out.Found, out.Law = "46", found.ID, found, "GDPR art. 46; EDPB 01/2020 use case 2"
		return
	}
	out.Law = "GDPR arts. 44, 46"
	out.Reasons = append(out.Reasons, fmt.Sprintf("no registered art. 46 instrument in date covers importer %q for purpose %q", a.Importer.Name, a.Purpose))
}

// pick returns the first instrument that covers the access: of art. 46, for this importer and
// purpose, in date, with a dated transfer impact assessment.
func pick(a Access, at time.Time) *Instrument {
	for i := range a.Instruments {
		in := &a.Instruments[i]
		switch {
		case in.ID == "" || in.Article != "46" || in.Entity == "" || in.Entity != a.Importer.Name:
		case a.Purpose == "" || !slices.Contains(in.Purposes, a.Purpose):
		case in.From.IsZero() || at.Before(in.From) || (!in.Until.IsZero() && !at.Before(in.Until)):
		case in.TIA == "" || in.TIADate.IsZero() || at.Before(in.TIADate):
		default:
			return in
		}
	}
	return nil
}
