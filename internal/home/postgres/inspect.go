package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// Beginner starts a transaction: a connection, a pool, or a transaction itself (a savepoint).
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// userSchema selects the schemas that are not PostgreSQL's own; n is pg_namespace.
const userSchema = `n.nspname !~ '^pg_(toast|temp)' AND n.nspname NOT IN ('pg_catalog','information_schema')`

// notOfExtension leaves out what an extension brought: it is not the operator's data.
const notOfExtension = `NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = '%s'::pg_catalog.regclass AND d.objid = %s AND d.deptype = 'e')`

// Inspect reads the shape of the database that db is connected to, in one transaction that
// it rolls back. Inside a transaction of the caller it sees that snapshot's catalog. It works
// with the least rights: what the role may not read is listed in Unreadable.
func Inspect(ctx context.Context, db Beginner) (*Schema, error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("inspect database: %w", err)
	}
	defer tx.Rollback(ctx) // also undoes the settings below
	// Without a search_path every name in a definition is printed with its schema; UTF8 is what
	// Go's strings are, whatever the database's own encoding is.
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('search_path','',true), pg_catalog.set_config('client_encoding','UTF8',true)`); err != nil {
		return nil, fmt.Errorf("inspect database: %w", err)
	}
	r := &inspector{tx: tx, s: &Schema{}, tables: map[uint32]*Table{}, types: map[uint32]*typeRow{}}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"database", r.database}, {"schemas", r.schemas}, {"types", r.readTypes}, {"tables", r.readTables},
		{"inheritance", r.inheritance}, {"columns", r.columns}, {"constraints", r.constraints},
		{"domain constraints", r.domainChecks}, {"indexes", r.indexes}, {"views and sequences", r.otherRelations},
		{"extensions", r.extensions},
	} {
		if err := step.run(ctx); err != nil {
			return nil, fmt.Errorf("inspect %s: %w", step.name, err)
		}
	}
	r.sumPartitions()
	r.unreadable()
	return r.s, nil
}

// inspector holds what the steps of one inspection share.
type inspector struct {
	tx     pgx.Tx
	s      *Schema
	tables map[uint32]*Table
	types  map[uint32]*typeRow
	denied []string // schemas without USAGE
}

// each runs a query and calls f for every row.
func (r *inspector) each(ctx context.Context, sql string, f func(pgx.Rows) error) error {
	rows, err := r.tx.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (r *inspector) database(ctx context.Context) error {
	var version string
	err := r.tx.QueryRow(ctx, `SELECT d.datname, pg_catalog.current_setting('server_version_num'),
		pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, pg_catalog.current_setting('wal_level')
		FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`).
		Scan(&r.s.Database, &version, &r.s.Encoding, &r.s.Collation, &r.s.WALLevel)
	if err != nil {
		return err
	}
	r.s.Version, err = strconv.Atoi(version)
	if err != nil {
		return fmt.Errorf("read server version: %w", err)
	}
	if r.s.Version < 120000 {
		return fmt.Errorf("the server is older than PostgreSQL 12, which is the oldest that can be read")
	}
	return nil
}

func (r *inspector) schemas(ctx context.Context) error {
	return r.each(ctx, `SELECT n.nspname, pg_catalog.has_schema_privilege(n.oid, 'USAGE')
		FROM pg_catalog.pg_namespace n WHERE `+userSchema+` AND `+fmt.Sprintf(notOfExtension, "pg_catalog.pg_namespace", "n.oid")+`
		ORDER BY n.nspname COLLATE "C"`, func(rows pgx.Rows) error {
		var name string
		var usage bool
		if err := rows.Scan(&name, &usage); err != nil {
			return err
		}
		r.s.Schemas = append(r.s.Schemas, name)
		if !usage {
			r.denied = append(r.denied, name)
		}
		return nil
	})
}

func (r *inspector) readTables(ctx context.Context) error {
	kinds := map[string]TableKind{"r": Ordinary, "p": Partitioned, "f": Foreign}
	identities := map[string]string{"d": "default", "n": "nothing", "f": "full", "i": "index"}
	return r.each(ctx, `SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relreplident::text,
		c.relpersistence = 'u', c.relrowsecurity, c.reltuples::bigint, coalesce(pg_catalog.pg_table_size(c.oid), 0),
		pg_catalog.pg_get_userbyid(c.relowner),
		coalesce(pg_catalog.pg_get_expr(c.relpartbound, c.oid), ''),
		coalesce(CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END, ''),
		coalesce((SELECT ic.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
			WHERE i.indrelid = c.oid AND i.indisreplident), ''),
		coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r','p','f') AND c.relpersistence <> 't' AND `+userSchema+` AND `+fmt.Sprintf(notOfExtension, "pg_catalog.pg_class", "c.oid")+`
		ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`, func(rows pgx.Rows) error {
		t := &Table{Readable: true}
		var kind, identity string
		if err := rows.Scan(&t.OID, &t.Schema, &t.Name.Name, &kind, &identity, &t.Unlogged, &t.RowSecurity, &t.Rows, &t.Bytes,
			&t.Owner, &t.Bound, &t.PartitionKey, &t.ReplicaIndex, &t.Comment); err != nil {
			return err
		}
		t.Kind, t.ReplicaIdentity = kinds[kind], identities[identity]
		r.tables[t.OID] = t
		r.s.Tables = append(r.s.Tables, t)
		return nil
	})
}

func (r *inspector) inheritance(ctx context.Context) error {
	return r.each(ctx, `SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i ORDER BY i.inhrelid, i.inhseqno`, func(rows pgx.Rows) error {
		var child, parent uint32
		if err := rows.Scan(&child, &parent); err != nil {
			return err
		}
		c, p := r.tables[child], r.tables[parent]
		switch {
		case c == nil || p == nil:
		case c.Bound != "":
			name := p.Name
			c.Parent = &name
		default:
			c.Inherits = append(c.Inherits, p.Name)
		}
		return nil
	})
}

func (r *inspector) columns(ctx context.Context) error {
	identities := map[string]string{"a": "always", "d": "default"}
	generated := map[string]string{"s": "stored", "v": "virtual"}
	return r.each(ctx, `SELECT a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod,
		pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
		coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), ''), a.attidentity::text, a.attgenerated::text,
		CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
			THEN pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(co.collname) ELSE '' END,
		pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
		coalesce(pg_catalog.col_description(a.attrelid, a.attnum), '')
		FROM pg_catalog.pg_attribute a
		JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
		LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
		LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
		WHERE c.relkind IN ('r','p','f') AND a.attnum > 0 AND NOT a.attisdropped AND `+userSchema+`
		ORDER BY a.attrelid, a.attnum`, func(rows pgx.Rows) error {
		var table uint32
		var modifier int32
		var identity, gen string
		c := &Column{}
		if err := rows.Scan(&table, &c.Name, &c.Number, &c.TypeOID, &modifier, &c.Type, &c.NotNull,
			&c.Default, &identity, &gen, &c.Collation, &c.Readable, &c.Comment); err != nil {
			return err
		}
		c.Identity, c.Generated = identities[identity], generated[gen]
		t := r.tables[table]
		if t == nil {
			return nil
		}
		r.resolve(c)
		t.Columns = append(t.Columns, c)
		t.Readable = t.Readable && c.Readable
		return nil
	})
}

func (r *inspector) otherRelations(ctx context.Context) error {
	return r.each(ctx, `SELECT n.nspname, c.relname, c.relkind::text
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('v','m','S') AND c.relpersistence <> 't' AND `+userSchema+` AND `+fmt.Sprintf(notOfExtension, "pg_catalog.pg_class", "c.oid")+`
		ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`, func(rows pgx.Rows) error {
		var n Name
		var kind string
		if err := rows.Scan(&n.Schema, &n.Name, &kind); err != nil {
			return err
		}
		if kind == "S" {
			r.s.Sequences = append(r.s.Sequences, n)
		} else {
			r.s.Views = append(r.s.Views, n)
		}
		return nil
	})
}

func (r *inspector) extensions(ctx context.Context) error {
	return r.each(ctx, `SELECT e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension e
		JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname COLLATE "C"`, func(rows pgx.Rows) error {
		var e Extension
		if err := rows.Scan(&e.Name, &e.Version, &e.Schema); err != nil {
			return err
		}
		r.s.Extensions = append(r.s.Extensions, e)
		return nil
	})
}

// sumPartitions gives each partitioned table the rows and bytes of its leaves.
func (r *inspector) sumPartitions() {
	for _, t := range r.s.Tables {
		if t.Parent == nil || t.Kind == Partitioned {
			continue
		}
		for p := t.Parent; p != nil; {
			parent := r.s.byName(*p)
			if parent == nil {
				break
			}
			parent.Rows = max(parent.Rows, 0) + max(t.Rows, 0)
			parent.Bytes += t.Bytes
			p = parent.Parent
		}
	}
}

func (s *Schema) byName(n Name) *Table {
	for _, t := range s.Tables {
		if t.Name == n {
			return t
		}
	}
	return nil
}

// unreadable puts into words what the role may not read.
func (r *inspector) unreadable() {
	for _, n := range r.denied {
		r.s.Unreadable = append(r.s.Unreadable, "schema "+n+": no USAGE")
	}
	for _, t := range r.s.Tables {
		if t.Parent != nil || containsString(r.denied, t.Schema) || t.Readable {
			continue
		}
		var missing []string
		for _, c := range t.Columns {
			if !c.Readable {
				missing = append(missing, c.Name)
			}
		}
		what := "no SELECT"
		if len(missing) < len(t.Columns) {
			what = fmt.Sprintf("no SELECT on %d of %d columns", len(missing), len(t.Columns))
		}
		r.s.Unreadable = append(r.s.Unreadable, "table "+t.Name.String()+": "+what)
	}
}
