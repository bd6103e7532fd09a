package platform

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// table is one table to load: rows 1 to n.
type table struct {
	name    string
	columns string
	n       int64
	row     func(l *line, i int64)
}

func (p Platform) tables() []table {
	return []table{
		{"app.watch_events", "id, person_id, video_id, watched_ms, at", p.Events(), p.eventRow},
		{"app.people", "id, handle, display_name, email, phone, birth_date, country, country_before, country_changed, " +
			"signup_ip, plan, interests, settings, created_at", p.People, p.personRow},
		{"app.devices", "id, person_id, model, os, push_token, last_ip, seen_at", p.Devices(), p.deviceRow},
		{"app.messages", "id, sender_id, recipient_id, body, sent_at", p.Messages(), p.messageRow},
		{"app.videos", "id, creator_id, topic_id, title, seconds, published_at", p.Videos(), p.videoRow},
		{"billing.payments", "id, person_id, iban, amount, currency, paid_at", p.Payments(), p.paymentRow},
		{"app.topics", "id, label", int64(len(topics)), topicRow},
	}
}

// part is the number of rows that one COPY writes: large enough that a commit costs
// nothing, small enough that the writers finish together.
const part = 100_000

// Load makes the schema in the empty database that dsn names, fills it over writers
// connections and adds keys, foreign keys and indexes. It is not resumable: after an error
// the database is to be dropped.
func (p Platform) Load(ctx context.Context, dsn string, writers int) error {
	if p.People < 1 {
		return fmt.Errorf("load platform: %d people", p.People)
	}
	if err := script(ctx, dsn, Schema+p.partitions()); err != nil {
		return fmt.Errorf("make schema: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, writers))
	for _, t := range p.tables() {
		for from := int64(1); from <= t.n; from += part {
			g.Go(func() error { return t.copy(gctx, dsn, from, min(t.n, from+part-1)) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := script(ctx, dsn, Finish); err != nil {
		return fmt.Errorf("add keys: %w", err)
	}
	return nil
}

// partitions makes one partition of app.watch_events a month, named after it.
func (p Platform) partitions() string {
	var b strings.Builder
	for i := range months {
		from := epoch.AddDate(0, -i-1, 0)
		fmt.Fprintf(&b, "CREATE TABLE app.watch_events_%s PARTITION OF app.watch_events FOR VALUES FROM ('%s') TO ('%s');\n",
			from.Format("2006_01"), from.Format(timestamp), epoch.AddDate(0, -i, 0).Format(timestamp))
	}
	// The service goes on writing after the day the generated rows end.
	fmt.Fprintf(&b, "CREATE TABLE app.watch_events_later PARTITION OF app.watch_events DEFAULT;\n")
	return b.String()
}

const timestamp = "2006-01-02 15:04:05Z07:00"

// copy writes rows from to to, inclusive, in one COPY.
func (t table) copy(ctx context.Context, dsn string, from, to int64) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	sql := fmt.Sprintf("COPY %s (%s) FROM STDIN", t.name, t.columns)
	if _, err := conn.PgConn().CopyFrom(ctx, &rowReader{table: t, next: from, last: to}, sql); err != nil {
		return fmt.Errorf("copy %s: %w", t.name, err)
	}
	return nil
}

// rowReader makes rows as they are read.
type rowReader struct {
	table      table
	next, last int64
	line       line
	rest       []byte
}

func (r *rowReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.next > r.last {
			return 0, io.EOF
		}
		r.line.buf = r.line.buf[:0]
		for r.next <= r.last && len(r.line.buf) < len(b) {
			r.table.row(&r.line, r.next)
			r.line.end()
			r.next++
		}
		r.rest = r.line.buf
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func script(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}
