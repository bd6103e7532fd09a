package intake

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// following finds what stands in the way of datasets that follow this source, or harms it: a
// publication that leaves something out, slots that nobody reads, standbys that would not go
// on, contents that no change stream carries.
func (k *sourceCheck) following(ctx context.Context) error {
	for _, f := range []func(context.Context) error{k.publication, k.keys, k.slots, k.standbys, k.largeObjects} {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// published is what the publication has of one table.
type published struct {
	listed, all, changes, rooted, filtered bool
	columns                                []string // nil: all of them
}

// publication compares the publication, where there is one, with what datasets need.
func (k *sourceCheck) publication(ctx context.Context) error {
	need := k.needed()
	names := make([]string, 0, len(need))
	for name := range need {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t := k.schema.Table(name)
		if t == nil {
			continue
		}
		p, err := k.publishedOf(ctx, t)
		if err != nil || p == nil { // none: said already
			return err
		}
		k.publishedTable(t, p, need[name])
	}
	return nil
}

// publishedOf reads the publication's part about a table; nil when there is no publication.
// Filters and column lists are of PostgreSQL 15 and later.
func (k *sourceCheck) publishedOf(ctx context.Context, t *postgres.Table) (*published, error) {
	var p published
	rows, err := k.tx.Query(ctx, `SELECT r.oid IS NOT NULL, p.puballtables, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, p.pubviaroot,
			pg_catalog.to_jsonb(r)->>'prqual' IS NOT NULL,
			CASE WHEN pg_catalog.to_jsonb(r)->>'prattrs' IS NOT NULL THEN (SELECT pg_catalog.array_agg(a.attname::text) FROM pg_catalog.pg_attribute a
				WHERE a.attrelid = $2 AND a.attnum::text IN (SELECT pg_catalog.jsonb_array_elements_text(pg_catalog.to_jsonb(r)->'prattrs'))) END
		FROM pg_catalog.pg_publication p LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = $2
		WHERE p.pubname = $1`, PublicationName, t.OID)
	if err != nil {
		return nil, fmt.Errorf("read the publication: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (published, error) {
		err := r.Scan(&p.listed, &p.all, &p.changes, &p.rooted, &p.filtered, &p.columns)
		return p, err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

func (k *sourceCheck) publishedTable(t *postgres.Table, p *published, need map[string]bool) {
	pub := postgres.Quote(PublicationName)
	if !p.listed && !p.all {
		k.add(Lacks, "", fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s; -- as the table's owner", pub, t.Quoted()), "publication %s does not have %s: datasets that read it cannot follow", PublicationName, t.Name)
		return
	}
	if !p.changes {
		k.add(Lacks, "", fmt.Sprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate');", pub), "publication %s leaves kinds of changes of %s out", PublicationName, t.Name)
	}
	if t.Kind == postgres.Partitioned && !p.rooted {
		k.add(Lacks, "", fmt.Sprintf("ALTER PUBLICATION %s SET (publish_via_partition_root = true);", pub), "publication %s names partitions of %s, not the table", PublicationName, t.Name)
	}
	again := fmt.Sprintf("ALTER PUBLICATION %[1]s DROP TABLE %[2]s; ALTER PUBLICATION %[1]s ADD TABLE %[2]s;", pub, t.Quoted())
	if p.filtered {
		k.add(Lacks, "", again, "publication %s filters rows of %s: who belongs is decided here, and the source's own UPDATE may fail", PublicationName, t.Name)
	}
	if p.columns == nil {
		if t.PrimaryKey != nil && k.withheldColumns(t, need) {
			k.add(Warning, "", fmt.Sprintf("ALTER PUBLICATION %[1]s DROP TABLE %[2]s; ALTER PUBLICATION %[1]s ADD TABLE %[2]s%[3]s;", pub, t.Quoted(), k.columnList(t)),
				"publication %s sends columns of %s that no dataset reads (PostgreSQL 15 and later can list those that it sends)", PublicationName, t.Name)
		}
		return
	}
	if t.PrimaryKey == nil {
		return
	}
	for _, c := range t.PrimaryKey.Columns {
		if !slices.Contains(p.columns, c) {
			k.add(Lacks, "", again, "publication %s does not send column %s of the key of %s", PublicationName, c, t.Name)
		}
	}
}

// withheldColumns says whether a table has columns that no dataset reads.
func (k *sourceCheck) withheldColumns(t *postgres.Table, need map[string]bool) bool {
	return k.schema.Version >= 150000 && slices.ContainsFunc(t.Columns, func(c *postgres.Column) bool { return !need[c.Name] && !slices.Contains(t.PrimaryKey.Columns, c.Name) })
}

// slots lists Trefoil's slots of no dataset that is defined here, and those that are lost.
func (k *sourceCheck) slots(ctx context.Context) error {
	known := map[string]string{}
	for _, ds := range k.Datasets {
		known[flow.SlotName(ds.Name)] = ds.Name
	}
	found, err := flow.Slots(ctx, k.tx)
	if err != nil {
		return err
	}
	for _, s := range found {
		name, ours := known[s.Name]
		drop := fmt.Sprintf("SELECT pg_drop_replication_slot('%s');", strings.ReplaceAll(s.Name, "'", "''"))
		switch {
		case !ours && !s.Active && !flow.OfCase(s.Name) && !flow.Shared(s.Name):
			k.add(Warning, "", drop, "replication slot %s is of no dataset that is defined here: the source keeps %d bytes of its log for it", s.Name, s.Retained)
		case s.WALStatus == "lost":
			k.add(Warning, "", "", "replication slot %s lost the log it needs: dataset %s is compared with the source, or built again, when it is followed", s.Name, name)
		}
	}
	return nil
}

// standbys finds standbys that would not have the slots after a failover (PostgreSQL 17 and
// later), so that every dataset would be compared with the source again.
func (k *sourceCheck) standbys(ctx context.Context) error {
	if k.schema.Version < 170000 {
		return nil
	}
	var named string
	var slots []string
	err := k.tx.QueryRow(ctx, `SELECT pg_catalog.current_setting('synchronized_standby_slots'), coalesce((SELECT pg_catalog.array_agg(slot_name::text ORDER BY slot_name)
		FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND active), '{}')`).Scan(&named, &slots)
	if err != nil {
		return fmt.Errorf("read the standbys: %w", err)
	}
	if named == "" && len(slots) > 0 {
		k.add(Warning, "", fmt.Sprintf("ALTER SYSTEM SET synchronized_standby_slots = '%s'; SELECT pg_reload_conf(); -- and sync_replication_slots = on, hot_standby_feedback = on at the standby",
			strings.ReplaceAll(strings.Join(slots, ", "), "'", "''")), "a dataset may be ahead of the standbys: after a failover it is compared with the source, which reads all of it")
	}
	return nil
}

// largeObjects finds columns that may name large objects: their contents are in no row and in
// no change stream, so no dataset has them.
func (k *sourceCheck) largeObjects(ctx context.Context) error {
	var some bool
	if err := k.tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)").Scan(&some); err != nil {
		return fmt.Errorf("look for large objects: %w", err)
	}
	for table, columns := range k.held() {
		t := k.schema.Table(table)
		if t == nil {
			continue
		}
		for _, dc := range columns {
			c := t.Column(dc.Name)
			if c != nil && (c.TypeName.Name == "lo" || some && c.BaseType == "oid") {
				k.add(Error, "", "", "column %s.%s names large objects: their contents are outside the table, no change of them can be followed, and no dataset has them; withhold it, or keep them as bytea", table, dc.Name)
			}
		}
	}
	return nil
}
