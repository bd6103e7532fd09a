// Package install holds the exact statements that a superuser of the operator runs once, so that
// the monitor's probe may ask a server who is connected, what copies it, and who may come in.
//
// The invariant it keeps: what they give is read by one role, trefoil_probe, and is no query text,
// no password, no connection string and no value of a table. The functions belong to a role that
// cannot log in and has only the rights that they need; never pg_monitor, which reads other
// sessions' statements. Both sides hold the text, so the probe sees when a function was altered.
//
// It connects to nothing and imports nothing: the operator's side prints it, the monitor's compares it.
package install

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Names that the statements make.
const (
	Role   = "trefoil_probe"       // logs in; may call the functions and nothing else
	Owner  = "trefoil_probe_owner" // NOLOGIN; owns the functions
	Schema = "trefoil_probe"
)

// factsBody answers one row a fact: topic, name, value. Names of applications are mapped to a
// closed set of classes and certificates to a hash, because both can name a person. Commands are
// told by a hash that differs from cluster to cluster: they may hold passwords.
const factsBody = `
  SELECT 'session', format('user=%s database=%s application=%s backend=%s address=%s certificate=%s', trefoil_probe.word(a.usename), trefoil_probe.word(a.datname),
      trefoil_probe.class(a.application_name), replace(a.backend_type, ' ', '-'), coalesce(host(a.client_addr), 'local'),
      coalesce(left(encode(sha256(convert_to(s.client_dn || '/' || coalesce(s.issuer_dn, ''), 'UTF8')), 'hex'), 16), '-')), count(*)::text
    FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_stat_ssl s ON s.pid = a.pid
    WHERE a.backend_type NOT IN ('autovacuum launcher', 'autovacuum worker', 'archiver', 'background writer', 'checkpointer', 'startup', 'walwriter',
      'logger', 'logical replication launcher', 'parallel worker', 'io worker', 'walsummarizer', 'slotsync worker')
    GROUP BY 2
  UNION ALL SELECT 'replication', format('user=%s application=%s address=%s', trefoil_probe.word(usename), trefoil_probe.class(application_name), coalesce(host(client_addr), 'local')), ''
    FROM pg_catalog.pg_stat_replication
  UNION ALL SELECT 'base-backup', format('user=%s address=%s', trefoil_probe.word(r.usename), coalesce(host(r.client_addr), 'local')), ''
    FROM pg_catalog.pg_stat_progress_basebackup b LEFT JOIN pg_catalog.pg_stat_activity r ON r.pid = b.pid
  UNION ALL SELECT 'slot', slot_name::text, format('%s plugin=%s database=%s temporary=%s', slot_type, coalesce(plugin, '-'), coalesce(database, '-'), temporary)
    FROM pg_catalog.pg_replication_slots
  UNION ALL SELECT 'receiver', format('host=%s port=%s', coalesce(sender_host, '-'), coalesce(sender_port::text, '-')), coalesce(slot_name, '-')
    FROM pg_catalog.pg_stat_wal_receiver
  UNION ALL SELECT 'subscription', d.datname || '/' || s.subname, format('enabled=%s publications=%s', s.subenabled, array_to_string(s.subpublications, ','))
    FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
  UNION ALL SELECT 'command', name, CASE WHEN setting IN ('', '(disabled)') THEN 'none' ELSE left(encode(sha256(convert_to(
      (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) || '/' || name || '/' || setting, 'UTF8')), 'hex'), 32) END
    FROM pg_catalog.pg_settings WHERE name IN ('archive_command', 'archive_library', 'restore_command', 'archive_cleanup_command', 'recovery_end_command',
      'primary_conninfo', 'ssl_passphrase_command')
  UNION ALL SELECT 'setting', name, setting
    FROM pg_catalog.pg_settings WHERE name IN ('archive_mode', 'wal_level', 'max_wal_senders', 'shared_preload_libraries', 'session_preload_libraries',
      'local_preload_libraries', 'listen_addresses', 'unix_socket_directories', 'ssl', 'hot_standby', 'synchronous_standby_names', 'log_statement',
      'log_min_error_statement', 'log_min_duration_statement', 'password_encryption')
  UNION ALL SELECT 'login-rule', format('%s database=%s user=%s address=%s%s method=%s %s', type, array_to_string(database, ','), array_to_string(user_name, ','),
      coalesce(address, '-'), coalesce('/' || netmask, ''), auth_method, coalesce((SELECT string_agg(o, ' ') FROM unnest(options) o
        WHERE o ~ '^(clientcert|clientname|map|include_realm|krb_realm)='), '')), count(*)::text
    FROM pg_catalog.pg_hba_file_rules WHERE error IS NULL GROUP BY 2
  UNION ALL SELECT 'login-order', 'all', left(encode(sha256(convert_to(coalesce(string_agg(concat_ws(' ', type, database::text, user_name::text, address, netmask,
      auth_method), E'\n' ORDER BY line_number), ''), 'UTF8')), 'hex'), 32)
    FROM pg_catalog.pg_hba_file_rules WHERE error IS NULL
  UNION ALL SELECT 'role', rolname::text, concat_ws(' ', CASE WHEN rolcanlogin THEN 'login' END, CASE WHEN rolsuper THEN 'superuser' END,
      CASE WHEN rolcreatedb THEN 'createdb' END, CASE WHEN rolcreaterole THEN 'createrole' END, CASE WHEN rolreplication THEN 'replication' END,
      CASE WHEN rolbypassrls THEN 'bypassrls' END)
    FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_'
  UNION ALL SELECT 'member', m.rolname || ' in ' || g.rolname, CASE WHEN a.admin_option THEN 'admin' ELSE '' END
    FROM (SELECT member, roleid, bool_or(admin_option) AS admin_option FROM pg_catalog.pg_auth_members GROUP BY 1, 2) a
      JOIN pg_catalog.pg_roles m ON m.oid = a.member JOIN pg_catalog.pg_roles g ON g.oid = a.roleid WHERE m.rolname !~ '^pg_'
  UNION ALL SELECT 'database', d.datname::text, format('owner=%s', r.rolname)
    FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
  UNION ALL SELECT 'tablespace', spcname::text, pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace
`

const classBody = `
  SELECT CASE WHEN coalesce(application_name, '') = '' THEN 'none'
    WHEN application_name ~ '^trefoil( |$)' THEN 'trefoil'
    WHEN application_name IN ('psql', 'pg_dump', 'pg_dumpall', 'pg_restore', 'pg_basebackup', 'pg_receivewal', 'pg_recvlogical', 'walreceiver',
      'pgbench', 'pgbouncer', 'barman', 'pgbackrest', 'patroni') THEN application_name
    WHEN application_name ~* '^(dbeaver|datagrip|pgadmin|heidisql|tableplus|metabase|tableau|grafana|excel)' THEN
      lower(substring(application_name FROM '^[A-Za-z]+'))
    ELSE 'other' END `

// wordBody makes one word of a name, so that a name cannot pretend to be further fields.
const wordBody = `SELECT coalesce(regexp_replace(name::text, '[^[:alnum:]_.@-]', '?', 'g'), '-')`

// functions are the definer functions, by signature.
var functions = []struct{ signature, args, returns, body string }{
	{"trefoil_probe.class(application_name text)", "(text)", "text", classBody},
	{"trefoil_probe.word(name name)", "(name)", "text", wordBody},
	{"trefoil_probe.facts(OUT topic text, OUT name text, OUT value text)", "()", "SETOF record", factsBody},
}

// Bodies returns the text of each function that the probe relies on, by name: what pg_proc.prosrc
// must hold.
func Bodies() map[string]string {
	return map[string]string{"class": classBody, "word": wordBody, "facts": factsBody}
}

// Hash is a short digest of all of it, for reports.
func Hash() string {
	sum := sha256.Sum256([]byte(classBody + wordBody + factsBody))
	return hex.EncodeToString(sum[:8])
}

// Statements returns what a superuser runs in the database database of a server: the roles, the
// functions and their rights. Verifier is the SCRAM verifier of the probe's password, from the
// monitor; "" leaves the role without a password.
func Statements(database, verifier string) []string {
	out := []string{
		"CREATE ROLE " + Owner + " NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
		"CREATE ROLE " + Role + " LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT CONNECTION LIMIT 4" + password(verifier),
		"GRANT pg_read_all_stats, pg_read_all_settings TO " + Owner,
		Enter(database),
		"CREATE SCHEMA " + Schema,
		"REVOKE ALL ON SCHEMA " + Schema + " FROM PUBLIC",
		"GRANT USAGE ON SCHEMA " + Schema + " TO " + Role + ", " + Owner,
		"GRANT SELECT ON pg_catalog.pg_stat_activity, pg_catalog.pg_stat_ssl, pg_catalog.pg_stat_replication, pg_catalog.pg_hba_file_rules TO " + Owner,
		"GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules(), pg_catalog.pg_stat_get_activity(integer), pg_catalog.pg_stat_get_wal_senders(), pg_catalog.pg_control_system() TO " + Owner,
	}
	for _, f := range functions {
		name, _, _ := strings.Cut(f.signature, "(")
		args := f.args
		out = append(out,
			"CREATE OR REPLACE FUNCTION "+f.signature+" RETURNS "+f.returns+" LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $trefoil$"+f.body+"$trefoil$",
			"ALTER FUNCTION "+name+args+" OWNER TO "+Owner,
			"REVOKE ALL ON FUNCTION "+name+args+" FROM PUBLIC",
			"GRANT EXECUTE ON FUNCTION "+name+args+" TO "+Role)
	}
	return out
}

func password(verifier string) string {
	if verifier == "" {
		return ""
	}
	return " PASSWORD '" + strings.ReplaceAll(verifier, "'", "''") + "'"
}

// Enter lets the probe connect to one more database of the server. It may read its catalogs, as
// everyone may who is in it, and no table.
func Enter(database string) string {
	return `GRANT CONNECT ON DATABASE "` + strings.ReplaceAll(database, `"`, `""`) + `" TO ` + Role
}
