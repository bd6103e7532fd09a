package intake

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// PublicationName is the publication that a flow reads.
const PublicationName = "trefoil"

// needed lists the columns that building reads of each table: those with a form, and those
// that lead to the person or decide who is chosen.
func (k *sourceCheck) needed() map[string]map[string]bool {
	need := map[string]map[string]bool{}
	want := func(table, column string) {
		if column == "" {
			return
		}
		if need[table] == nil {
			need[table] = map[string]bool{}
		}
		need[table][column] = true
	}
	p := k.Catalog.Person
	for table, columns := range k.held() {
		for _, dc := range columns {
			want(table, dc.Name)
		}
		steps, err := k.Catalog.Path(table)
		if err != nil {
			continue // Validate says it, or the table is about nobody
		}
		for _, s := range steps {
			for i := range s.Columns {
				want(s.Table, s.Columns[i])
				want(s.To, s.Of[i])
			}
		}
		for _, c := range []string{p.Key, p.Residence, p.ResidenceBefore, p.ResidenceChanged} {
			want(p.Table, c)
		}
	}
	return need
}

// rights finds what the reader may not read of what the datasets need.
func (k *sourceCheck) rights() {
	need := k.needed()
	for _, t := range k.schema.Roots() {
		var missing []string
		for _, c := range t.Columns {
			if need[t.Name.String()][c.Name] && !c.Readable {
				missing = append(missing, c.Name)
			}
		}
		if len(missing) > 0 {
			k.add(Error, "", fmt.Sprintf("GRANT SELECT (%s) ON %s TO %s;", postgres.QuoteAll(missing), t.Quoted(), postgres.Quote(k.role)),
				"role %s may not read %d columns of %s that datasets need", k.role, len(missing), t.Name)
		}
		if need[t.Name.String()] != nil && t.RowSecurity {
			k.add(Warning, "", fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", postgres.Quote(k.role)), "%s has row policies, which may hide rows from role %s", t.Name, k.role)
		}
	}
	for _, u := range k.schema.Unreadable {
		if schema, ok := strings.CutPrefix(u, "schema "); ok {
			name := strings.TrimSuffix(schema, ": no USAGE")
			for table := range need {
				if strings.HasPrefix(table, name+".") {
					k.add(Error, "", fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", postgres.Quote(name), postgres.Quote(k.role)), "role %s may not use schema %s, in which datasets need tables", k.role, name)
					break
				}
			}
		}
	}
}

// server finds what following the source would need: logical WAL, a bound on what a slot
// keeps, the right to replicate, identities, a publication.
func (k *sourceCheck) server(ctx context.Context) error {
	var level, keep string
	var slots, used int
	var replication, there bool
	err := k.tx.QueryRow(ctx, `SELECT current_setting('wal_level'), coalesce(current_setting('max_slot_wal_keep_size', true), '-1'), current_setting('max_replication_slots')::int,
		(SELECT count(*)::int FROM pg_catalog.pg_replication_slots), (SELECT r.rolreplication OR r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
		EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1)`, PublicationName).Scan(&level, &keep, &slots, &used, &replication, &there)
	if err != nil {
		return err
	}
	if level != "logical" {
		k.add(Lacks, "", "ALTER SYSTEM SET wal_level = 'logical'; -- then restart PostgreSQL", "wal_level is %s: datasets can be built, and cannot follow their source", level)
	}
	if keep == "-1" {
		k.add(Lacks, "", "ALTER SYSTEM SET max_slot_wal_keep_size = '20GB'; SELECT pg_reload_conf();", "nothing bounds the WAL that a replication slot keeps")
	}
	if used >= slots {
		k.add(Lacks, "", fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d; -- then restart PostgreSQL", used+5), "all %d replication slots are taken", slots)
	}
	if !replication {
		k.add(Lacks, "", fmt.Sprintf("ALTER ROLE %s REPLICATION;", postgres.Quote(k.role)), "role %s may not replicate", k.role)
	}
	k.identities(there)
	return nil
}

// identities finds tables whose changes cannot be told apart, and the publication's text.
func (k *sourceCheck) identities(published bool) {
	need := k.needed()
	var list []*postgres.Table
	for _, t := range k.schema.Tables {
		root := t
		for root.Parent != nil {
			if root = k.schema.Table(root.Parent.String()); root == nil {
				break
			}
		}
		if root == nil || need[root.Name.String()] == nil {
			continue
		}
		if t == root {
			list = append(list, t)
		}
		if t.Unlogged {
			k.add(Lacks, "", "ALTER TABLE "+t.Quoted()+" SET LOGGED;", "%s is unlogged: its changes are in no WAL", t.Name)
		}
		if !t.Identified() && t.Kind != postgres.Partitioned {
			k.add(Lacks, "", identitySQL(t), "%s has no replica identity: once it is published, its own UPDATE and DELETE would fail", t.Name)
		}
	}
	if !published && len(list) > 0 {
		k.add(Lacks, "", k.publicationSQL(list), "there is no publication %s", PublicationName)
	}
}

// identitySQL prefers a unique index that could be one over the whole row.
func identitySQL(t *postgres.Table) string {
	for _, ix := range t.Indexes {
		usable := ix.Unique && ix.Valid && ix.Predicate == "" && !ix.Expressions
		for _, c := range ix.Columns {
			usable = usable && t.Column(c) != nil && t.Column(c).NotNull
		}
		if usable {
			return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s;", t.Quoted(), postgres.Quote(ix.Name))
		}
	}
	return "ALTER TABLE " + t.Quoted() + " REPLICA IDENTITY FULL;"
}

// fewValues is how many different values make a pseudonym domain too small: whoever knows
// how often each value occurs names them by counting.
const fewValues = 100

// pseudonyms warns of domains with few values, by the database's own statistics.
func (k *sourceCheck) pseudonyms(ctx context.Context) error {
	distinct := map[string]float64{}
	rows := map[string]float64{}
	for table, columns := range k.held() {
		t, ct := k.schema.Table(table), k.Catalog.TableOf(table)
		if t == nil || ct == nil || t.Rows <= 0 {
			continue
		}
		for _, dc := range columns {
			c := ct.Column(dc.Name)
			if dc.Form != law.Pseudonymised || c == nil {
				continue
			}
			n, err := k.distinct(ctx, t, dc.Name)
			if err != nil {
				return err
			}
			d := catalog.DomainOf(table, *c)
			distinct[d] = max(distinct[d], n)
			rows[d] = max(rows[d], float64(t.Rows))
		}
	}
	for d, n := range distinct {
		if n > 0 && n < fewValues && rows[d] >= fewValues {
			k.add(Warning, "", "", "pseudonym domain %s has about %.0f values: counting names them; withhold or generalise its columns", d, n)
		}
	}
	return nil
}

// distinct estimates how many different values a column has; 0 when nothing is known. It
// reads no value: n_distinct only.
func (k *sourceCheck) distinct(ctx context.Context, t *postgres.Table, column string) (float64, error) {
	var n float64
	err := k.tx.QueryRow(ctx, `SELECT coalesce(max(CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * $4 ELSE s.n_distinct END), 0)::float8
		FROM pg_catalog.pg_stats s WHERE s.schemaname = $1 AND s.tablename = $2 AND s.attname = $3`, t.Schema, t.Name.Name, column, float64(t.Rows)).Scan(&n)
	if err == nil && n == 0 && t.PrimaryKey != nil && len(t.PrimaryKey.Columns) == 1 && t.PrimaryKey.Columns[0] == column {
		n = float64(t.Rows)
	}
	return n, err
}

// cells measures how many persons stand in cells smaller than k over the person table's
// readable columns. The build makes them NULL; here the operator learns how many.
func (k *sourceCheck) cells(ctx context.Context) error {
	t := k.schema.Table(k.Catalog.Person.Table)
	if t == nil {
		return nil
	}
	for _, ds := range k.Datasets {
		var group []string
		for _, dt := range ds.Tables {
			if dt.Table != k.Catalog.Person.Table {
				continue
			}
			for _, dc := range dt.Columns {
				c := t.Column(dc.Name)
				if c != nil && c.Readable && (dc.Form == law.Clear || dc.Form == law.Generalised) && len(dc.Paths) == 0 {
					group = append(group, cellSQL(c, dc))
				}
			}
		}
		size := ds.K
		if size == 0 {
			size = law.DefaultK
		}
		if len(group) == 0 || ds.Cluster != "outside" {
			continue
		}
		var small, all int64
		err := (&work{tx: k.tx}).guarded(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, fmt.Sprintf("SELECT coalesce(sum(n) FILTER (WHERE n < %d), 0)::bigint, coalesce(sum(n), 0)::bigint FROM (SELECT count(*) AS n FROM %s GROUP BY %s) cells",
				size, t.Quoted(), strings.Join(group, ", "))).Scan(&small, &all)
		})
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			k.add(Warning, "", "", "dataset %s: small cells could not be measured (%s)", ds.Name, reason(err))
		case all > 0 && small > 0:
			k.add(Warning, "", "", "dataset %s: %d of %d persons stand in cells smaller than %d over %d columns that can be read; there these columns become NULL", ds.Name, small, all, size, len(group))
		}
	}
	return nil
}

// cellSQL approximates a generalisation in SQL, as far as counting cells needs it.
func cellSQL(c *postgres.Column, dc catalog.DatasetColumn) string {
	q := postgres.Quote(dc.Name)
	unit, n, _ := strings.Cut(dc.By, ":")
	f := familyOf(c)
	switch {
	case (unit == "year" || unit == "month" || unit == "day" || unit == "hour") && (f == famDate || f == famStamp):
		return fmt.Sprintf("date_trunc('%s', %s)", unit, q)
	case unit == "prefix" && digits(n):
		return fmt.Sprintf("left(%s::text, %s)", q, n)
	case unit == "bucket" && digits(n) && (f == famInt || f == famNumber):
		return fmt.Sprintf("floor(%s / %s)", q, n)
	}
	return q + "::text"
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == "" && strings.Trim(s, "0") != ""
}
