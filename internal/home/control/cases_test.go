package control_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/control"
)

func TestACaseThatEndedIsForgottenButForItsName(t *testing.T) {
	s, dsn := open(t)
	c := control.Case{Name: "case_a", ID: "00112233445566aa", Dataset: "support", Subjects: []string{"4711"}, Until: t0.Add(time.Hour), At: t0}
	if err := s.AddCase(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	all, err := s.Cases(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != c.Name || !slices.Equal(all[0].Subjects, c.Subjects) || !all[0].Until.Equal(c.Until) {
		t.Fatalf("%+v, %v", all, err)
	}
	for range 2 { // a second end writes no second record
		if err := s.EndCase(t.Context(), c.Name, t0, &trefoil.Body{At: t0, Kind: trefoil.KindKey, Key: &trefoil.KeyBody{Event: "destroyed", Key: "case/x/1", Use: "pseudonyms"}}); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.Cases(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("it stands: %+v, %v", all, err)
	}
	if n, err := s.Drain(t.Context(), func(context.Context, *trefoil.Body) error { return nil }); n != 1 || err != nil {
		t.Errorf("%d records: %v", n, err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // test
	var left string
	if err := conn.QueryRow(t.Context(), "select coalesce(string_agg(c::text, ''), '') from trefoil.cases c").Scan(&left); err != nil || strings.Contains(left, "4711") {
		t.Errorf("a subject of a case that ended is still there: %v", err)
	}
	if err := s.AddCase(t.Context(), c); err == nil || strings.Contains(err.Error(), "4711") || !strings.Contains(err.Error(), "choose another") {
		t.Errorf("a name was used twice, or a subject is in the error: %v", err)
	}
}

func TestRestrictionsCountByPurpose(t *testing.T) {
	s, _ := open(t)
	for _, r := range [][2]string{{"1", ""}, {"2", "care"}, {"2", "care"}, {"3", "research"}} {
		if err := s.Restrict(t.Context(), "app", r[0], r[1], t0); err != nil {
			t.Fatal(err)
		}
	}
	want := func(source, purpose string, want ...string) {
		t.Helper()
		if got, err := s.Restricted(t.Context(), source, purpose); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s %s: %v, %v", source, purpose, got, err)
		}
	}
	want("app", "care", "1", "2")
	want("app", "research", "1", "3")
	want("other", "care")
	if err := s.Lift(t.Context(), "app", "1", ""); err != nil {
		t.Fatal(err)
	}
	want("app", "care", "2")
}
