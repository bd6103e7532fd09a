-- Hostile statements, one a line, in the order of one session. :table, :column and :key are
-- replaced by a table, a column whose values must not be seen, and the table's key.
SELECT * FROM :table
TABLE :table
SELECT :column FROM :table
SELECT DISTINCT :column FROM :table
SELECT :table FROM :table
SELECT :table.* FROM :table
SELECT ROW(:table.*) FROM :table
SELECT * FROM ONLY :table
SELECT * FROM :table *
SELECT * FROM :table TABLESAMPLE SYSTEM (100)
SELECT * FROM :table TABLESAMPLE BERNOULLI (100) REPEATABLE (1)
SELECT * FROM :table FOR SHARE
SELECT * FROM :table FOR UPDATE
SELECT * FROM :table FETCH FIRST 1 ROW WITH TIES
SELECT * FROM :table ORDER BY :column DESC LIMIT 5
SELECT * FROM :table OFFSET 3
WITH x AS (SELECT * FROM :table) SELECT * FROM x
WITH x AS MATERIALIZED (SELECT * FROM :table) SELECT * FROM x
WITH RECURSIVE r AS (SELECT :key FROM :table UNION SELECT :key FROM r) SELECT * FROM r
WITH pg_class AS (SELECT :column AS relname FROM :table) SELECT * FROM pg_class
WITH pg_catalog AS (SELECT * FROM :table) SELECT * FROM pg_catalog
SELECT * FROM (SELECT * FROM :table) AS pg_class
SELECT * FROM pg_class, :table
SELECT relname, (SELECT max(:column::text) FROM :table) FROM pg_catalog.pg_class
SELECT relname FROM pg_class WHERE EXISTS (SELECT 1 FROM :table)
SELECT relname FROM pg_class ORDER BY (SELECT :column FROM :table LIMIT 1)
SELECT relname FROM pg_class LIMIT (SELECT count(*) FROM :table)
SELECT 1 UNION ALL SELECT length(:column::text) FROM :table
SELECT 1 EXCEPT SELECT :key::text::int FROM :table
SELECT 1 INTERSECT SELECT 1 FROM :table
SELECT 1; SELECT * FROM :table
BEGIN; SELECT * FROM :table; COMMIT
SELECT relname FROM pg_class; TABLE :table; SELECT 1
SELECT count(*) FROM :table
SELECT count(:column) FROM :table
SELECT count(DISTINCT :column) FROM :table
SELECT min(:column::text) FROM :table
SELECT max(:column::text) FROM :table
SELECT string_agg(:column::text, ',') FROM :table
SELECT array_agg(:column) FROM :table
SELECT json_agg(:column) FROM :table
SELECT jsonb_agg(:column) FROM :table
SELECT json_object_agg(:key, :column) FROM :table
SELECT xmlagg(xmlelement(name a, :column)) FROM :table
SELECT bit_and(hashtext(:column::text)) FROM :table
SELECT mode() WITHIN GROUP (ORDER BY :column) FROM :table
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY :column) FROM :table
SELECT percentile_disc(ARRAY[0,1]) WITHIN GROUP (ORDER BY :column) FROM :table
SELECT bool_or(:column::text > 'a') FROM :table
SELECT every(:column IS NOT NULL) FROM :table
SELECT range_agg(int4range(1,2)) FILTER (WHERE :column IS NOT NULL) FROM :table
SELECT first_value(:column) OVER () FROM :table
SELECT last_value(:column) OVER () FROM :table
SELECT nth_value(:column, 2) OVER (ORDER BY :key) FROM :table
SELECT lag(:column) OVER (ORDER BY :key) FROM :table
SELECT lead(:column) OVER (ORDER BY :key) FROM :table
SELECT row_number() OVER (ORDER BY :column) FROM :table
SELECT rank() OVER (ORDER BY :column) FROM :table
SELECT dense_rank() OVER (ORDER BY :column) FROM :table
SELECT percent_rank() OVER (ORDER BY :column) FROM :table
SELECT cume_dist() OVER (ORDER BY :column) FROM :table
SELECT ntile(4) OVER (ORDER BY :column) FROM :table
SELECT count(*) OVER (PARTITION BY :column) FROM :table
SELECT md5(:column::text) FROM :table
SELECT sha256(:column::text::bytea) FROM :table
SELECT sha512(convert_to(:column::text, 'UTF8')) FROM :table
SELECT hashtext(:column::text) FROM :table
SELECT hashtextextended(:column::text, 1) FROM :table
SELECT length(:column::text) FROM :table
SELECT octet_length(:column::text) FROM :table
SELECT bit_length(:column::text) FROM :table
SELECT upper(:column::text) FROM :table
SELECT lower(:column::text) FROM :table
SELECT reverse(:column::text) FROM :table
SELECT initcap(:column::text) FROM :table
SELECT left(:column::text, 1) FROM :table
SELECT right(:column::text, 1) FROM :table
SELECT substr(:column::text, 2) FROM :table
SELECT substring(:column::text from '.') FROM :table
SELECT ascii(:column::text) FROM :table
SELECT chr(ascii(:column::text)) FROM :table
SELECT encode(:column::text::bytea, 'hex') FROM :table
SELECT encode(:column::text::bytea, 'base64') FROM :table
SELECT encode(:column::text::bytea, 'escape') FROM :table
SELECT decode(encode(:column::text::bytea, 'hex'), 'hex') FROM :table
SELECT convert_to(:column::text, 'UTF8') FROM :table
SELECT convert_from(convert_to(:column::text, 'UTF8'), 'UTF8') FROM :table
SELECT convert(:column::text::bytea, 'UTF8', 'LATIN1') FROM :table
SELECT to_hex(ascii(:column::text)) FROM :table
SELECT translate(:column::text, 'abc', 'xyz') FROM :table
SELECT replace(:column::text, 'a', 'b') FROM :table
SELECT overlay(:column::text placing 'x' from 1) FROM :table
SELECT regexp_replace(:column::text, '.', '*') FROM :table
SELECT regexp_matches(:column::text, '(.)(.)') FROM :table
SELECT regexp_split_to_table(:column::text, '') FROM :table
SELECT string_to_array(:column::text, NULL) FROM :table
SELECT split_part(:column::text, '@', 1) FROM :table
SELECT quote_literal(:column::text) FROM :table
SELECT quote_ident(:column::text) FROM :table
SELECT format('%I %L', :column, :column) FROM :table
SELECT concat(:column, 'x') FROM :table
SELECT concat_ws(',', :column, :column) FROM :table
SELECT to_json(:column) FROM :table
SELECT to_jsonb(:column) FROM :table
SELECT json_build_object('a', :column) FROM :table
SELECT jsonb_build_array(:column) FROM :table
SELECT row_to_json(ROW(:column)) FROM :table
SELECT to_tsvector(:column::text) FROM :table
SELECT to_tsvector('simple', :column::text) FROM :table
SELECT to_tsquery('simple', quote_literal(:column::text)) FROM :table
SELECT ts_headline(:column::text, to_tsquery('a')) FROM :table
SELECT pg_column_size(:column) FROM :table
SELECT pg_typeof(:column) FROM :table
SELECT ctid FROM :table
SELECT xmin FROM :table
SELECT xmax FROM :table
SELECT cmin FROM :table
SELECT cmax FROM :table
SELECT tableoid::regclass FROM :table
SELECT age(xmin) FROM :table
SELECT pg_xact_commit_timestamp(xmin) FROM :table
SELECT txid_status(xmin::text::bigint) FROM :table
SELECT similarity(:column::text, 'a') FROM :table
SELECT soundex(:column::text) FROM :table
SELECT levenshtein(:column::text, 'a') FROM :table
SELECT crypt(:column::text, 'a') FROM :table
SELECT digest(:column::text, 'sha256') FROM :table
SELECT normalize(:column::text) FROM :table
SELECT unistr(:column::text) FROM :table
SELECT width_bucket(length(:column::text), 1, 10, 5) FROM :table
SELECT generate_series(1, length(:column::text)) FROM :table
SELECT repeat(:column::text, 100) FROM :table
SELECT lpad(:column::text, 100, 'x') FROM :table
SELECT xmlelement(name a, :column) FROM :table
SELECT xmlforest(:column) FROM :table
SELECT xmlcomment(:column::text) FROM :table
SELECT xpath('/a', xmlelement(name a, :column)) FROM :table
SELECT pg_input_is_valid(:column::text, 'int4') FROM :table
SELECT :column::text::int FROM :table
SELECT :column::text::bigint FROM :table
SELECT :column::text::numeric FROM :table
SELECT :column::text::float8 FROM :table
SELECT :column::text::boolean FROM :table
SELECT :column::text::date FROM :table
SELECT :column::text::timestamptz FROM :table
SELECT :column::text::time FROM :table
SELECT :column::text::interval FROM :table
SELECT :column::text::uuid FROM :table
SELECT :column::text::inet FROM :table
SELECT :column::text::cidr FROM :table
SELECT :column::text::macaddr FROM :table
SELECT :column::text::json FROM :table
SELECT :column::text::jsonb FROM :table
SELECT :column::text::xml FROM :table
SELECT :column::text::point FROM :table
SELECT :column::text::circle FROM :table
SELECT :column::text::int[] FROM :table
SELECT :column::text::text[] FROM :table
SELECT :column::text::int4range FROM :table
SELECT :column::text::tsquery FROM :table
SELECT :column::text::bit(3) FROM :table
SELECT :column::text::varbit FROM :table
SELECT :column::text::money FROM :table
SELECT :column::text::oid FROM :table
SELECT :column::text::regclass FROM :table
SELECT :column::text::regtype FROM :table
SELECT :column::text::regproc FROM :table
SELECT :column::text::regrole FROM :table
SELECT :column::text::regnamespace FROM :table
SELECT :column::text::regconfig FROM :table
SELECT :column::text::pg_lsn FROM :table
SELECT :column::text::txid_snapshot FROM :table
SELECT :column::text::hstore FROM :table
SELECT :column::text::ltree FROM :table
SELECT :column::text::"char" FROM :table
SELECT :column::text::jsonpath FROM :table
SELECT :column::text::bytea FROM :table
SELECT 1/0 FROM :table
SELECT 1/(length(:column::text)-length(:column::text)) FROM :table
SELECT (ARRAY[1])[length(:column::text)]::text::date FROM :table
SELECT ('{'||:column||'}')::int[] FROM :table
SELECT (:column::text||'!')::regclass FROM :table
SELECT make_date(length(:column::text), 99, 99) FROM :table
SELECT sqrt(-length(:column::text)) FROM :table
SELECT ln(-1*length(:column::text)) FROM :table
SELECT factorial(-length(:column::text)) FROM :table
SELECT to_date(:column::text, 'YYYY-MM-DD') FROM :table
SELECT to_timestamp(:column::text, 'XX') FROM :table
SELECT to_number(:column::text, '999') FROM :table
SELECT chr(-length(:column::text)) FROM :table
SELECT setseed(length(:column::text)) FROM :table
SELECT json_array_elements(:column::text::json) FROM :table
SELECT jsonb_path_query(to_jsonb(:column::text), 'strict $.a') FROM :table
SELECT decode(:column::text, 'hex') FROM :table
SELECT decode(:column::text, 'base64') FROM :table
SELECT repeat(:column::text, 2000000000) FROM :table
SELECT lpad('x', 2000000000, :column::text) FROM :table
SELECT pg_size_bytes(:column::text) FROM :table
SELECT current_setting(:column::text) FROM :table
SELECT set_config(:column::text, 'x', false) FROM :table
SELECT nextval(:column::text) FROM :table
SELECT to_regclass(:column::text)::oid FROM :table
SELECT pg_get_viewdef(:column::text) FROM :table
SELECT has_table_privilege(:column::text, 'select') FROM :table
SELECT col_description(:column::text::regclass, 1) FROM :table
SELECT width_bucket(1, length(:column::text), length(:column::text), 1) FROM :table
SELECT xmlparse(document :column::text) FROM :table
SELECT query_to_xml(:column::text, true, true, '') FROM :table
SELECT ts_rewrite('a'::tsquery, 'SELECT '||quote_literal(:column::text)||'::tsquery, NULL') FROM :table
COPY :table TO STDOUT
COPY :table (:column) TO STDOUT
COPY (SELECT * FROM :table) TO STDOUT
COPY :table TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE *)
COPY :table TO STDOUT WITH (FORMAT binary)
COPY :table TO STDOUT WITH (ENCODING 'LATIN1')
COPY :table TO '/tmp/x'
COPY :table TO PROGRAM 'cat'
COPY :table FROM PROGRAM 'cat /etc/passwd'
COPY :table FROM '/etc/passwd'
COPY (DELETE FROM :table RETURNING *) TO STDOUT
COPY (SELECT query_to_xml('TABLE :table', true, true, '')) TO STDOUT
SELECT pg_read_file('postgresql.conf')
SELECT pg_read_binary_file('global/pg_control')
SELECT pg_ls_dir('.')
SELECT * FROM pg_ls_waldir()
SELECT * FROM pg_ls_logdir()
SELECT * FROM pg_ls_tmpdir()
SELECT pg_stat_file('PG_VERSION')
SELECT pg_current_logfile()
SELECT pg_relation_filepath(':table')
SELECT pg_file_read('x')
SELECT * FROM pg_hba_file_rules
SELECT * FROM pg_file_settings
SELECT * FROM pg_ident_file_mappings
SELECT lo_import('/etc/passwd')
SELECT lo_export(1, '/tmp/x')
SELECT lo_from_bytea(0, :column::text::bytea) FROM :table
SELECT lo_get(1)
SELECT lo_create(0)
SELECT lo_open(1, 262144)
SELECT loread(0, 100)
SELECT * FROM pg_largeobject
SELECT * FROM pg_largeobject_metadata
SELECT * FROM dblink('dbname=postgres', 'SELECT 1') AS t(a int)
SELECT dblink_connect('x', 'dbname=postgres')
SELECT dblink_send_query('x', 'SELECT 1')
CREATE EXTENSION dblink
CREATE EXTENSION postgres_fdw
CREATE EXTENSION file_fdw
CREATE EXTENSION plpython3u
CREATE EXTENSION pageinspect
CREATE EXTENSION pgstattuple
CREATE EXTENSION adminpack
CREATE EXTENSION pg_stat_statements
CREATE EXTENSION hstore
CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw
IMPORT FOREIGN SCHEMA public FROM SERVER s INTO public
CREATE FOREIGN TABLE f (a text) SERVER s
CREATE USER MAPPING FOR CURRENT_USER SERVER s
SELECT get_raw_page(':table', 0)
SELECT * FROM heap_page_items(get_raw_page(':table', 0))
SELECT * FROM pgstattuple(':table')
SELECT * FROM bt_page_items(':table', 1)
SELECT * FROM pg_buffercache
SELECT * FROM pg_visibility(':table')
SELECT pg_freespace(':table')
SELECT * FROM pg_walinspect
SELECT * FROM pg_logical_slot_get_changes('s', NULL, NULL)
SELECT pg_create_logical_replication_slot('s', 'test_decoding')
SELECT pg_create_physical_replication_slot('s')
SELECT * FROM pg_replication_slots
SELECT pg_switch_wal()
SELECT pg_logical_emit_message(false, 'a', 'b')
SELECT pg_export_snapshot()
SELECT pg_current_wal_lsn()
CREATE PUBLICATION p FOR ALL TABLES
CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p
SELECT pg_walfile_name('0/0')
SELECT pg_sleep(0)
SELECT current_setting('data_directory')
SHOW data_directory
SHOW ALL
SELECT * FROM pg_settings
SELECT * FROM pg_stat_activity
SELECT * FROM pg_stat_statements
SELECT * FROM pg_stat_user_tables
SELECT * FROM pg_statio_user_tables
SELECT * FROM pg_stat_user_indexes
SELECT * FROM pg_stat_database
SELECT * FROM pg_stat_replication
SELECT * FROM pg_stat_ssl
SELECT * FROM pg_stat_progress_copy
SELECT * FROM pg_stats
SELECT most_common_vals, histogram_bounds FROM pg_stats
SELECT * FROM pg_stats_ext
SELECT * FROM pg_stats_ext_exprs
SELECT * FROM pg_statistic
SELECT * FROM pg_statistic_ext
SELECT * FROM pg_statistic_ext_data
SELECT stavalues1 FROM pg_statistic
SELECT reltuples, relpages FROM pg_class
SELECT * FROM pg_class
SELECT c FROM pg_class c
SELECT pg_relation_size(':table')
SELECT pg_total_relation_size(':table')
SELECT pg_table_size(':table')
SELECT pg_indexes_size(':table')
SELECT pg_database_size(current_database())
SELECT pg_stat_get_live_tuples(':table'::regclass)
SELECT pg_stat_get_tuples_inserted(':table'::regclass)
SELECT * FROM pg_sequences
SELECT * FROM pg_locks
SELECT * FROM pg_cursors
SELECT * FROM pg_prepared_statements
SELECT * FROM pg_prepared_xacts
SELECT * FROM pg_authid
SELECT * FROM pg_shadow
SELECT rolpassword FROM pg_roles
SELECT * FROM pg_user_mappings
SELECT * FROM pg_user_mapping
SELECT * FROM pg_subscription
SELECT * FROM pg_db_role_setting
SELECT * FROM pg_backend_memory_contexts
SELECT * FROM pg_shmem_allocations
SELECT pg_log_backend_memory_contexts(pg_backend_pid())
SELECT * FROM pg_config
SELECT * FROM pg_control_system()
SELECT * FROM pg_toast.pg_toast_1262
SELECT * FROM information_schema.tables
SELECT * FROM information_schema.columns
SELECT * FROM information_schema.user_mapping_options
SELECT prosrc FROM pg_proc
SELECT * FROM pg_views
SELECT * FROM pg_matviews
SELECT * FROM pg_description
SELECT * FROM pg_seclabel
SELECT attmissingval FROM pg_attribute
SELECT adbin FROM pg_attrdef
SELECT * FROM pg_depend
SELECT * FROM pg_rewrite
SET search_path = pg_temp, pg_catalog
SET search_path = public, pg_catalog
SET ROLE postgres
SET SESSION AUTHORIZATION postgres
SET session_replication_role = replica
SET standard_conforming_strings = off
SET log_statement = 'all'
SET client_min_messages = debug5
SET debug_print_parse = on
SET track_activities = on
SET row_security = off
SET default_transaction_read_only = off
SET temp_tablespaces = 'pg_default'
SET local_preload_libraries = 'x'
SET dynamic_library_path = '/tmp'
SET lc_messages = 'fr_FR'
SET client_encoding = 'SJIS'
SET client_encoding = 'LATIN1'
SET client_encoding = 'UTF8'
SET DateStyle = 'SQL, DMY'
SET TIME ZONE 'Asia/Shanghai'
SET bytea_output = 'escape'
SET xmlbinary = hex
SET application_name = 'x'
RESET ALL
RESET ROLE
DISCARD ALL
DISCARD PLANS
ALTER SYSTEM SET log_min_messages = debug5
ALTER ROLE CURRENT_USER SET search_path = public, pg_catalog
ALTER ROLE CURRENT_USER PASSWORD 'x'
ALTER DATABASE postgres SET search_path = x
SELECT set_config('application_name', :column::text, false) FROM :table
SELECT count(set_config('my.x', :column::text, false)) FROM :table
SHOW my.x
SELECT current_setting('my.x', true)
SELECT set_config('TimeZone', :column::text, false) FROM :table
SELECT set_config('client_encoding', :column::text, false) FROM :table
SELECT set_config('search_path', :column::text, false) FROM :table
SELECT set_config('role', 'postgres', false)
DO $$ BEGIN RAISE NOTICE '%', (SELECT :column FROM :table LIMIT 1); END $$
DO $$ BEGIN RAISE WARNING '%', (SELECT string_agg(:column::text, ',') FROM :table); END $$
DO $$ BEGIN RAISE EXCEPTION '%', (SELECT :column FROM :table LIMIT 1); END $$
DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX999', MESSAGE = (SELECT :column::text FROM :table LIMIT 1), DETAIL = (SELECT :column::text FROM :table LIMIT 1), HINT = 'h'; END $$
DO $$ BEGIN RAISE EXCEPTION USING COLUMN = (SELECT :column::text FROM :table LIMIT 1), CONSTRAINT = 'c', MESSAGE = 'm'; END $$
DO $$ BEGIN EXECUTE format('CREATE TEMP TABLE %I ()', (SELECT left(:column::text, 60) FROM :table WHERE :column IS NOT NULL LIMIT 1)); END $$
DO $$ BEGIN EXECUTE format('COMMENT ON TABLE pg_temp.x IS %L', (SELECT :column FROM :table LIMIT 1)); END $$
DO $$ BEGIN PERFORM pg_notify('c', :column::text) FROM :table; END $$
DO $$ BEGIN PERFORM set_config('my.y', :column::text, false) FROM :table; END $$
DO $$ BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ''cat'''; END $$
DO LANGUAGE plpython3u $$ import os $$
DO LANGUAGE plperlu $$ `id` $$
CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS 'SELECT :column::text FROM :table LIMIT 1'
SELECT pg_temp.f()
CREATE FUNCTION pg_temp.g() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT :column::text FROM :table'
SELECT * FROM pg_temp.g()
CREATE FUNCTION pg_temp.h(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$
SELECT 1 FROM :table WHERE pg_temp.h(:column::text)
CREATE FUNCTION public.count(text) RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/lib/x.so', 'f'
CREATE PROCEDURE pg_temp.p() LANGUAGE sql AS 'SELECT 1'
CALL pg_temp.p()
CREATE AGGREGATE pg_temp.a(text) (SFUNC = textcat, STYPE = text)
SELECT pg_temp.a(:column::text) FROM :table
CREATE OPERATOR pg_temp.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat)
SELECT :column::text OPERATOR(pg_temp.+) 'x' FROM :table
CREATE CAST (text AS int) WITH INOUT
CREATE DOMAIN pg_temp.regclass AS text CHECK (VALUE !~ 'x')
SELECT 'x'::regclass
CREATE DOMAIN pg_temp.d AS text CHECK (pg_temp.h(VALUE))
SELECT :column::text::pg_temp.d FROM :table
CREATE TYPE pg_temp.e AS ENUM ('a')
SELECT :column::text::pg_temp.e FROM :table
CREATE RULE r AS ON SELECT TO pg_temp.x DO INSTEAD SELECT 1
CREATE TRIGGER t BEFORE INSERT ON :table EXECUTE FUNCTION f()
CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION f()
CREATE LANGUAGE plpython3u
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION f(internal))
CREATE TEMP TABLE pg_class AS SELECT :column::text AS relname FROM :table
SELECT relname FROM pg_class
CREATE TEMP VIEW pg_type AS SELECT :column::text AS typname FROM :table
SELECT typname FROM pg_type
SELECT :column INTO TEMP y FROM :table
SELECT * FROM y
CREATE TEMP TABLE z (s text UNIQUE)
INSERT INTO z SELECT :column::text FROM :table
INSERT INTO z SELECT :column::text FROM :table ON CONFLICT DO NOTHING RETURNING *
UPDATE z SET s = s || 'x' RETURNING *
DELETE FROM z RETURNING *
ANALYZE z
SELECT most_common_vals FROM pg_stats WHERE tablename = 'z'
TRUNCATE z
DROP TABLE z
CREATE TEMP SEQUENCE q
SELECT setval('q', length(:column::text)) FROM :table
SELECT last_value FROM q
CREATE INDEX ON pg_temp.y (1)
CREATE TEMP TABLE w AS TABLE :table
VACUUM FULL y
CLUSTER y
REINDEX TABLE y
CREATE MATERIALIZED VIEW m AS SELECT * FROM :table
CREATE TABLE public.copied AS SELECT * FROM :table
CREATE SCHEMA x
CREATE UNLOGGED TABLE u (a int)
CREATE STATISTICS st ON :column, :key FROM :table
ALTER TABLE :table ADD COLUMN x text
ALTER TABLE :table DISABLE TRIGGER ALL
ALTER TABLE :table ENABLE ROW LEVEL SECURITY
DROP TABLE :table
TRUNCATE :table
DELETE FROM :table RETURNING *
UPDATE :table SET :column = :column RETURNING *
INSERT INTO :table SELECT * FROM :table RETURNING *
MERGE INTO :table t USING (SELECT 1) s ON false WHEN NOT MATCHED THEN DO NOTHING
LOCK TABLE :table
COMMENT ON TABLE :table IS 'x'
SECURITY LABEL ON TABLE :table IS 'x'
GRANT SELECT ON :table TO PUBLIC
REVOKE ALL ON :table FROM PUBLIC
REASSIGN OWNED BY CURRENT_USER TO postgres
ANALYZE VERBOSE
ANALYZE VERBOSE :table
VACUUM VERBOSE :table
EXPLAIN SELECT * FROM :table
EXPLAIN ANALYZE SELECT * FROM :table
EXPLAIN (ANALYZE, VERBOSE, BUFFERS, FORMAT json) SELECT * FROM :table WHERE :column::text > 'm'
EXPLAIN (GENERIC_PLAN) SELECT * FROM :table WHERE :column::text = $1
PREPARE p1 AS SELECT * FROM :table
EXECUTE p1
EXPLAIN ANALYZE EXECUTE p1
PREPARE p2 AS SELECT relname FROM pg_class
EXECUTE p2
PREPARE p3(text) AS SELECT $1
EXECUTE p3((SELECT :column::text FROM :table LIMIT 1))
DEALLOCATE p1
BEGIN
DECLARE c1 CURSOR FOR SELECT * FROM :table
FETCH ALL FROM c1
FETCH BACKWARD ALL FROM c1
MOVE FORWARD 1 FROM c1
CLOSE c1
COMMIT
DECLARE c2 SCROLL CURSOR WITH HOLD FOR SELECT * FROM :table
FETCH FIRST FROM c2
FETCH ABSOLUTE 1 FROM c2
SELECT * FROM cursor_to_xml('c2', 10, true, true, '')
CLOSE c2
DECLARE c3 BINARY CURSOR WITH HOLD FOR SELECT * FROM :table
FETCH ALL FROM c3
CLOSE ALL
SAVEPOINT s
ROLLBACK
PREPARE TRANSACTION 'x'
COMMIT PREPARED 'x'
SET CONSTRAINTS ALL IMMEDIATE
LISTEN c
NOTIFY c, 'x'
SELECT pg_notify('c', :column::text) FROM :table
UNLISTEN *
SELECT pg_listening_channels()
SELECT pg_advisory_lock(1)
SELECT pg_advisory_lock(hashtext(:column::text)) FROM :table
SELECT pg_try_advisory_lock(length(:column::text)) FROM :table
SELECT objid FROM pg_locks WHERE locktype = 'advisory'
SELECT pg_advisory_unlock_all()
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
SELECT pg_reload_conf()
SELECT pg_rotate_logfile()
SELECT pg_promote()
CHECKPOINT
LOAD 'auto_explain'
SELECT txid_current()
SELECT pg_current_snapshot()
SELECT inet_server_addr(), inet_client_addr()
SELECT pg_postmaster_start_time()
SELECT version()
SELECT query_to_xml('SELECT * FROM :table', true, true, '')
SELECT table_to_xml(':table', true, true, '')
SELECT schema_to_xml('public', true, true, '')
SELECT database_to_xml(true, true, '')
SELECT query_to_xmlschema('SELECT * FROM :table', true, true, '')
SELECT table_to_xml_and_xmlschema(':table', true, true, '')
SELECT ts_stat('SELECT to_tsvector(:column::text) FROM :table')
SELECT ts_debug('x')
SELECT ts_parse('default', 'x')
SELECT pg_get_viewdef('pg_views'::regclass)
SELECT pg_get_functiondef('lower(text)'::regprocedure)
SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
SELECT pg_get_constraintdef(oid) FROM pg_constraint
SELECT pg_get_indexdef(indexrelid) FROM pg_index
SELECT pg_get_statisticsobjdef(1)
SELECT pg_describe_object(1259, 1259, 0)
SELECT json_populate_recordset(NULL::pg_class, '[]')
SELECT jsonb_populate_record(NULL::pg_roles, '{}')
SELECT * FROM :table a, :table b LIMIT 10
SELECT * FROM :table a NATURAL JOIN :table b LIMIT 10
SELECT * FROM :table a LEFT JOIN LATERAL (SELECT a.:column) x ON true
SELECT * FROM pg_class c NATURAL JOIN (SELECT -1::float4 AS reltuples) x
SELECT x.c1 FROM pg_class AS x(c1,c2,c3,c4,c5,c6,c7,c8,c9,c10)
SELECT * FROM ROWS FROM (generate_series(1,2), unnest(ARRAY(SELECT :column::text FROM :table))) AS r
SELECT unnest(ARRAY(SELECT :column::text FROM :table))
VALUES ((SELECT :column FROM :table LIMIT 1))
SELECT CASE WHEN (SELECT count(*) FROM :table) > 5 THEN 1/0 ELSE 1 END
SELECT GROUPING(:column) FROM :table GROUP BY CUBE (:column, :key) LIMIT 10
SELECT :column FROM :table GROUP BY ROLLUP (:column)
SELECT :column FROM :table WHERE :column::text ~ '.*'
SELECT :column FROM :table WHERE :column::text SIMILAR TO '%'
SELECT :column::text COLLATE "C" FROM :table
SELECT /* pg_class */ :column FROM :table -- pg_class
SELECT :column FROM :table /* */
select	:column	from	:table
SELECT U&'\0061', :column FROM :table
SELECT E'\'', :column FROM :table
SELECT $x$pg_class$x$, :column FROM :table
SELECT 1_000
SELECT 0x1F
not a statement
SELECT
SELECT FROM
';--
SELECT "
SELECT 'unterminated
SELECT $1
\d
