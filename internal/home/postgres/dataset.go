package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
)

// Roles of a dataset cluster.
const (
	OwnerRole      = "trefoil_owner"      // NOLOGIN; owns dataset databases and what is in them
	StewardRole    = "trefoil_steward"    // builds: LOGIN by socket and SCRAM, CREATEDB, CREATEROLE, never superuser
	PrincipalsRole = "trefoil_principals" // NOLOGIN group; its members log in by gateway certificate alone
)

// DatasetAccess is the Access of a dataset cluster.
func DatasetAccess() Access {
	return Access{Principals: PrincipalsRole, Never: []string{StewardRole, OwnerRole}, Probe: install.Role}
}

// DatasetSettings are the settings of a dataset cluster: no replication and minimal WAL, so
// that a load into a new table writes none; sized for a machine with a few cores that several
// clusters share; no session sees what another runs, and no log holds it.
func DatasetSettings() map[string]string {
	return map[string]string{
		"wal_level": "minimal", "max_wal_senders": "0", "archive_mode": "off",
		"max_wal_size": "4GB", "min_wal_size": "256MB", "checkpoint_timeout": "15min", "wal_compression": "on",
		"shared_buffers": "512MB", "effective_cache_size": "4GB", "work_mem": "32MB", "maintenance_work_mem": "512MB",
		"max_parallel_workers": "4", "max_parallel_workers_per_gather": "2", "max_parallel_maintenance_workers": "2",
		"random_page_cost": "1.1", "max_connections": "300", "max_locks_per_transaction": "256",
		"jit":              "off",
		"track_activities": "off", "track_activity_query_size": "100", "shared_preload_libraries": "",
		"session_preload_libraries": "", "local_preload_libraries": "",
		"log_connections": "off", "log_disconnections": "off", "log_temp_files": "-1", "log_lock_waits": "off",
		"idle_in_transaction_session_timeout": "1h", "temp_file_limit": "20GB",
		"client_connection_check_interval": "5s", // nothing goes on running for a client that has gone
	}
}

// PrepareDatasetCluster makes the roles of a running dataset cluster and takes from PUBLIC
// what a principal must not have, in the templates too, so that databases made later have it
// from the start. It may be run again; stewardPassword is set each time.
func PrepareDatasetCluster(ctx context.Context, c *Cluster, stewardPassword string) error {
	err := c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		if err := makeDatasetRoles(ctx, conn, stewardPassword); err != nil {
			return err
		}
		// template0 is what databases with options of their own are made from.
		return run(ctx, conn, `ALTER DATABASE template0 WITH ALLOW_CONNECTIONS true`)
	})
	if err != nil {
		return fmt.Errorf("prepare dataset cluster: %w", err)
	}
	for _, db := range []string{"template0", "template1", "postgres"} {
		if err := c.AsSuperuser(ctx, db, func(conn *pgx.Conn) error { return harden(ctx, conn, db) }); err != nil {
			return fmt.Errorf("prepare dataset cluster: harden %s: %w", db, err)
		}
	}
	err = c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		if err := run(ctx, conn, temporaryStatements()...); err != nil {
			return err
		}
		return run(ctx, conn, `ALTER DATABASE template0 WITH ALLOW_CONNECTIONS false`)
	})
	if err != nil {
		return fmt.Errorf("prepare dataset cluster: %w", err)
	}
	return nil
}

// quickCompression has whoever writes datasets compress whole pages in the log by LZ4, which takes
// a fraction of the processor time of PostgreSQL's own. A server without it goes on as it is set.
func quickCompression(ctx context.Context, conn *pgx.Conn) error {
	err := run(ctx, conn, "ALTER ROLE "+StewardRole+" SET wal_compression = lz4")
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "22023" { // no such value
		return nil
	}
	return err
}

func makeDatasetRoles(ctx context.Context, conn *pgx.Conn, password string) error {
	for _, role := range []string{OwnerRole, StewardRole, PrincipalsRole} {
		var there bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&there); err != nil {
			return err
		}
		if !there {
			if err := run(ctx, conn, "CREATE ROLE "+role); err != nil {
				return err
			}
		}
	}
	verifier, err := scramVerifier(password)
	if err != nil {
		return err
	}
	// Datasets say what they hold in a setting of their database; from PostgreSQL 15 on a role
	// that is not superuser needs leave for a setting that no module declares.
	var version int
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return err
	}
	if version >= 150000 {
		if err := run(ctx, conn, "GRANT SET ON PARAMETER trefoil.dataset TO "+OwnerRole); err != nil {
			return err
		}
	}
	if version >= 150000 {
		if err := quickCompression(ctx, conn); err != nil {
			return err
		}
	}
	return run(ctx, conn,
		"ALTER ROLE "+OwnerRole+" NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
		"ALTER ROLE "+PrincipalsRole+" NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
		"ALTER ROLE "+StewardRole+" LOGIN NOSUPERUSER CREATEDB CREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '"+verifier+"'",
		"GRANT "+OwnerRole+" TO "+StewardRole,
		"GRANT "+PrincipalsRole+" TO "+StewardRole+" WITH ADMIN OPTION",
		"GRANT pg_signal_backend, pg_read_all_stats TO "+StewardRole, // to end revoked sessions
	)
}

// deniedFunctions are built-in functions that write, or tell about other sessions, and that
// PostgreSQL gives to everyone. NOTIFY stays: it carries only what its own session sent.
var deniedFunctions = []string{
	"lo_creat", "lo_create", "lo_from_bytea", "lo_import", "lo_export", "lo_put", "lowrite", "lo_truncate", "lo_truncate64", "lo_unlink", "lo_open",
	"pg_logical_emit_message", "pg_stat_get_activity", "pg_stat_get_backend_activity", "pg_stat_get_backend_activity_start",
	"pg_stat_get_backend_client_addr", "pg_stat_get_backend_client_port", "pg_stat_get_backend_dbid", "pg_stat_get_backend_idset",
	"pg_stat_get_backend_pid", "pg_stat_get_backend_start", "pg_stat_get_backend_subxact", "pg_stat_get_backend_userid",
	"pg_stat_get_backend_wait_event", "pg_stat_get_backend_wait_event_type", "pg_stat_get_backend_xact_start", "pg_stat_get_wal_senders",
}

// harden takes from PUBLIC what a principal must not have in one database.
func harden(ctx context.Context, conn *pgx.Conn, database string) error {
	rows, err := conn.Query(ctx, `SELECT p.oid::regprocedure::text FROM pg_proc p
		WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ($1) ORDER BY 1`, deniedFunctions)
	if err != nil {
		return err
	}
	functions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	statements := []string{
		"REVOKE ALL ON DATABASE " + Quote(database) + " FROM PUBLIC",
		"REVOKE CREATE ON SCHEMA public FROM PUBLIC",
		"REVOKE ALL ON pg_catalog.pg_stat_activity, pg_catalog.pg_stat_replication, pg_catalog.pg_stat_ssl, pg_catalog.pg_stat_gssapi, pg_catalog.pg_stat_database FROM PUBLIC",
		"GRANT SELECT ON pg_catalog.pg_stat_activity, pg_catalog.pg_stat_ssl TO " + StewardRole,
	}
	if database == "postgres" { // the steward makes and drops databases from there
		statements = append(statements, "GRANT CONNECT ON DATABASE postgres TO "+StewardRole)
	}
	for _, f := range functions {
		statements = append(statements, "REVOKE ALL ON FUNCTION pg_catalog."+f+" FROM PUBLIC")
	}
	statements = append(statements, "GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_get_activity(integer) TO "+StewardRole)
	return run(ctx, conn, statements...)
}

// CreateDatasetDatabase makes an empty database for a dataset, owned by OwnerRole, that no
// principal may enter yet. conn is the steward's.
func CreateDatasetDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	if err := run(ctx, conn,
		"CREATE DATABASE "+Quote(name)+" OWNER "+OwnerRole+" TEMPLATE template0 ENCODING 'UTF8'",
		"SET ROLE "+OwnerRole,
		"REVOKE ALL ON DATABASE "+Quote(name)+" FROM PUBLIC",
		"RESET ROLE"); err != nil {
		return fmt.Errorf("create dataset database: %w", err)
	}
	return nil
}

// run executes statements one after the other; none of them carries a value of a person.
func run(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
