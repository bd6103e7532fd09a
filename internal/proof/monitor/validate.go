package monitor

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/strict"
	"golang.org/x/mod/sumdb/note"
)

var (
	countryCode = regexp.MustCompile(`^[A-Z]{2}$`)
	hashHex     = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// checker collects findings with their places.
type checker struct {
	pos  *strict.Positions
	errs strict.Errors
}

func (c *checker) want(ok bool, path, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, c.pos.Errorf(path, format, args...))
	}
}

func (c *checker) country(path, v string) {
	c.want(countryCode.MatchString(v), path, "must be an ISO 3166-1 alpha-2 country")
}

func (c *checker) date(path, v string, optional bool) {
	if optional && v == "" {
		return
	}
	_, err := time.Parse(time.DateOnly, v)
	c.want(err == nil, path, "must be a date, YYYY-MM-DD")
}

// validate reports everything that is wrong with the rules.
func (r *Rules) validate(pos *strict.Positions) strict.Errors {
	c := &checker{pos: pos}
	c.want(r.Version == 1, "version", "must be 1")
	c.want(r.Name != "", "name", "is missing")
	c.want(r.Token != "", "token", "is missing: the file that holds the callers' token")
	c.want((r.Certificate == "") == (r.ServerKey == ""), "certificate", "certificate and server_key go together")
	c.want(r.StaffKey != "", "staff_key", "is missing: the file that maps principals to pseudonyms")
	c.want(r.Valve == "" || r.Valve == ValveRequired, "valve", "must be required, or not there")
	c.want(r.Valve == "" || r.ValveToken != "", "valve_token", "is missing: the file that holds the valve's token")
	r.validateLogs(c)
	r.validateParties(c)
	if r.Anomalies != nil {
		r.Anomalies.Validate(func(path, text string) { c.want(false, "anomalies."+path, "%s", text) })
	}
	r.validateDatasets(c)
	r.validateServices(c)
	r.validateOfficers(c)
	for path, v := range map[string]string{"clock_doubt": r.ClockDoubt, "permit_term": r.PermitTerm, "follow": r.Follow, "grace": r.Grace} {
		if v == "" {
			continue
		}
		d, err := time.ParseDuration(v)
		c.want(err == nil && d > 0 && d <= 24*time.Hour, path, "must be a duration such as 60s")
		c.want(path != "permit_term" || d <= 10*time.Minute, path, "must be at most 10m")
	}
	for path, hashes := range map[string][]string{"policies": r.Policies, "catalogs": r.Catalogs, "binaries": r.Binaries} {
		for i, h := range hashes {
			c.want(hashHex.MatchString(h), fmt.Sprintf("%s[%d]", path, i), "must be a hex SHA-256")
		}
	}
	for path, v := range map[string]int64{"chunk_bytes": r.Ceilings.ChunkBytes, "chunk_rows": r.Ceilings.ChunkRows,
		"session_bytes": r.Ceilings.SessionBytes, "allowance": r.Ceilings.Allowance,
		"principal_day_bytes": r.Ceilings.PrincipalDayBytes, "principal_day_rows": r.Ceilings.PrincipalDayRows, "grant_bytes": r.Ceilings.GrantBytes,
		"grant_rows": r.Ceilings.GrantRows, "day_bytes": r.Ceilings.DayBytes, "day_rows": r.Ceilings.DayRows} {
		c.want(v >= 0, "ceilings."+path, "must not be negative")
	}
	return c.errs
}

func (r *Rules) validateLogs(c *checker) {
	c.want(len(r.Logs) > 0, "logs", "must name at least one log")
	seen := map[string]bool{}
	for i, l := range r.Logs {
		at := fmt.Sprintf("logs[%d]", i)
		c.want(l.Origin != "" && !seen[l.Origin], at+".origin", "is missing or given twice")
		seen[l.Origin] = true
		v, err := note.NewVerifier(l.Key)
		c.want(err == nil, at+".key", "must be a vkey")
		c.want(err != nil || v.Name() == l.Origin, at+".key", "is of another name than the log's origin")
	}
}

func (r *Rules) validateParties(c *checker) {
	c.country("exporter.country", r.Exporter.Country)
	c.want(r.Exporter.Name != "", "exporter", "needs a name")
	for name, e := range r.Entities {
		c.country("entities."+name+".country", e.Country)
	}
	seen := map[string]bool{}
	for i, p := range r.Principals {
		at := fmt.Sprintf("principals[%d]", i)
		c.want(p.ID != "" && !seen[p.ID], at+".id", "is missing or given twice")
		seen[p.ID] = true
		_, known := r.Entities[p.Employer]
		c.want(known, at+".employer", "is not one of the entities")
		c.country(at+".workplace", p.Workplace)
	}
	for i, n := range r.Instruments {
		at := fmt.Sprintf("instruments[%d]", i)
		_, known := r.Entities[n.Entity]
		c.want(known, at+".entity", "is not one of the entities")
		c.want(n.ID != "", at+".id", "is missing")
		c.want(n.Article == "46", at+".article", `must be "46"`)
		c.want(n.TIA != "", at+".tia", "is missing: the transfer impact assessment")
		c.date(at+".date", n.Date, false)
		c.date(at+".tia_date", n.TIADate, false)
		c.date(at+".until", n.Until, true)
	}
	for i, a := range r.Approvers {
		at := fmt.Sprintf("approvers[%d]", i)
		_, err := grant.NewVerifier(a.Key)
		c.want(err == nil, at+".key", "must be a vkey")
		c.want(a.Name != "", at+".name", "is missing")
		_, _, err = grant.ParseTerm(a.From, a.Until)
		c.want(err == nil, at+".until", "must be a day or a time after from")
	}
	for _, f := range r.faults() {
		c.want(false, "approvals"+f.Path, "%s", f.Text)
	}
}

func (r *Rules) validateDatasets(c *checker) {
	seen := map[string]bool{}
	for i, d := range r.Datasets {
		at := fmt.Sprintf("datasets[%d]", i)
		c.want(d.Name != "" && !seen[d.Name], at+".name", "is missing or given twice")
		seen[d.Name] = true
		c.want(d.Purpose != "", at+".purpose", "is missing")
		c.want(d.Cluster == "inside" || d.Cluster == "outside", at+".cluster", "must be inside or outside")
		c.want(d.Definition == "" || hashHex.MatchString(d.Definition), at+".definition", "must be a hex SHA-256")
		c.want(len(d.Regimes) > 0, at+".regimes", "must name EU, UK or CH")
		c.want(d.Acknowledge == "" || d.Acknowledge == AcknowledgeOfficer || d.Acknowledge == AcknowledgeAuto, at+".acknowledge", "must be officer or auto")
		for j, g := range d.Regimes {
			c.want(slices.Contains([]string{"EU", "UK", "CH"}, g), fmt.Sprintf("%s.regimes[%d]", at, j), "must be EU, UK or CH")
		}
		for j, o := range d.Open {
			op := fmt.Sprintf("%s.open[%d]", at, j)
			c.want(len(o.Groups) > 0, op+".groups", `must name a group, or "*"`)
			c.want(whereRank(o.Where) > 0, op+".where", "must be region, adequate or elsewhere")
			c.want(o.Class == law.ClassClear || o.Class == law.ClassPseudonymised, op+".class", "must be clear or pseudonymised")
			c.want(o.Where != "elsewhere" || o.Class == law.ClassPseudonymised, op+".class",
				"must be pseudonymised: the floor lifts for no rule")
			c.want(!o.Hours || r.Hours != nil, op+".hours", "office_hours are missing")
			c.want(d.Cluster != "outside" || o.Class == law.ClassPseudonymised, op+".class",
				"must be pseudonymised: the outside cluster holds nothing else")
		}
	}
}

// whereRank orders places from the strictest: elsewhere 1, adequate 2, region 3; 0 unknown.
func whereRank(where string) int {
	return slices.Index([]string{"elsewhere", "adequate", "region"}, where) + 1
}
