package probe

import (
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// ours are the sessions of the enclave itself: builder and flow, at source and dataset cluster.
var ours = []string{"user=postgres application=trefoil address=local", "user=trefoil_steward application=trefoil address=local"}

// TestBuildingFollowingAndBuildingAgainAreNoAlarm looks all the time while a dataset is built,
// built again under another definition, follows, and is built again beside what stands.
func TestBuildingFollowingAndBuildingAgainAreNoAlarm(t *testing.T) {
	w := newWorld(t)
	w.enrol(ours...)
	w.quiet("before anything is built")
	w.build()
	w.quiet("built")
	if err := w.b.Admit(within(t, time.Minute), "chen", w.name); err != nil {
		t.Fatal(err)
	}
	w.quiet("a principal may open it")
	stop := w.follow()
	for start := time.Now(); ; {
		w.quiet("starting to follow")
		if f, err := w.b.Flow(within(t, time.Minute), w.name); err == nil && f != nil && f.State == "following" {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal("the dataset does not follow")
		}
	}
	w.source.Exec(t, w.source.SuperuserDSN(w.app), "UPDATE person SET email = 'x' || id")
	w.quiet("following")
	stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.builder(strings.Replace(platformDatasets, ", {name: at, form: generalised, by: month}", "", 1))
		w.build()
		w.build()
	}()
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		default:
		}
		w.quiet("being built again")
	}
	// A session that still reads the old generation keeps its schemas there.
	reader := w.target.Connect(t, w.target.SuperuserDSN(w.name))
	if _, err := reader.Exec(within(t, time.Minute), "BEGIN; SELECT count(*) FROM public.person"); err != nil {
		t.Fatal(err)
	}
	w.build()
	r := w.round() // the superuser's session is of this test, and rightly found
	for _, d := range r.Differences {
		if d.Topic != "session" {
			t.Errorf("an old generation that is still read: %s", show(r.Differences))
		}
	}
}

// TestWhatIsAddedByHandIsFoundAtTheNextLook adds one thing at a time and takes it away again.
func TestWhatIsAddedByHandIsFoundAtTheNextLook(t *testing.T) {
	w := newWorld(t)
	w.enrol(ours...)
	w.build()
	w.quiet("built")
	inside, cluster, source := w.target.SuperuserDSN(w.name), w.target.SuperuserDSN("postgres"), w.source.SuperuserDSN(w.app)
	for _, c := range []struct{ what, topic, dsn, do, undo string }{
		{"a table added by hand", "relation", inside, "CREATE TABLE public.copy AS SELECT 1 AS n", "DROP TABLE public.copy"},
		{"a column added by hand", "column", inside, "ALTER TABLE public.person ADD COLUMN phone text", "ALTER TABLE public.person DROP COLUMN phone"},
		{"a column hidden among what the dataset says of itself", "column", inside, "ALTER TABLE trefoil_info.columns ADD COLUMN email text", "ALTER TABLE trefoil_info.columns DROP COLUMN email"},
		{"a table hidden in a schema of a build", "relation", inside, "CREATE SCHEMA trefoil_next_x CREATE TABLE dump (email text)", "DROP SCHEMA trefoil_next_x CASCADE"},
		{"a column hidden in an old generation", "column", inside, "CREATE SCHEMA trefoil_old_1 CREATE TABLE person (id bigint, phone text)", "DROP SCHEMA trefoil_old_1 CASCADE"},
		{"a column taken away", "column", inside, "ALTER TABLE public.visit DROP COLUMN at", "ALTER TABLE public.visit ADD COLUMN at timestamptz"},
		{"a function added by hand", "function", inside, "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION public.f()"},
		{"a known function with another text", "function", inside, "CREATE OR REPLACE FUNCTION trefoil_info.fresh_as_of() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now()'",
			"CREATE OR REPLACE FUNCTION trefoil_info.fresh_as_of() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT snapshot_at FROM trefoil_info.dataset'"},
		{"a view added by hand", "relation", inside, "CREATE VIEW public.v AS SELECT 1 AS n", "DROP VIEW public.v"},
		{"a trigger added by hand", "trigger", inside, "CREATE TRIGGER t BEFORE UPDATE ON public.person FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", "DROP TRIGGER t ON public.person"},
		{"an extension", "extension", inside, "CREATE EXTENSION pgcrypto", "DROP EXTENSION pgcrypto"},
		{"a large object", "large-object", inside, "SELECT lo_create(77)", "SELECT lo_unlink(77)"},
		{"values above their form", "value", inside, "UPDATE public.person SET email = 'somebody@example.org' WHERE email = (SELECT min(email) FROM public.person)",
			"UPDATE public.person SET email = 'abcdefghijklmnopqrstuvwx' WHERE email LIKE '%@%'"},
		{"values finer than their form", "value", inside, "UPDATE public.person SET born = born + 3", "UPDATE public.person SET born = born - 3"},
		{"a sampler that says yes", "function", inside, "ALTER FUNCTION trefoil_info.off_form RENAME TO off", "ALTER FUNCTION trefoil_info.off RENAME TO off_form"},
		{"a right to read", "grant", inside, "GRANT SELECT ON public.person TO PUBLIC", "REVOKE SELECT ON public.person FROM PUBLIC"},
		{"a door for everybody", "database-grant", inside, "GRANT CONNECT ON DATABASE " + w.name + " TO PUBLIC", "REVOKE CONNECT ON DATABASE " + w.name + " FROM PUBLIC"},
		{"a type that carries text", "type", inside, "CREATE TYPE public.notes AS ENUM ('a')", "DROP TYPE public.notes"},
		{"a role added by hand", "role", cluster, "CREATE ROLE mole LOGIN", "DROP ROLE mole"},
		{"a principal made an owner", "member", cluster, "CREATE ROLE mole LOGIN IN ROLE trefoil_principals, trefoil_owner", "DROP ROLE mole"},
		{"a superuser", "role", cluster, "CREATE ROLE root LOGIN SUPERUSER", "DROP ROLE root"},
		{"a database added by hand", "database", cluster, "CREATE DATABASE stash", "DROP DATABASE stash"},
		{"a dataset that nobody published", "database", cluster, "CREATE DATABASE stash OWNER trefoil_owner", "DROP DATABASE stash"},
		{"a dataset that the probe may not enter", "blind", cluster, "REVOKE CONNECT ON DATABASE " + w.name + " FROM trefoil_probe", "GRANT CONNECT ON DATABASE " + w.name + " TO trefoil_probe"},
		{"a slot that is no dataset's", "slot", source, "SELECT pg_create_physical_replication_slot('away')", "SELECT pg_drop_replication_slot('away')"},
		{"a slot that pretends to be a dataset's", "slot", source, "SELECT pg_create_logical_replication_slot('trefoil_research_00000000', 'pgoutput')", "SELECT pg_drop_replication_slot('trefoil_research_00000000')"},
		{"a subscription", "subscription", source, "CREATE SUBSCRIPTION away CONNECTION 'host=192.0.2.1' PUBLICATION p WITH (connect = false)", "ALTER SUBSCRIPTION away SET (slot_name = NONE); DROP SUBSCRIPTION away"},
		{"a publication", "publication", source, "CREATE PUBLICATION away FOR TABLE person", "DROP PUBLICATION away"},
		{"a membership at the source", "member", source, "CREATE ROLE clerk; GRANT pg_read_all_data TO clerk", "DROP ROLE clerk"},
		{"an archive command", "command", source, "ALTER SYSTEM SET archive_command = 'test -d /mnt/secret-host'", "ALTER SYSTEM RESET archive_command"},
		{"the probe's own function altered", "function", source, "CREATE OR REPLACE FUNCTION trefoil_probe.class(application_name text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT 'trefoil'::text $$", ""},
	} {
		w.run(c.dsn, c.do)
		w.found(c.what, c.topic)
		if c.undo == "" {
			continue
		}
		w.run(c.dsn, c.undo)
		w.settle(c.what)
	}
	w.blind()
	w.secrets("secret-host")
}

// run executes statements one by one, and has the server read its settings again.
func (w *world) run(dsn, statements string) {
	w.t.Helper()
	for _, sql := range strings.Split(statements, "; ") {
		w.source.Exec(w.t, dsn, sql)
		if strings.HasPrefix(sql, "ALTER SYSTEM") {
			w.source.Exec(w.t, dsn, "SELECT pg_reload_conf()")
		}
	}
}

// found looks until the difference is seen. A setting that is being reloaded is seen when the
// server has it, so the wait is for the server, not for a time.
func (w *world) found(what, topic string) {
	w.t.Helper()
	for start := time.Now(); ; {
		r := w.round()
		for _, d := range r.Differences {
			if d.Topic == topic {
				return
			}
		}
		if time.Since(start) > time.Minute {
			w.t.Fatalf("%s was not found: %s", what, show(r.Differences))
		}
	}
}

func (w *world) settle(what string) {
	w.t.Helper()
	for start := time.Now(); ; {
		r := w.round()
		if len(r.Differences) == 0 {
			return
		}
		if time.Since(start) > time.Minute {
			w.t.Fatalf("%s was undone: %s", what, show(r.Differences))
		}
	}
}

// blind takes the probe's function away: not being able to ask is found.
func (w *world) blind() {
	w.source.Exec(w.t, w.source.SuperuserDSN(w.app), "DROP FUNCTION trefoil_probe.facts()")
	w.found("a probe that cannot ask", "blind")
}

// secrets holds every incident against what must never be in one.
func (w *world) secrets(words ...string) {
	all, err := w.store.List(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, i := range all {
		for _, e := range i.Evidence {
			for _, word := range words {
				if strings.Contains(e.Text+i.Reason+i.Baseline+i.Origin, word) {
					w.t.Errorf("incident %s holds %q", i.ID, word)
				}
			}
		}
	}
}

// TestADifferenceStaysOneIncidentWhileItLasts also over a restart of the monitor.
func TestADifferenceStaysOneIncidentWhileItLasts(t *testing.T) {
	w := newWorld(t)
	w.enrol(ours...)
	w.build()
	w.source.Exec(t, w.target.SuperuserDSN(w.name), "CREATE TABLE public.copy (n int)")
	for range 5 {
		w.round()
	}
	w.again()
	w.round()
	all, err := w.store.List(nil)
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for _, i := range all {
		if i.Rule == "probe-relation" {
			tables++
			if i.Count != 1 || len(i.Evidence) != 1 || !strings.Contains(i.Evidence[0].Text, "public.copy") {
				t.Errorf("the incident counts %d findings, evidence %+v", i.Count, i.Evidence)
			}
		}
	}
	if tables != 1 {
		t.Errorf("%d incidents of one table", tables)
	}
}

// TestTheProbesLoginReadsNoValueAndNoStatement is what the operator is promised of the login.
func TestTheProbesLoginReadsNoValueAndNoStatement(t *testing.T) {
	w := newWorld(t)
	w.build()
	other := w.source.Connect(t, w.source.SuperuserDSN(w.app))
	if _, err := other.Exec(within(t, time.Minute), "SELECT 'a literal of somebody'"); err != nil {
		t.Fatal(err)
	}
	w.source.Exec(t, w.source.SuperuserDSN(w.app), "CREATE SUBSCRIPTION away CONNECTION 'host=192.0.2.1 password=hidden' PUBLICATION p WITH (connect = false)")
	w.source.Exec(t, w.source.SuperuserDSN(w.app), "CREATE EXTENSION postgres_fdw")
	w.source.Exec(t, w.source.SuperuserDSN(w.app), "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.7', sslkey 'hidden')")
	conn := w.source.Connect(t, w.source.SocketDSN("trefoil_probe", probePassword, w.app))
	for _, sql := range []string{"SELECT * FROM person", "SELECT subconninfo FROM pg_subscription", "SELECT * FROM pg_hba_file_rules", "SELECT * FROM pg_authid",
		"SET ROLE trefoil_probe_owner", "SET ROLE postgres", "SELECT pg_read_file('PG_VERSION')", "CREATE TABLE public.x (n int)"} {
		if _, err := conn.Exec(within(t, time.Minute), sql); err == nil {
			t.Errorf("the probe may: %s", sql)
		}
	}
	var texts string
	if err := conn.QueryRow(within(t, time.Minute), "SELECT coalesce(string_agg(query, ' '), '') FROM pg_stat_activity WHERE usename <> 'trefoil_probe'").Scan(&texts); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(texts, "a literal") {
		t.Error("the probe reads others' statements")
	}
	inside := w.target.Connect(t, w.target.SocketDSN("trefoil_probe", probePassword, w.name))
	for _, sql := range []string{"SELECT * FROM public.person", "SELECT * FROM trefoil_info.dataset", "SET ROLE trefoil_owner", "SELECT * FROM pg_statistic"} {
		if _, err := inside.Exec(within(t, time.Minute), sql); err == nil {
			t.Errorf("the probe may in a dataset: %s", sql)
		}
	}
	w.enrol(ours...)
	for _, c := range w.s.Targets {
		if strings.Contains(c.DSN, "password=") && !strings.Contains(c.DSN, "password=&") {
			t.Errorf("the settings hold a password: %s", postgres.Quote(c.Name))
		}
	}
	w.round()
	w.secrets("hidden", "a literal")
	w.run(w.source.SuperuserDSN(w.app), "ALTER SUBSCRIPTION away SET (slot_name = NONE); DROP SUBSCRIPTION away")
}
