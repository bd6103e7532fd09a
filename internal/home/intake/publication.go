package intake

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// columnLists is the version from which a publication can list the columns that it sends.
const columnLists = 150000

// publicationSQL makes the publication that a flow needs: where PostgreSQL can, with the
// columns that datasets read and no other, so that a withheld value never leaves the source.
func (k *sourceCheck) publicationSQL(tables []*postgres.Table) string {
	var list []string
	rooted := ""
	for _, t := range tables {
		list = append(list, t.Quoted()+k.columnList(t))
		if t.Kind == postgres.Partitioned {
			rooted = " WITH (publish_via_partition_root = true)"
		}
	}
	return fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s%s; -- as the tables' owner", PublicationName, strings.Join(list, ", "), rooted)
}

// columnList is the list of columns of one table, in the table's order, "" where all are sent:
// a table whose identity is the whole row cannot have one.
func (k *sourceCheck) columnList(t *postgres.Table) string {
	if k.schema.Version < columnLists || t.PrimaryKey == nil || t.ReplicaIdentity != "default" {
		return ""
	}
	read := k.sent(t)
	var names []string
	for _, c := range t.Columns {
		if c.Generated == "" && (read[c.Name] || slices.Contains(t.PrimaryKey.Columns, c.Name)) {
			names = append(names, postgres.Quote(c.Name))
		}
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// sent is the columns whose values a flow uses: those that some dataset holds in a form, and
// those that decide which rows belong.
func (k *sourceCheck) sent(t *postgres.Table) map[string]bool {
	out := map[string]bool{}
	for name := range k.needed()[t.Name.String()] {
		out[name] = true
	}
	for _, c := range k.held()[t.Name.String()] {
		if c.Form == law.Withheld && len(c.Paths) == 0 {
			delete(out, c.Name)
		}
	}
	p := k.Catalog.Person
	if t.Name.String() == p.Table {
		for _, c := range []string{p.Key, p.Residence, p.ResidenceBefore, p.ResidenceChanged} {
			out[c] = out[c] || c != ""
		}
	}
	if cat := k.Catalog.TableOf(t.Name.String()); cat != nil {
		if steps, err := k.Catalog.Path(t.Name.String()); err == nil && len(steps) > 0 {
			for _, c := range steps[0].Columns {
				out[c] = true
			}
		}
		for _, r := range cat.References {
			for _, c := range r.Columns {
				out[c] = true
			}
		}
	}
	return out
}
