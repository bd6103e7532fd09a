package dataset

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
)

// sight is a look at the source for one batch: a repeatable read transaction, and a second
// one that holds the locks of a plain reader on every table from before the snapshot, so that
// no table is rewritten or emptied between the snapshot and its reading.
type sight struct {
	conn  *pgx.Conn
	guard *pgx.Conn
	pulse *pgx.Conn // commits an empty transaction now and then, so that the log is flushed
	watch *pgx.Conn // glances
	asked int       // statements that looked for rows by key
}

// lookups make the source find rows by index, whatever it thinks of the number of keys.
const lookups = `; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; SET application_name = 'trefoil flow'`

func openView(ctx context.Context, dsn string) (*sight, error) {
	v := &sight{}
	for _, c := range []struct {
		to   **pgx.Conn
		more string
	}{{&v.conn, lookups}, {&v.guard, lookups}, {&v.watch, lookups}, {&v.pulse, "; SET synchronous_commit = local; SET application_name = 'trefoil flow'"}} {
		conn, err := connect(ctx, dsn, c.more)
		if err != nil {
			v.close()
			return nil, fmt.Errorf("connect to the source: %w", err)
		}
		*c.to = conn
	}
	return v, nil
}

func (v *sight) close() {
	for _, c := range []*pgx.Conn{v.conn, v.guard, v.watch, v.pulse} {
		if c != nil {
			closeConn(c)
		}
	}
}

// stamp changes whenever columns of the tables are altered, and never comes back to what it was.
type stamp struct{ keys, columns string }

// stampOf reads which transactions last wrote what the catalogue says of the columns.
func stampOf(ctx context.Context, conn *pgx.Conn, p *followPlan) (s stamp, err error) {
	var oids, of []uint32
	var keys []string
	for _, f := range p.all {
		oids = append(oids, f.src.OID)
		for _, name := range f.pk {
			of, keys = append(of, f.src.OID), append(keys, name)
		}
	}
	err = conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.md5(pg_catalog.string_agg(one, ',' ORDER BY one) FILTER (WHERE key)), ''),
			coalesce(pg_catalog.md5(pg_catalog.string_agg(one, ',' ORDER BY one)), '')
		FROM (SELECT a.attrelid || ' ' || a.attnum || ' ' || a.xmin::text AS one,
			(a.attrelid, a.attname::text) IN (SELECT * FROM unnest($2::oid[], $3::text[])) AS key
			FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0) x`, oids, of, keys).Scan(&s.keys, &s.columns)
	if err != nil {
		return s, fmt.Errorf("read when tables were altered: %w", safe(err))
	}
	return s, nil
}

// beat makes the source flush its log. What is written there while nobody commits (hint bits,
// pruning, asynchronous commits) may otherwise stay unflushed, and unsent, for seconds. A
// source that does not let us waits for its own writer.
func (v *sight) beat(ctx context.Context) error {
	_, err := v.pulse.Exec(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, 'trefoil', '')")
	if code := sqlState(err); code == "42501" || code == "25006" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make the source flush its log: %w", safe(err))
	}
	return nil
}

// begin locks the tables as a reader does, takes the snapshot, and tells the shape of the
// tables, which cannot change before end.
func (v *sight) begin(ctx context.Context, p *followPlan) (flow.Horizon, map[string]string, error) {
	sql := "BEGIN"
	for _, f := range p.all {
		sql += "; SELECT " + quotedList("", f.read) + " FROM " + f.quoted() + " LIMIT 0"
	}
	if _, err := v.guard.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		if code := sqlState(err); code == "42P01" || code == "42703" || code == "3F000" {
			return flow.Horizon{}, nil, &staleError{"a table or column of the dataset is no longer at the source"}
		}
		return flow.Horizon{}, nil, fmt.Errorf("lock tables as a reader: %w", safe(err))
	}
	if _, err := v.conn.PgConn().Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").ReadAll(); err != nil {
		return flow.Horizon{}, nil, fmt.Errorf("begin snapshot: %w", safe(err))
	}
	h, err := flow.Look(ctx, v.conn)
	if err != nil {
		return h, nil, err
	}
	shape, err := shapeOf(ctx, v.guard, p)
	return h, shape, err
}

func (v *sight) end(ctx context.Context) error {
	for _, c := range []*pgx.Conn{v.conn, v.guard} {
		if _, err := c.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			return fmt.Errorf("end snapshot: %w", safe(err))
		}
	}
	return nil
}

// basisOf is the place of a plan's basis beside the shapes of tables.
const basisOf = "(basis)"

// fetch reads the rows of f whose columns have one of the keys, in the text of COPY; each
// line ends in a newline and is the callee's to keep.
func (v *sight) fetch(ctx context.Context, conn *pgx.Conn, f *followed, columns []string, keys [][]string, each func(line []byte)) error {
	if len(keys) == 0 {
		return nil
	}
	types := make([]string, len(columns))
	for i, c := range columns {
		types[i] = f.src.Column(c).BaseType
		if transform.ParseType(types[i]).Integer() {
			types[i] = "bigint" // keys may come from a wider column; indexes serve it all the same
		}
	}
	sql := fmt.Sprintf("SELECT %s FROM (SELECT DISTINCT * FROM %s) k JOIN %s t ON %s", quotedList("t.", f.read), unnest(types), f.quoted(), joined(columns))
	v.asked++
	rr := conn.PgConn().ExecParams(ctx, sql, arrays(keys, len(columns)), nil, nil, nil)
	for rr.NextRow() {
		each(lineOf(rr.Values()))
	}
	if _, err := rr.Close(); err != nil {
		return fmt.Errorf("read rows of %s by key: %w", f.name, safe(err))
	}
	return nil
}

// expired reads the keys of persons whose protection ran out, or began to be reckoned,
// between two times.
func (v *sight) expired(ctx context.Context, f *followed, from, to time.Time, each func(line []byte)) error {
	column := postgres.Quote(f.sweep)
	sql := fmt.Sprintf("SELECT %s FROM %s t WHERE %s >= $1 AND %s < $2", quotedList("t.", f.read), f.quoted(), column, column)
	layout := "2006-01-02 15:04:05"
	rr := v.conn.PgConn().ExecParams(ctx, sql, [][]byte{[]byte(from.UTC().Format(layout)), []byte(to.UTC().Format(layout))}, nil, nil, nil)
	for rr.NextRow() {
		each(lineOf(rr.Values()))
	}
	if _, err := rr.Close(); err != nil {
		return fmt.Errorf("read whose protection ran out: %w", safe(err))
	}
	return nil
}

// lineOf writes values in the text of COPY, with a newline.
func lineOf(values [][]byte) []byte {
	var line []byte
	for i, v := range values {
		if i > 0 {
			line = append(line, '\t')
		}
		if v == nil {
			line = append(line, '\\', 'N')
			continue
		}
		line = appendEscaped(line, v)
	}
	return append(line, '\n')
}

// unnest is a list of keys as a table: columns k1, k2, …
func unnest(types []string) string {
	args, names := make([]string, len(types)), make([]string, len(types))
	for i, t := range types {
		args[i], names[i] = fmt.Sprintf("$%d::%s[]", i+1, t), fmt.Sprintf("k%d", i+1)
	}
	return "unnest(" + strings.Join(args, ", ") + ") u(" + strings.Join(names, ", ") + ")"
}

func joined(columns []string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = fmt.Sprintf("t.%s = k.k%d", postgres.Quote(c), i+1)
	}
	return strings.Join(out, " AND ")
}

// arrays turns rows of keys into one array literal a column.
func arrays(keys [][]string, columns int) [][]byte {
	out := make([][]byte, columns)
	for c := range out {
		b := []byte{'{'}
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '"')
			for _, ch := range []byte(k[c]) {
				if ch == '"' || ch == '\\' {
					b = append(b, '\\')
				}
				b = append(b, ch)
			}
			b = append(b, '"')
		}
		out[c] = append(b, '}')
	}
	return out
}
