-- What the door's own corpus cannot know: statements aimed at the parts of an enclave. One a
-- line; :table, :column and :key as there.
SHOW trefoil.dataset
SET trefoil.dataset = 'mine'
SELECT current_setting('trefoil.dataset')
SELECT set_config('trefoil.actor', 'app', false)
SELECT * FROM trefoil_info.columns
SELECT * FROM trefoil_info.dataset
SELECT trefoil_info.fresh_as_of()
TABLE trefoil_info.columns
UPDATE trefoil_info.columns SET form = 'clear'
DELETE FROM trefoil_info.dataset
SELECT c.*, k.* FROM trefoil_info.columns c, app.kinds k LIMIT 20
SELECT prosrc FROM pg_proc WHERE pronamespace = 'trefoil_info'::regnamespace
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'trefoil%'
SELECT relname, relkind, relacl FROM pg_class WHERE relnamespace::regnamespace::text LIKE 'trefoil%'
SELECT datname, datacl, datconfig FROM pg_database d LEFT JOIN LATERAL (SELECT setconfig AS datconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid LIMIT 1) x ON true
SELECT rolname, rolconfig, rolvaliduntil FROM pg_roles
SELECT * FROM pg_auth_members
SET ROLE trefoil_owner
SET ROLE trefoil_steward
SET SESSION AUTHORIZATION trefoil_steward
GRANT trefoil_steward TO CURRENT_USER
CREATE ROLE mine LOGIN
SELECT * FROM support.app.people
SELECT * FROM twinset.app.people
SELECT * FROM platform.app.people
SELECT usename, datname, query, backend_xmin FROM pg_stat_activity
SELECT wait_event, state, query FROM pg_stat_activity WHERE datname <> current_database()
SELECT attname, most_common_vals::text, histogram_bounds::text, correlation FROM pg_stats WHERE schemaname = 'app'
SELECT attname, n_distinct, null_frac, avg_width FROM pg_stats WHERE attname IN ('w_text', 'handle', 'phone', 'uncatalogued')
SELECT attname, attisdropped, atthasmissing, attmissingval FROM pg_attribute WHERE attrelid = ':table'::regclass
SELECT pg_column_size(:column), pg_column_compression(:column) FROM :table
SELECT ctid, xmin, xmax, cmin, tableoid, * FROM :table
SELECT chunk_data FROM pg_toast.pg_toast_2619
SELECT description FROM pg_description WHERE objoid = ':table'::regclass
SELECT obj_description(':table'::regclass), col_description(':table'::regclass, 1)
SELECT shobj_description(oid, 'pg_database') FROM pg_database
SELECT indexdef FROM pg_indexes
SELECT * FROM pg_policies
SELECT definition FROM pg_views WHERE schemaname NOT LIKE 'pg%'
SELECT pg_get_triggerdef(oid) FROM pg_trigger
SELECT stxname, stxkeys, pg_get_statisticsobjdef_expressions(oid) FROM pg_statistic_ext
SELECT pg_get_serial_sequence(':table', ':key')
SELECT last_value FROM app.people_id_seq
SELECT w_text FROM app.kinds
SELECT uncatalogued FROM app.kinds
SELECT handle, phone, signup_ip, interests, settings FROM app.people
SELECT email_domain, display_name, created_at FROM app.people
SELECT push_token, model, os, last_ip FROM app.devices
SELECT body FROM app.messages
SELECT iban, amount, currency FROM billing.payments
SELECT title FROM app.videos
SELECT n_text, n_big, n_doc FROM app.kinds WHERE n_text IS NOT NULL OR n_big IS NOT NULL OR n_doc IS NOT NULL
SELECT p_doc, p_doc->'other', p_doc->'n', jsonb_object_keys(p_doc) FROM app.kinds
SELECT p_texts, unnest(p_texts), array_length(p_bigs, 1), p_bigs FROM app.kinds
SELECT g_date, g_tstz, g_ts, extract(epoch FROM g_tstz), g_text, host(g_inet), g_big, g_num, g_float FROM app.kinds
SELECT p_int / (p_int - p_int), p_text::int, p_uuid::text::inet FROM app.kinds
SELECT CASE WHEN p_big > 0 THEN (p_text || 'x')::int END FROM app.kinds
SELECT k.p_text, p.email FROM app.kinds k JOIN app.people p ON p.id = k.person_id
SELECT * FROM app.kinds WHERE p_text IN (SELECT email FROM app.people UNION SELECT p_texts[1] FROM app.kinds)
COPY app.kinds TO STDOUT (FORMAT binary)
COPY app.people TO STDOUT (FORMAT csv, HEADER)
DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM app.kinds LOOP RAISE NOTICE '%', to_jsonb(r); END LOOP; END $$
