package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
)

// Finding is one thing that must not be, or should not be, on a dataset cluster.
type Finding struct {
	Code     string `json:"code"`               // of a closed set, e.g. extension, superuser, public-connect
	Database string `json:"database,omitempty"` // where it was found; "" for the whole cluster
	Text     string `json:"text"`
	Mend     string `json:"mend,omitempty"` // the statement or setting that mends it
	Warning  bool   `json:"warning,omitempty"`
}

// harmlessExtensions reach nothing outside their database.
var harmlessExtensions = []string{
	"plpgsql", "btree_gin", "btree_gist", "citext", "cube", "dict_int", "dict_xsyn", "earthdistance", "fuzzystrmatch",
	"hstore", "intarray", "isn", "ltree", "pg_trgm", "pgcrypto", "seg", "tablefunc", "tsm_system_rows", "tsm_system_time",
	"unaccent", "uuid-ossp", "citus", "citus_columnar", "postgis", "vector",
}

// CheckDatasetCluster lists what the design forbids on a dataset cluster that an operator
// supplies: whatever reaches out, copies, logs, or lets anyone but the gateway and the
// steward in. dsn is the steward's. It looks into every database that it may enter, and says
// which it may not. An empty list means that nothing was found, not that nothing is there:
// pg_hba.conf, for one, is the operator's to show.
func CheckDatasetCluster(ctx context.Context, dsn string) ([]Finding, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("check dataset cluster: the DSN does not parse")
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("check dataset cluster: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	k := &datasetCheck{}
	for _, f := range []func(context.Context, *pgx.Conn) error{k.server, k.settings, k.roles, k.copies, k.temporary} {
		if err := f(ctx, conn); err != nil {
			return nil, fmt.Errorf("check dataset cluster: %w", err)
		}
	}
	names, err := k.databases(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("check dataset cluster: %w", err)
	}
	for _, name := range names {
		other := cfg.Copy()
		other.Database = name
		if err := k.inside(ctx, other); err != nil {
			return nil, fmt.Errorf("check dataset cluster, database %s: %w", name, err)
		}
	}
	return k.found, nil
}

// ownProbe, of a row p of pg_proc, is true of the probe's functions as they are installed.
func ownProbe() string {
	var texts []string
	for _, body := range install.Bodies() {
		texts = append(texts, "$trefoil$"+body+"$trefoil$")
	}
	return `(p.pronamespace::regnamespace::text = 'trefoil_info' AND p.proname = '` + install.OffForm + `' AND p.prosrc = $trefoil$` + install.FormsBody + `$trefoil$
			AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp'] AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
		OR p.pronamespace::regnamespace::text = '` + install.Schema + `' AND p.proowner::regrole::text = '` + install.Owner + `'
		AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp'] AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
		AND p.prosrc IN (` + strings.Join(texts, ", ") + `))`
}

type datasetCheck struct{ found []Finding }

func (k *datasetCheck) add(code, database, mend, format string, args ...any) {
	k.found = append(k.found, Finding{Code: code, Database: database, Text: fmt.Sprintf(format, args...), Mend: mend})
}

func (k *datasetCheck) warn(code, database, mend, format string, args ...any) {
	k.add(code, database, mend, format, args...)
	k.found[len(k.found)-1].Warning = true
}

// list runs a query of one text column.
func list(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (k *datasetCheck) server(ctx context.Context, conn *pgx.Conn) error {
	var version int
	var super, createdb, createrole bool
	var ssl string
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, r.rolsuper, r.rolcreatedb, r.rolcreaterole, current_setting('ssl')
		FROM pg_roles r WHERE r.rolname = current_user`).Scan(&version, &super, &createdb, &createrole, &ssl)
	if err != nil {
		return err
	}
	if version < OldestMajor*10000 {
		k.add("version", "", "", "the server is PostgreSQL %d; at least %d is needed", version/10000, OldestMajor)
	}
	if super {
		k.add("steward", "", "ALTER ROLE … NOSUPERUSER CREATEDB CREATEROLE", "the steward is a superuser")
	} else if !createdb || !createrole {
		k.add("steward", "", "ALTER ROLE … CREATEDB CREATEROLE", "the steward may not create databases and roles")
	}
	if ssl != "on" {
		k.add("tls", "", "ssl = on", "the server offers no TLS, so no gateway certificate can be checked")
	}
	return nil
}

// settings that put statements or values into a log, load code, or copy the data elsewhere.
func (k *datasetCheck) settings(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name IN ('log_statement','log_min_error_statement',
		'log_min_messages','log_min_duration_statement','log_min_duration_sample','log_transaction_sample_rate','log_parameter_max_length',
		'log_parameter_max_length_on_error','archive_mode','shared_preload_libraries','debug_print_parse','debug_print_plan','debug_print_rewritten')`)
	if err != nil {
		return err
	}
	s := map[string]string{}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { s[name] = value; return nil }); err != nil {
		return err
	}
	want := []struct {
		name, why string
		good      []string
	}{
		{"log_statement", "statements reach the log", []string{"none"}},
		{"log_min_error_statement", "failing statements reach the log", []string{"log", "fatal", "panic"}},
		{"log_min_messages", "error messages, which can hold values, reach the log", []string{"log", "fatal", "panic"}},
		{"log_min_duration_statement", "slow statements reach the log", []string{"-1"}},
		{"log_min_duration_sample", "sampled statements reach the log", []string{"-1"}},
		{"log_transaction_sample_rate", "sampled transactions reach the log", []string{"0"}},
		{"archive_mode", "WAL is copied to an archive", []string{"off"}},
		{"debug_print_parse", "statements reach the log", []string{"off"}},
		{"debug_print_plan", "statements reach the log", []string{"off"}},
		{"debug_print_rewritten", "statements reach the log", []string{"off"}},
	}
	for _, w := range want {
		if have, ok := s[w.name]; ok && !containsString(w.good, have) {
			k.add("setting", "", "ALTER SYSTEM SET "+w.name+" = '"+w.good[0]+"'", "%s is %s: %s", w.name, have, w.why)
		}
	}
	for _, lib := range strings.Split(s["shared_preload_libraries"], ",") {
		lib = strings.Trim(lib, ` "`)
		if lib != "" && lib != "citus" {
			k.add("library", "", "ALTER SYSTEM SET shared_preload_libraries = ''", "shared_preload_libraries loads %s, which may keep or send statements", lib)
		}
	}
	return nil
}

func (k *datasetCheck) roles(ctx context.Context, conn *pgx.Conn) error {
	// The role with OID 10 is the one that initdb made: no cluster is without it.
	supers, err := list(ctx, conn, `SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin AND oid <> 10 ORDER BY 1`)
	if err != nil {
		return err
	}
	for _, r := range supers {
		k.add("superuser", "", "ALTER ROLE "+Quote(r)+" NOSUPERUSER", "role %s is a superuser that may log in", r)
	}
	strong, err := list(ctx, conn, `SELECT rolname FROM pg_roles WHERE NOT rolsuper AND rolcanlogin AND (rolreplication OR rolbypassrls) ORDER BY 1`)
	if err != nil {
		return err
	}
	for _, r := range strong {
		k.add("role", "", "ALTER ROLE "+Quote(r)+" NOREPLICATION NOBYPASSRLS", "role %s may replicate or pass row policies", r)
	}
	files, err := list(ctx, conn, `SELECT m.rolname || ' in ' || g.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
		WHERE g.rolname IN ('pg_read_server_files','pg_write_server_files','pg_execute_server_program','pg_read_all_data','pg_write_all_data')
		AND m.rolname !~ '^pg_' ORDER BY 1`)
	if err != nil {
		return err
	}
	for _, r := range files {
		k.add("role", "", "", "membership %s reaches files, programs or all data", r)
	}
	sessions, err := list(ctx, conn, `SELECT DISTINCT a.usename::text FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
		WHERE r.rolsuper AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() ORDER BY 1`)
	if err != nil {
		if isPermission(err) {
			k.warn("superuser", "", "GRANT pg_read_all_stats TO the steward", "sessions of other roles cannot be seen")
			return nil
		}
		return err
	}
	for _, r := range sessions {
		k.add("superuser", "", "", "a superuser session of %s is open", r)
	}
	return nil
}

// copies finds what takes data out of the cluster as a whole.
func (k *datasetCheck) copies(ctx context.Context, conn *pgx.Conn) error {
	slots, err := list(ctx, conn, `SELECT slot_name::text FROM pg_replication_slots ORDER BY 1`)
	if err != nil {
		return err
	}
	for _, s := range slots {
		k.add("copy", "", "SELECT pg_drop_replication_slot('"+s+"')", "replication slot %s keeps WAL for somebody", s)
	}
	var senders int
	err = conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_replication`).Scan(&senders)
	if err != nil && !isPermission(err) {
		return err
	}
	if senders > 0 {
		k.add("copy", "", "", "%d replicas stream from this cluster: each must be at an enrolled site", senders)
	}
	return nil
}

// databases lists what to look into, and finds what PUBLIC may do at their doors.
func (k *datasetCheck) databases(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT d.datname::text, d.datallowconn AND has_database_privilege(d.oid, 'CONNECT'), d.datallowconn,
		EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x WHERE x.grantee = 0 AND x.privilege_type = 'CONNECT')
		FROM pg_database d ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	var names []string
	var name string
	var enter, open, public bool
	_, err = pgx.ForEachRow(rows, []any{&name, &enter, &open, &public}, func() error {
		if enter {
			names = append(names, name)
		} else if open && name != "template1" && name != "postgres" {
			k.warn("unseen", name, "GRANT CONNECT ON DATABASE "+Quote(name)+" TO the steward", "the steward may not enter this database")
		}
		if public && open {
			k.add("public-connect", name, "REVOKE ALL ON DATABASE "+Quote(name)+" FROM PUBLIC", "every role may enter this database")
		}
		return nil
	})
	return names, err
}

// inside looks into one database.
func (k *datasetCheck) inside(ctx context.Context, cfg *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		k.warn("unseen", cfg.Database, "", "this database cannot be entered")
		return nil
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, q := range []struct{ code, sql, text, mend string }{
		{"extension", `SELECT extname::text FROM pg_extension WHERE NOT extname = ANY ($1) ORDER BY 1`,
			"extension %s is not known to stay inside its database", "DROP EXTENSION %s"},
		{"foreign", `SELECT srvname::text FROM pg_foreign_server WHERE $1::text[] IS NOT NULL ORDER BY 1`,
			"foreign server %s reaches out", "DROP SERVER %s CASCADE"},
		{"foreign", `SELECT fdwname::text FROM pg_foreign_data_wrapper WHERE $1::text[] IS NOT NULL ORDER BY 1`,
			"foreign-data wrapper %s reaches out", "DROP FOREIGN DATA WRAPPER %s CASCADE"},
		{"language", `SELECT lanname::text FROM pg_language WHERE NOT lanpltrusted AND lanname NOT IN ('internal','c') AND $1::text[] IS NOT NULL ORDER BY 1`,
			"language %s is untrusted: its functions reach files and the network", "DROP LANGUAGE %s CASCADE"},
		{"function", `SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
			WHERE l.lanname = 'c' AND p.pronamespace <> 'pg_catalog'::regnamespace AND $1::text[] IS NOT NULL
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e') ORDER BY 1`,
			"function %s is compiled code of no known extension", ""},
		{"function", `SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.prosecdef AND $1::text[] IS NOT NULL
			AND NOT ` + ownTemporary + ` AND NOT ` + ownProbe() + ` AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) ORDER BY 1`,
			"function %s runs with its owner's rights", ""},
		{"copy", `SELECT subname::text FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND $1::text[] IS NOT NULL ORDER BY 1`,
			"subscription %s brings data from elsewhere", "DROP SUBSCRIPTION %s"},
		{"copy", `SELECT pubname::text FROM pg_publication WHERE $1::text[] IS NOT NULL ORDER BY 1`,
			"publication %s offers data to others", "DROP PUBLICATION %s"},
		{"public-function", `SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace
			AND p.proname IN ('lo_creat','lo_create','lo_from_bytea','lo_put','lowrite','pg_logical_emit_message') AND $1::text[] IS NOT NULL
			AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x WHERE x.grantee = 0) ORDER BY 1`,
			"everyone may run %s, which writes", "REVOKE ALL ON FUNCTION %s FROM PUBLIC"},
	} {
		names, err := list(ctx, conn, q.sql, harmlessExtensions)
		if isPermission(err) {
			k.warn("unseen", cfg.Database, "", "%s objects cannot be listed", q.code)
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range names {
			mend := q.mend
			if strings.Contains(mend, "%s") {
				if q.code == "public-function" {
					mend = fmt.Sprintf(mend, n)
				} else {
					mend = fmt.Sprintf(mend, Quote(n))
				}
			}
			k.add(q.code, cfg.Database, mend, q.text, n)
		}
	}
	return nil
}
