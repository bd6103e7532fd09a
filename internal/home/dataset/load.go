package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// feeder is the reader that COPY FROM takes its lines from, in order and digested.
type feeder struct {
	it     iterator
	cells  *cells
	digest *tableDigest
	rest   []byte // of the line that is being given
	hidden []byte
	fields [][]byte
	rows   int64
	report func(rows int64)
}

// line gives the next line as it is held.
func (f *feeder) line() ([]byte, error) {
	hi, _, line, ok := f.it.next()
	if !ok {
		if err := f.it.err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	if f.cells != nil {
		line, f.fields = f.cells.hide(f.hidden[:0], line, f.fields)
		if len(line) > cap(f.hidden) {
			f.hidden = make([]byte, 0, 2*len(line))
		}
	}
	f.digest.count(hi, line)
	if f.rows++; f.rows%reportEvery == 0 {
		f.report(reportEvery)
	}
	return line, nil
}

// Read fills p with as many lines as fit.
func (f *feeder) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(f.rest) == 0 {
			line, err := f.line()
			if err != nil {
				if n > 0 && errors.Is(err, io.EOF) {
					return n, nil
				}
				return n, err
			}
			f.rest = line
		}
		c := copy(p[n:], f.rest)
		f.rest = f.rest[c:]
		n += c
	}
	return n, nil
}

// loadTable makes a table in its shadow schema, fills it in the order of its sort keys, and
// builds its keys and indexes, in one transaction: with wal_level=minimal none of it is
// written to the WAL, and older snapshots see the rows too (FREEZE).
func (t *target) loadTable(ctx context.Context, conn *pgx.Conn, p *plan, tb *table, f *feeder, nulls []int64) error {
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		parts := p.partitions(tb)
		if _, err := tx.Exec(ctx, tb.createSQL(nulls, parts != nil)); err != nil {
			return fmt.Errorf("create table: %w", safe(err))
		}
		for _, sql := range parts {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("create partition: %w", safe(err))
			}
		}
		if len(tb.out) > 0 {
			sql := fmt.Sprintf("COPY %s (%s) FROM STDIN", tb.target(), tb.columnList())
			if parts == nil {
				sql += " WITH (FREEZE true)"
			}
			tag, err := conn.PgConn().CopyFrom(ctx, f, sql)
			if err != nil {
				return fmt.Errorf("load: %w", safe(err))
			}
			if tag.RowsAffected() != f.rows {
				return fmt.Errorf("load: the cluster took %d rows of %d", tag.RowsAffected(), f.rows)
			}
		}
		if err := p.buildIndexes(ctx, tx, tb, nulls); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "ANALYZE "+tb.target()); err != nil {
			return fmt.Errorf("analyze: %w", safe(err))
		}
		return nil
	})
}

func (t *table) columnList() string {
	names := make([]string, len(t.out))
	for i, c := range t.out {
		names[i] = c.name
	}
	return postgres.QuoteAll(names)
}

// createSQL makes the table: plain columns, no default, no identity, no generation. NOT
// NULL stays where it still holds.
func (t *table) createSQL(nulls []int64, partitioned bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", t.target())
	for i, c := range t.out {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(postgres.Quote(c.name) + " " + c.sqlType)
		if c.tr.Clear && strings.HasPrefix(c.src.Collation, "pg_catalog.") && c.sqlType != "text[]" {
			b.WriteString(" COLLATE " + c.src.Collation)
		}
		if c.src.NotNull && nulls[i] == 0 {
			b.WriteString(" NOT NULL")
		}
	}
	b.WriteString(")")
	if partitioned {
		b.WriteString(" PARTITION BY " + t.src.PartitionKey)
	}
	return b.String()
}

// partitions gives the statements that make the same partitions, when the table is
// partitioned by columns that are held as they are; nil makes it a plain table.
func (p *plan) partitions(t *table) []string {
	if t.src.Kind != postgres.Partitioned {
		return nil
	}
	var out []string
	if !p.samePartitions(t, t.src, &out) {
		p.note("table %s: its partition key is not held as it is, so it is one table", t.name)
		return nil
	}
	return out
}

func (p *plan) samePartitions(t *table, of *postgres.Table, out *[]string) bool {
	if !t.clearKey(of.PartitionKey) {
		return false
	}
	for _, child := range p.schema.Tables {
		if child.Parent == nil || *child.Parent != of.Name {
			continue
		}
		sql := fmt.Sprintf("CREATE TABLE %s PARTITION OF %s %s", shadowName(child.Name), shadowName(of.Name), child.Bound)
		if child.Schema != t.src.Schema {
			return false
		}
		if child.Kind == postgres.Partitioned {
			sql += " PARTITION BY " + child.PartitionKey
		}
		*out = append(*out, sql)
		if child.Kind == postgres.Partitioned && !p.samePartitions(t, child, out) {
			return false
		}
	}
	return len(*out) > 0
}

func shadowName(n postgres.Name) string {
	return postgres.Name{Schema: shadow(n.Schema), Name: n.Name}.Quoted()
}

// clearKey says that a partition key, RANGE (a, b), is of columns that are held clear.
func (t *table) clearKey(key string) bool {
	open, end := strings.IndexByte(key, '('), strings.LastIndexByte(key, ')')
	if open < 0 || end < open {
		return false
	}
	for _, part := range strings.Split(key[open+1:end], ",") {
		name := strings.TrimSpace(part)
		if strings.HasPrefix(name, `"`) && strings.HasSuffix(name, `"`) && len(name) > 1 {
			name = strings.ReplaceAll(name[1:len(name)-1], `""`, `"`)
		}
		c := t.outColumn(name)
		if c == nil || !c.tr.Clear || c.sqlType == "text" && c.src.BaseType != "text" {
			return false
		}
	}
	return true
}

// keepsKeys says that a column's form keeps different values different.
func (c *outColumn) keepsKeys() bool {
	return c.tr.Clear || c.form.Form == law.Pseudonymised && c.tr.Domain != ""
}

// buildIndexes makes the primary key, the unique constraints and the indexes that make
// sense on what is held. What does not is noted.
func (p *plan) buildIndexes(ctx context.Context, tx pgx.Tx, t *table, nulls []int64) error {
	if pk := t.rowKey(); pk != nil {
		p.tryKey(ctx, tx, t, "PRIMARY KEY", pk, nulls)
	}
	for _, u := range t.src.Uniques {
		p.tryKey(ctx, tx, t, "UNIQUE", u, nulls)
	}
	for _, ix := range t.src.Indexes {
		if ix.Constraint != "" || ix.Primary || !ix.Valid {
			continue
		}
		sql, why := t.indexSQL(ix)
		if why != "" {
			p.note("index %s of %s: %s", ix.Name, t.name, why)
			continue
		}
		if err := attempt(ctx, tx, sql); err != nil {
			p.note("index %s of %s: %v", ix.Name, t.name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// tryKey makes a key over columns whose forms keep values apart.
func (p *plan) tryKey(ctx context.Context, tx pgx.Tx, t *table, kind string, k *postgres.Key, nulls []int64) {
	for _, name := range k.Columns {
		i := slices.IndexFunc(t.out, func(c *outColumn) bool { return c.name == name })
		switch {
		case i < 0:
			p.note("key %s of %s: column %s is not held", k.Name, t.name, name)
			return
		case !t.out[i].keepsKeys():
			p.note("key %s of %s: column %s is held in a form that merges values", k.Name, t.name, name)
			return
		case kind == "PRIMARY KEY" && nulls[i] > 0:
			p.note("key %s of %s: column %s holds NULL", k.Name, t.name, name)
			return
		}
	}
	sql := fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s %s (%s)", t.target(), postgres.Quote(k.Name), kind, postgres.QuoteAll(k.Columns))
	if strings.Contains(k.Definition, "NULLS NOT DISTINCT") {
		sql = strings.Replace(sql, kind+" (", kind+" NULLS NOT DISTINCT (", 1)
	}
	if err := attempt(ctx, tx, sql); err != nil {
		p.note("key %s of %s: %v", k.Name, t.name, err)
		return
	}
	if t.made == nil {
		t.made = map[string]bool{}
	}
	t.made[strings.Join(k.Columns, "\x00")] = true
}

// attempt runs a statement in a savepoint.
func attempt(ctx context.Context, tx pgx.Tx, sql string) error {
	sub, err := tx.Begin(ctx)
	if err != nil {
		return safe(err)
	}
	if _, err := sub.Exec(ctx, sql); err != nil {
		if back := sub.Rollback(ctx); back != nil {
			return safe(back)
		}
		return safe(err)
	}
	if err := sub.Commit(ctx); err != nil {
		return safe(err)
	}
	return nil
}

// indexSQL is the statement of an index on what is held, or why there is none.
func (t *table) indexSQL(ix *postgres.Index) (sql, why string) {
	exact := true // every column of the table is held as it is
	for _, c := range t.src.Columns {
		o := t.outColumn(c.Name)
		exact = exact && o != nil && o.tr.Clear && o.sqlType == t.sameType(o)
	}
	if ix.Expressions || ix.Predicate != "" {
		if !exact {
			return "", "it is an expression or partial index, and not every column is held as it is"
		}
		return t.rewrite(ix), ""
	}
	clearColumns := true
	for _, name := range ix.Columns {
		c := t.outColumn(name)
		switch {
		case c == nil || c.tr.Null:
			return "", "column " + name + " is not held"
		case ix.Unique && !c.keepsKeys():
			return "", "it is unique, and column " + name + " is held in a form that merges values"
		}
		clearColumns = clearColumns && c.tr.Clear && c.sqlType == t.sameType(c)
	}
	for _, name := range ix.Include {
		clearColumns = clearColumns && t.outColumn(name) != nil
	}
	if clearColumns {
		return t.rewrite(ix), ""
	}
	if ix.Method != "btree" && ix.Method != "hash" && ix.Method != "gin" {
		return "", "a " + ix.Method + " index does not fit the forms of its columns"
	}
	unique := ""
	if ix.Unique {
		unique = "UNIQUE "
	}
	return fmt.Sprintf("CREATE %sINDEX %s ON %s USING %s (%s)", unique, postgres.Quote(ix.Name), t.target(), ix.Method,
		postgres.QuoteAll(ix.Columns)), ""
}

// sameType is the type a clear column has when it is the source's own.
func (t *table) sameType(c *outColumn) string {
	if c.sqlType == "text" && c.src.BaseType != "text" {
		return "" // a type that stands as its text
	}
	return c.sqlType
}

// rewrite is the source's own definition on the shadow table.
func (t *table) rewrite(ix *postgres.Index) string {
	_, rest, _ := strings.Cut(ix.Definition, " USING ")
	unique := ""
	if ix.Unique {
		unique = "UNIQUE "
	}
	return fmt.Sprintf("CREATE %sINDEX %s ON %s USING %s", unique, postgres.Quote(ix.Name), t.target(), rest)
}

// foreignKeys gives the statements of the foreign keys that the forms of both sides keep:
// first those that add, then those that validate.
func (p *plan) foreignKeys(t *table) (add, validate []string) {
	for _, r := range t.refs {
		fk := r.source
		if fk == nil || !t.held || !r.to.held {
			continue
		}
		if why := r.unfit(t); why != "" {
			p.note("foreign key %s of %s: %s", fk.Name, t.name, why)
			continue
		}
		head := "ALTER TABLE " + t.target()
		name := postgres.Quote(fk.Name)
		suffix := " NOT VALID"
		if t.src.Kind == postgres.Partitioned {
			suffix = "" // PostgreSQL has no unvalidated foreign keys on partitioned tables
		}
		add = append(add, fmt.Sprintf("%s ADD CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s (%s)%s", head, name,
			postgres.QuoteAll(fk.Columns), r.to.target(), postgres.QuoteAll(fk.Of), suffix))
		if suffix != "" {
			validate = append(validate, head+" VALIDATE CONSTRAINT "+name)
		}
	}
	return add, validate
}

// unfit says why a reference cannot be a foreign key in the dataset.
func (r *reference) unfit(t *table) string {
	if !r.to.made[strings.Join(r.target.of, "\x00")] {
		return "what it refers to is no key in the dataset"
	}
	for i, name := range r.columns {
		from, to := t.outColumn(name), r.to.outColumn(r.target.of[i])
		switch {
		case from == nil || to == nil:
			return "a column of it is not held"
		case from.tr.Clear && to.tr.Clear:
		case from.tr.Domain == "" || from.tr.Domain != to.tr.Domain || !from.keepsKeys() || !to.keepsKeys():
			return "its columns are held in forms or domains that do not meet"
		}
	}
	return ""
}
