package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// typeRow is one row of pg_type, as far as columns need it.
type typeRow struct {
	name           Name
	kind, category string // typtype, typcategory
	elem           uint32 // of a true array
	base           uint32 // of a domain
	format         string // format_type without modifier
	baseFormat     string // of a domain: format_type of its base with its modifier
	notNull        bool
	labels         []string
}

// kindName is typtype in words; a true array counts as its own kind.
func (t *typeRow) kindName() string {
	if t.elem != 0 {
		return "array"
	}
	switch t.kind {
	case "b":
		return "base"
	case "c":
		return "composite"
	case "d":
		return "domain"
	case "e":
		return "enum"
	case "m":
		return "multirange"
	case "r":
		return "range"
	}
	return "pseudo"
}

// readTypes loads all types, enum labels, and lists the operator's own.
func (r *inspector) readTypes(ctx context.Context) error {
	err := r.each(ctx, `SELECT t.oid, n.nspname, t.typname, t.typtype::text, t.typcategory::text,
		CASE WHEN t.typelem <> 0 AND t.typlen = -1 AND t.typcategory = 'A' THEN t.typelem ELSE 0 END, t.typbasetype,
		pg_catalog.format_type(t.oid, NULL),
		CASE WHEN t.typbasetype <> 0 THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) ELSE '' END,
		t.typnotnull, coalesce(t.typdefault, ''),
		`+userSchema+` AND (t.typtype <> 'c' OR rc.relkind = 'c') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
			WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid AND d.deptype = 'e')
		FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
		LEFT JOIN pg_catalog.pg_class rc ON rc.oid = t.typrelid
		ORDER BY n.nspname COLLATE "C", t.typname COLLATE "C"`, func(rows pgx.Rows) error {
		var oid uint32
		var t typeRow
		var def string
		var own bool
		if err := rows.Scan(&oid, &t.name.Schema, &t.name.Name, &t.kind, &t.category, &t.elem, &t.base,
			&t.format, &t.baseFormat, &t.notNull, &def, &own); err != nil {
			return err
		}
		r.types[oid] = &t
		switch {
		case !own:
		case t.kind == "e":
			r.s.Enums = append(r.s.Enums, &Enum{Name: t.name, OID: oid})
		case t.kind == "d":
			r.s.Domains = append(r.s.Domains, &Domain{Name: t.name, OID: oid, Base: t.baseFormat, NotNull: t.notNull, Default: def})
		case t.kind == "c":
			r.s.Composites = append(r.s.Composites, &Composite{Name: t.name, OID: oid})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.enumLabels(ctx); err != nil {
		return err
	}
	return r.compositeFields(ctx)
}

func (r *inspector) enumLabels(ctx context.Context) error {
	err := r.each(ctx, `SELECT e.enumtypid, e.enumlabel FROM pg_catalog.pg_enum e ORDER BY e.enumtypid, e.enumsortorder`, func(rows pgx.Rows) error {
		var oid uint32
		var label string
		if err := rows.Scan(&oid, &label); err != nil {
			return err
		}
		if t := r.types[oid]; t != nil {
			t.labels = append(t.labels, label)
		}
		return nil
	})
	for _, e := range r.s.Enums {
		e.Labels = r.types[e.OID].labels
	}
	return err
}

func (r *inspector) compositeFields(ctx context.Context) error {
	byOID := map[uint32]*Composite{}
	for _, c := range r.s.Composites {
		byOID[c.OID] = c
	}
	return r.each(ctx, `SELECT c.reltype, pg_catalog.quote_ident(a.attname) || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
		WHERE c.relkind = 'c' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.oid, a.attnum`, func(rows pgx.Rows) error {
		var oid uint32
		var field string
		if err := rows.Scan(&oid, &field); err != nil {
			return err
		}
		if c := byOID[oid]; c != nil {
			c.Fields = append(c.Fields, field)
		}
		return nil
	})
}

// resolve fills a column's base type, element type and labels from its type.
func (r *inspector) resolve(c *Column) {
	t := r.types[c.TypeOID]
	if t == nil {
		c.TypeKind, c.BaseKind = "pseudo", "pseudo"
		return
	}
	c.TypeName, c.TypeKind = t.name, t.kindName()
	c.BaseOID, c.BaseType, c.BaseKind = c.TypeOID, c.Type, c.TypeKind
	for t.kind == "d" {
		c.NotNull = c.NotNull || t.notNull
		base := r.types[t.base]
		if base == nil {
			return
		}
		c.BaseOID, c.BaseType, c.BaseKind = t.base, t.baseFormat, base.kindName()
		t = base
	}
	c.Enum = t.labels
	if t.elem == 0 {
		return
	}
	elem := t.elem
	e := r.types[elem]
	for e != nil && e.kind == "d" {
		elem = e.base
		e = r.types[elem]
	}
	if e != nil {
		c.ElemOID, c.ElemType, c.ElemKind, c.Enum = elem, e.format, e.kindName(), e.labels
	}
}
