package trefoil

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"slices"
	"strings"
	"time"
)

// Entries of a definition's rows that make it a case (docs/design/case.md).
const (
	rowsCase  = "case"  // keyed digest of its subjects
	rowsOf    = "of"    // the dataset that it is made of
	rowsUntil = "until" // RFC 3339, UTC, whole seconds
	rowsWho   = "who"   // CasePseudonym of those who may open it, sorted, separated by commas
	rowsGrant = "grant" // the grant that it rests on
)

// Case is what bounds a case: a dataset of a few subjects whom somebody named. Its definition
// says all of it. The zero value is opened by nobody and is over.
type Case struct {
	Name     string
	Of       string    // the dataset whose definition it has otherwise
	Subjects string    // keyed digest of their keys
	Grant    string    // id, "" for none
	Until    time.Time // whole seconds
	Who      []string  // CasePseudonym of each
}

// CaseDefinition returns the definition of a case of a dataset. Who opens the dataset must
// not get another one: gateway and monitor both derive it and compare.
func CaseDefinition(parent *Definition, c Case) *Definition {
	d := *parent
	d.Name, d.Cluster, d.K = c.Name, "inside", 0
	if d.Epoch != 0 {
		d.Epoch = 1
	}
	if d.Rows = maps.Clone(parent.Rows); d.Rows == nil {
		d.Rows = map[string]string{}
	}
	who := slices.Clone(c.Who)
	slices.Sort(who)
	d.Rows[rowsCase], d.Rows[rowsOf] = c.Subjects, parent.Name
	d.Rows[rowsUntil] = c.Until.UTC().Truncate(time.Second).Format(time.RFC3339)
	d.Rows[rowsWho] = strings.Join(slices.Compact(who), ",")
	if c.Grant != "" {
		d.Rows[rowsGrant] = c.Grant
	}
	return &d
}

// Case returns what bounds a definition that is a case's, and whether it is one. An end that
// cannot be read is the zero time.
func (d *Definition) Case() (Case, bool) {
	subjects, is := d.Rows[rowsCase]
	c := Case{Name: d.Name, Of: d.Rows[rowsOf], Subjects: subjects, Grant: d.Rows[rowsGrant]}
	if until, err := time.Parse(time.RFC3339, d.Rows[rowsUntil]); err == nil {
		c.Until = until.UTC()
	}
	if who := d.Rows[rowsWho]; who != "" {
		c.Who = strings.Split(who, ",")
	}
	return c, is
}

// Opens reports whether the principal id, whose pseudonyms are made with key, may open the
// case at that time.
func (c Case) Opens(key []byte, id string, at time.Time) bool {
	return at.Before(c.Until) && slices.Contains(c.Who, CasePseudonym(key, c.Name, id))
}

// CasePseudonym is what stands in a case's definition for a principal: base32 of
// HMAC-SHA256(key, "case" ‖ 0x00 ‖ case's name ‖ 0x00 ‖ id), 20 characters. It is of this case
// alone: no other record has it.
func CasePseudonym(key []byte, name, id string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("case\x00" + name + "\x00" + id))
	return base32.StdEncoding.EncodeToString(mac.Sum(nil))[:20]
}
