package platform_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/demo/platform"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestLoadFillsEveryTableAndItsKeysHold(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := platform.Platform{Seed: 1, People: 500}
	dsn := pgtest.Start(t).Database(t)
	if err := p.Load(ctx, dsn, 2); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for table, want := range map[string]int64{
		"app.people": p.People, "app.devices": p.Devices(), "app.videos": p.Videos(), "app.watch_events": p.Events(),
		"app.messages": p.Messages(), "billing.payments": p.Payments(), "app.topics": 16,
		"app.watch_events_later": 0,
	} {
		var got int64
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&got); err != nil || got != want {
			t.Errorf("%s has %d rows, want %d (%v)", table, got, want, err)
		}
	}
	want := p.Person(77)
	var email, domain string
	if err := conn.QueryRow(ctx, "SELECT email, email_domain FROM app.people WHERE id = 77").Scan(&email, &domain); err != nil {
		t.Fatal(err)
	}
	if email != want.Email || domain == "" {
		t.Errorf("person 77 is not who the generator says")
	}
	// The identity column goes on after the generated keys.
	var id int64
	err = conn.QueryRow(ctx, `INSERT INTO app.people (handle, display_name, email, birth_date, country, signup_ip, plan, interests, settings, created_at)
		VALUES ('new', 'New', 'new@mail.example', '2000-01-01', 'IE', '10.0.0.1', 'free', '{}', '{}', now()) RETURNING id`).Scan(&id)
	if err != nil || id != p.People+1 {
		t.Errorf("the next person has id %d: %v", id, err)
	}
}

func TestLoadSaysThatNobodyIsNoPlatform(t *testing.T) {
	if err := (platform.Platform{}).Load(context.Background(), "postgres://nowhere.invalid/x", 1); err == nil {
		t.Error("a platform of nobody was loaded")
	}
}
