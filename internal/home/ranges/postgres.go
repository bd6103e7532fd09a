package ranges

import (
	"context"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Side is a table as its own database digests it, over one connection. The session must print
// values as the other side does (time zone, date style, bytea_output, …), and be in a
// transaction with one snapshot if several calls are to agree.
type Side struct {
	Conn *pgx.Conn
	Key  *Key
}

// hashed is the subquery that hashes rows: h of the row, k of its key, and further columns.
// OFFSET 0 keeps the server from computing a hash once a use.
func (t *Table) hashed(more string) string {
	key := "substr(h0, 17)"
	inner := fmt.Sprintf("SELECT sha256($1 || convert_to(ROW(%s)::text, 'UTF8')) AS h0", quoted(t.Columns))
	if len(t.Key) > 0 {
		key = "k0"
		names := make([]string, len(t.Key))
		for i, k := range t.Key {
			names[i] = t.Columns[k]
		}
		inner += fmt.Sprintf(", sha256($2 || convert_to(ROW(%s)::text, 'UTF8')) AS k0", quoted(names))
	} else {
		inner += ", $2::bytea AS k0" // both parameters have a type
	}
	if more != "" {
		inner += ", " + more
	}
	return fmt.Sprintf("(SELECT r.*, ((get_byte(%[1]s, 0) << 8) | get_byte(%[1]s, 1)) >> %[2]d AS b, %[1]s AS k FROM (%[3]s FROM %[4]s t OFFSET 0) r) x",
		key, 16-Bits, inner, t.From)
}

func half(from int) string {
	return fmt.Sprintf("('x' || encode(substr(h0, %d, 8), 'hex'))::bit(64)::bigint", from)
}

// Digest digests a whole table.
func (s *Side) Digest(ctx context.Context, t *Table) (*Digest, error) {
	sql := fmt.Sprintf("SELECT b, count(*), coalesce(sum(%s), 0)::text, coalesce(sum(%s), 0)::text FROM %s GROUP BY b", half(1), half(9), t.hashed(""))
	var d Digest
	err := s.each(ctx, sql, t, func(v [][]byte) error {
		b, err := strconv.Atoi(string(v[0]))
		if err != nil || b < 0 || b >= Count {
			return fmt.Errorf("digest %s: the server gave no range", t.Name)
		}
		n, err := strconv.ParseInt(string(v[1]), 10, 64)
		if err != nil {
			return fmt.Errorf("digest %s: the server gave no count", t.Name)
		}
		hi, ok1 := modulo(v[2])
		lo, ok2 := modulo(v[3])
		if !ok1 || !ok2 {
			return fmt.Errorf("digest %s: the server gave no sum", t.Name)
		}
		d[b] = Sum{Hi: hi, Lo: lo, N: n}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &d, nil
}

// modulo takes a sum of signed halves to what the sum of unsigned ones is modulo 2^64.
func modulo(text []byte) (uint64, bool) {
	v, ok := new(big.Int).SetString(string(text), 10)
	if !ok {
		return 0, false
	}
	return v.And(v, new(big.Int).SetUint64(^uint64(0))).Uint64(), true
}

// Keys gives Hashed.Key of every row for which condition (SQL over the table, alias t) holds.
func (s *Side) Keys(ctx context.Context, t *Table, condition string, each func(uint64)) error {
	sql := fmt.Sprintf("SELECT ('x' || encode(substr(k, 3, 8), 'hex'))::bit(64)::bigint FROM %s WHERE yes", t.hashed("("+condition+") AS yes"))
	return s.each(ctx, sql, t, func(v [][]byte) error {
		k, err := strconv.ParseInt(string(v[0]), 10, 64)
		if err != nil {
			return fmt.Errorf("read keys of %s: the server gave none", t.Name)
		}
		each(uint64(k))
		return nil
	})
}

// Row is one row as a side holds it.
type Row struct {
	Fields [][]byte // one a column, nil for NULL; the callee may keep them
	Place  string   // where the server keeps it (ctid)
}

// Rows gives the rows of some ranges.
func (s *Side) Rows(ctx context.Context, t *Table, ranges []int, each func(Row) error) error {
	list := make([]string, len(ranges))
	for i, r := range ranges {
		list[i] = strconv.Itoa(r)
	}
	names := make([]string, len(t.Columns))
	more := "t.ctid::text AS place"
	for i, c := range t.Columns {
		names[i] = fmt.Sprintf("c%d", i)
		more += fmt.Sprintf(", t.%s AS c%d", quote(c), i)
	}
	sql := fmt.Sprintf("SELECT %s FROM %s WHERE b = ANY ('{%s}'::int[])", strings.Join(append([]string{"place"}, names...), ", "), t.hashed(more),
		strings.Join(list, ","))
	return s.each(ctx, sql, t, func(v [][]byte) error {
		fields := make([][]byte, len(v)-1)
		for i, f := range v[1:] {
			if f != nil {
				fields[i] = append([]byte{}, f...)
			}
		}
		return each(Row{Fields: fields, Place: string(v[0])})
	})
}

// each runs sql, with the keys as $1 and $2 where hash needs them, and gives its rows as text.
func (s *Side) each(ctx context.Context, sql string, t *Table, row func([][]byte) error) error {
	params := [][]byte{[]byte(fmt.Sprintf("\\x%x", s.Key.of(t.Name, "row"))), []byte(fmt.Sprintf("\\x%x", s.Key.of(t.Name, "range")))}
	rr := s.Conn.PgConn().ExecParams(ctx, sql, params, []uint32{byteaOID, byteaOID}, nil, nil)
	var failed error
	for rr.NextRow() {
		if failed == nil {
			failed = row(rr.Values())
		}
	}
	if _, err := rr.Close(); err != nil {
		return err // the caller takes values out of it
	}
	return failed
}

const byteaOID = 17

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "t." + quote(n)
	}
	return strings.Join(out, ", ")
}
