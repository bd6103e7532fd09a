package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/demo/platform"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// checkService reads a person as the application and writes a message, which must be at one
// of the other sites as soon as it is acknowledged.
func checkService(ctx context.Context, w *World, e *Evidence) error {
	s, err := connect(ctx, w.DSN("app", "platform"), false)
	if err != nil {
		return fmt.Errorf("connect as the service: %w", err)
	}
	defer s.close()
	person := w.Platform.Person(w.Platform.People / 3)
	got, err := s.query(ctx, fmt.Sprintf("SELECT id, email, phone, country FROM app.people WHERE id = %d", person.ID))
	if err != nil {
		return fmt.Errorf("read as the service: %w", err)
	}
	if len(got.rows) != 1 || got.rows[0][1] != person.Email || got.rows[0][2] != person.Phone {
		return errors.New("the service did not read the person's clear values")
	}
	e.Show(got.table()...)
	id := w.Platform.Messages() + 1
	insert := fmt.Sprintf("INSERT INTO app.messages VALUES (%d, %d, 1, 'written through the gateway', now())", id, person.ID)
	if _, err := s.query(ctx, insert); err != nil {
		return fmt.Errorf("write as the service: %w", err)
	}
	at, err := w.sitesWith(ctx, id)
	if err != nil {
		return err
	}
	if len(at) != len(sites) {
		return fmt.Errorf("the acknowledged write is only at %v", at)
	}
	e.Showf("INSERT 0 1, acknowledged, and now at %s (three sites, simulated on one machine)", strings.Join(at, ", "))
	return nil
}

// sitesWith names the sites where the message can be read. Replicas apply a commit a moment
// after they have it on disk, which is what the acknowledgement waits for.
func (w *World) sitesWith(ctx context.Context, id int64) ([]string, error) {
	var at []string
	for i, c := range append([]*postgres.Cluster{w.primary}, w.replicas...) {
		there, err := readable(ctx, c, id)
		if err != nil {
			return nil, fmt.Errorf("look for the write at %s: %w", sites[i], err)
		}
		if there {
			at = append(at, sites[i])
		}
	}
	return at, nil
}

// readable looks for the message for at most five seconds.
func readable(ctx context.Context, c *postgres.Cluster, id int64) (there bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = c.AsSuperuser(ctx, "platform", func(conn *pgx.Conn) error {
		for !there {
			if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM app.messages WHERE id = $1)", id).Scan(&there); err != nil {
				return err
			}
			if !there {
				time.Sleep(20 * time.Millisecond)
			}
		}
		return nil
	})
	if ctx.Err() != nil {
		return false, nil
	}
	return there, err
}

// sameSQL is what both analysts run: it joins two tables on the person's key.
const sameSQL = "SELECT p.id, p.email, p.birth_date, p.country, count(*) AS devices FROM app.people p " +
	"JOIN app.devices d ON d.person_id = p.id GROUP BY p.id, p.email, p.birth_date, p.country ORDER BY p.id LIMIT 3"

// countSQL must give the same number to both, and what the source gives for their subjects.
const countSQL = "SELECT count(*) FROM app.people p JOIN app.devices d ON d.person_id = p.id"

func checkForms(ctx context.Context, w *World, e *Evidence) error {
	e.Show(sameSQL + ";")
	var counts []string
	for _, who := range []struct{ id, dataset, where string }{
		{"analyst-ie", "support", "Ireland, dataset support"},
		{"analyst-cn", "analytics", "China, dataset analytics"},
	} {
		s, err := connect(ctx, w.DSN(who.id, who.dataset), false)
		if err != nil {
			return fmt.Errorf("connect as %s: %w", who.id, err)
		}
		defer s.close()
		got, err := s.query(ctx, sameSQL)
		if err != nil {
			return fmt.Errorf("query as %s: %w", who.id, err)
		}
		all, err := s.query(ctx, countSQL)
		if err != nil {
			return fmt.Errorf("count as %s: %w", who.id, err)
		}
		n, err := all.only()
		if err != nil {
			return err
		}
		counts = append(counts, n)
		e.Showf("%s:", who.where)
		if len(s.notices) > 0 {
			e.Show("NOTICE:  " + s.notices[0])
		}
		e.Show(got.table()...)
		if len(got.rows) != 3 {
			return fmt.Errorf("%s got %d rows, want 3", who.id, len(got.rows))
		}
		for _, row := range got.rows {
			if err := w.checkRow(who.dataset, row); err != nil {
				return err
			}
		}
	}
	if counts[0] != counts[1] {
		return fmt.Errorf("the join has %s rows in Ireland and %s in China", counts[0], counts[1])
	}
	e.Showf("the whole join has %s rows for both", counts[0])
	return nil
}

// checkRow compares one row with the generated platform: clear in support, and no value of
// any person in analytics.
func (w *World) checkRow(dataset string, row []string) error {
	id, err := strconv.ParseInt(row[0], 10, 64)
	if err != nil {
		return fmt.Errorf("dataset %s: the key is no number", dataset)
	}
	if dataset == "support" {
		if p := w.Platform.Person(id); p.Email != row[1] || p.BirthDate.Format("2006")+"-01-01" != row[2] {
			return errors.New("dataset support does not show the person's clear address and year of birth")
		}
		return nil
	}
	if id >= 1 && id <= w.Platform.People {
		return errors.New("dataset analytics shows a real key")
	}
	if strings.Contains(row[1], "@") || strings.Contains(row[1], ".example") {
		return errors.New("dataset analytics shows an address")
	}
	return nil
}

// checkAbsence searches the files of the cluster outside for values of 500 people, and first
// shows that the same search finds them at the source.
func checkAbsence(ctx context.Context, w *World, e *Evidence) error {
	canaries := w.Platform.Canaries(500)
	needles, err := platform.NewNeedles(canaries)
	if err != nil {
		return err
	}
	for _, c := range []interface {
		AsSuperuser(context.Context, string, func(*pgx.Conn) error) error
	}{w.primary, w.outside} {
		err := c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "CHECKPOINT")
			return err
		})
		if err != nil {
			return fmt.Errorf("write everything to disk: %w", err)
		}
	}
	source, err := needles.Directory(w.primary.Directory())
	if err != nil {
		return err
	}
	seen := map[platform.Canary]bool{}
	for _, h := range source.Hits {
		seen[h.Canary] = true
	}
	e.Showf("source:  %4d files, %6.1f MB: %d of %d values found", source.Files, megabytes(source.Bytes), len(seen), len(canaries))
	if len(seen) != len(canaries) {
		return errors.New("the search misses values where they are: it would prove nothing")
	}
	outside, err := needles.Directory(w.outside.Directory())
	if err != nil {
		return err
	}
	e.Showf("outside: %4d files, %6.1f MB: %d of %d values found", outside.Files, megabytes(outside.Bytes), len(outside.Hits), len(canaries))
	if n := len(outside.Hits); n > 0 {
		return fmt.Errorf("%d clear values, the first of %s in %s", n, outside.Hits[0].Canary.Column, outside.Hits[0].File)
	}
	return nil
}

func megabytes(n int64) float64 { return float64(n) / 1e6 }

// checkFloor asks for a clear dataset from China, has it approved, and is refused all the same.
func checkFloor(ctx context.Context, w *World, e *Evidence) error {
	if err := w.grant(ctx, e, "analyst-cn", "support", "1h", "ticket 4711"); err != nil {
		return err
	}
	_, err := w.ask(ctx, "analyst-cn", "support", "SELECT 1")
	refused := refusal(err)
	if refused == nil {
		return fmt.Errorf("support was not refused to China: %v", err)
	}
	e.Show(shown(refused)...)
	text := refused.Message + " " + refused.Detail
	if refused.Code != "28000" && refused.Code != "42501" {
		return fmt.Errorf("refused with SQLSTATE %s", refused.Code)
	}
	if !strings.Contains(text, "floor") || !strings.Contains(text, "art. 44") {
		return errors.New("the refusal does not name the floor and its article")
	}
	return nil
}
