package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// soon is how long a change may take to be seen by an analyst: the flow's second, and the time
// that a release takes.
const soon = 10 * time.Second

// newDevice is a day that no generated row has, so that one row can be told from all others in a
// dataset that holds nothing else to tell it by.
const newDevice = "2031-05-17"

// checkFollow writes a row as the service, waits for it in two datasets, and compares the forms.
// Meanwhile nothing reads a whole table of the source: following is not rebuilding.
func checkFollow(ctx context.Context, w *World, e *Evidence) error {
	person, err := w.someoneInRegion(ctx)
	if err != nil {
		return err
	}
	before, err := w.scans(ctx)
	if err != nil {
		return err
	}
	const id = "0e1c5f2a-7c1d-4f6e-9b53-2f1d6a1c7e42"
	insert := fmt.Sprintf("INSERT INTO app.devices VALUES ('%s', %d, 'Fairphone 6', 'android 16', 'tok_%032d', '192.0.2.77', '%s 10:11:12+00')", id, person, 4711, newDevice)
	if _, err := w.ask(ctx, "app", "platform", insert); err != nil {
		return fmt.Errorf("write as the service: %w", err)
	}
	written := time.Now()
	e.Showf("service:  %s;", insert)
	for _, who := range []struct{ id, dataset, where string }{{"analyst-cn", "analytics", "China"}, {"analyst-ie", "support", "Ireland"}} {
		sql := fmt.Sprintf("SELECT id, person_id, seen_at FROM app.devices WHERE seen_at >= '%s' AND seen_at < date '%[1]s' + 1", newDevice)
		got, err := w.awaitRows(ctx, who.id, who.dataset, sql, 1)
		if err != nil {
			return fmt.Errorf("dataset %s: %w", who.dataset, err)
		}
		e.Showf("%s, dataset %s, %.1f s after it was acknowledged:", who.where, who.dataset, time.Since(written).Seconds())
		e.Show(got.table()...)
		clear := got.rows[0][0] == id && got.rows[0][1] == strconv.FormatInt(person, 10)
		if text := strings.Join(got.rows[0], " "); clear != (who.dataset == "support") || strings.Contains(text, "10:11:12") != clear {
			return fmt.Errorf("dataset %s holds the row in a form that it should not have", who.dataset)
		}
	}
	after, err := w.scans(ctx)
	if err != nil {
		return err
	}
	e.Showf("whole tables read at the source meanwhile: %d", after-before)
	if after != before {
		return errors.New("following read whole tables of the source")
	}
	return nil
}

// awaitRows asks again until the answer has n rows.
func (w *World) awaitRows(ctx context.Context, principal, dataset, sql string, n int) (answer, error) {
	for began := time.Now(); ; {
		got, err := w.ask(ctx, principal, dataset, sql)
		switch {
		case err != nil:
			return answer{}, err
		case len(got.rows) == n:
			return got, nil
		case time.Since(began) > soon:
			return answer{}, fmt.Errorf("%d rows after %s, want %d", len(got.rows), soon, n)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// scans counts how often a whole table of the platform was read. Sessions tell the server's
// statistics at their end, or a second after their last statement.
func (w *World) scans(ctx context.Context) (n int64, err error) {
	time.Sleep(1100 * time.Millisecond)
	err = w.primary.AsSuperuser(ctx, "platform", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT sum(seq_scan)::bigint FROM pg_stat_user_tables").Scan(&n)
	})
	return n, err
}

// someoneInRegion finds a person who is in every dataset, has made no video, and is not one of
// those whose values the byte search looks for.
func (w *World) someoneInRegion(ctx context.Context) (id int64, err error) {
	searched := map[int64]bool{}
	for _, c := range w.Platform.Canaries(500) {
		searched[c.Person] = true
	}
	if int64(len(searched)) > w.Platform.People/2 { // so few people that the search needs all of them: take one all the same
		clear(searched)
	}
	err = w.primary.AsSuperuser(ctx, "platform", func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT id FROM app.people p WHERE country IN ('IE', 'FR', 'DE', 'NO') AND country_before IS NULL
			AND NOT EXISTS (SELECT FROM app.videos WHERE creator_id = p.id) ORDER BY id DESC LIMIT 50`)
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		for _, one := range list {
			if id == 0 && !searched[one] {
				id = one
			}
		}
		return err
	})
	if err == nil && id == 0 {
		err = errors.New("nobody to choose")
	}
	return id, err
}

// checkGone deletes a person as the service, with all that refers to them, and waits until no
// dataset has them.
func checkGone(ctx context.Context, w *World, e *Evidence) error {
	person, err := w.someoneInRegion(ctx)
	if err != nil {
		return err
	}
	of := fmt.Sprintf("SELECT (SELECT count(*) FROM app.people WHERE id = %d) AS people, (SELECT count(*) FROM app.devices WHERE person_id = %[1]d) AS devices", person)
	const all = "SELECT (SELECT count(*) FROM app.people) AS people, (SELECT count(*) FROM app.devices) AS devices"
	looks := []*look{{who: "analyst-ie", dataset: "support", sql: of}, {who: "analyst-jp", dataset: "abuse", sql: of}, {who: "analyst-cn", dataset: "analytics", sql: all}}
	for _, l := range looks {
		if l.people, l.devices, err = l.take(ctx, w); err != nil {
			return err
		}
	}
	had := looks[0].devices
	if looks[0].people != 1 || looks[1].people != 1 {
		return errors.New("the person is not in the datasets to begin with")
	}
	var sql []string
	for _, where := range []string{"app.messages WHERE sender_id = %d OR recipient_id = %[1]d", "app.watch_events WHERE person_id = %d",
		"app.devices WHERE person_id = %d", "billing.payments WHERE person_id = %d", "app.people WHERE id = %d"} {
		sql = append(sql, fmt.Sprintf("DELETE FROM "+where, person))
	}
	if _, err := w.ask(ctx, "app", "platform", strings.Join(sql, "; ")); err != nil {
		return fmt.Errorf("delete as the service: %w", err)
	}
	w.gone++
	deleted := time.Now()
	e.Showf("service:  %s;", sql[len(sql)-1])
	for _, l := range looks {
		if err := l.await(ctx, w, e, deleted, had); err != nil {
			return err
		}
	}
	return nil
}

// look is what a principal sees of persons and devices in a dataset: of one person by their
// number, or of all where there are only pseudonyms.
type look struct {
	who, dataset, sql string
	people, devices   int64
}

func (l *look) take(ctx context.Context, w *World) (people, devices int64, err error) {
	got, err := w.ask(ctx, l.who, l.dataset, l.sql)
	if err != nil {
		return 0, 0, fmt.Errorf("count in dataset %s: %w", l.dataset, err)
	}
	if len(got.rows) != 1 || len(got.rows[0]) != 2 {
		return 0, 0, fmt.Errorf("count in dataset %s: no two numbers", l.dataset)
	}
	people, err1 := strconv.ParseInt(got.rows[0][0], 10, 64)
	devices, err2 := strconv.ParseInt(got.rows[0][1], 10, 64)
	return people, devices, errors.Join(err1, err2)
}

// await waits until the dataset has one person less, and their devices less.
func (l *look) await(ctx context.Context, w *World, e *Evidence, since time.Time, had int64) error {
	for {
		people, devices, err := l.take(ctx, w)
		if err != nil {
			return err
		}
		if people == l.people-1 && devices == l.devices-had {
			e.Showf("%-10s people %d → %d, devices %d → %d, %.1f s later", l.dataset+":", l.people, people, l.devices, devices, time.Since(since).Seconds())
			return nil
		}
		if time.Since(since) > soon {
			return fmt.Errorf("dataset %s still has the person after %s: people %d → %d, devices %d → %d", l.dataset, soon, l.people, people, l.devices, devices)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
