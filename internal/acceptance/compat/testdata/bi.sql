-- Statements in the manner of BI tools, reporting tools and ORMs: what they ask of the catalogs when they
-- connect, and the pages and aggregates they ask for afterwards. Each begins with its name.

--: Metabase, schemas
SELECT nspname AS "schema" FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1;
--: Metabase, tables with kind and comment
SELECT n.nspname AS "schema", c.relname AS "name", CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED TABLE' WHEN 'v' THEN 'VIEW' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'm' THEN 'MATERIALIZED VIEW' END AS "type", d.description AS "description" FROM pg_catalog.pg_class AS c INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid LEFT JOIN pg_catalog.pg_description AS d ON (c.oid = d.objoid) AND (d.objsubid = 0) AND (d.classoid = 'pg_class'::regclass) WHERE (c.relkind IN ('r', 'p', 'v', 'f', 'm')) AND (n.nspname !~ '^pg_') AND (n.nspname <> 'information_schema') ORDER BY 1, 2;
--: Metabase, which tables may be read
SELECT t.schemaname AS "schema", t.objectname AS "table", pg_catalog.has_table_privilege(current_user, '"' || t.schemaname || '"' || '.' || '"' || t.objectname || '"', 'SELECT') AS "select" FROM (SELECT schemaname, tablename AS objectname FROM pg_catalog.pg_tables UNION SELECT schemaname, viewname FROM pg_catalog.pg_views) t WHERE t.schemaname !~ '^pg_' AND t.schemaname <> 'information_schema' AND pg_catalog.has_schema_privilege(current_user, t.schemaname, 'USAGE') ORDER BY 1, 2;
--: Metabase, columns with keys
SELECT c.column_name AS name, c.udt_name AS "database-type", c.ordinal_position - 1 AS "database-position", c.table_schema AS "table-schema", c.table_name AS "table-name", pk.column_name IS NOT NULL AS "pk?" FROM information_schema.columns AS c LEFT JOIN (SELECT tc.table_schema, tc.table_name, kc.column_name FROM information_schema.table_constraints AS tc INNER JOIN information_schema.key_column_usage AS kc ON tc.constraint_name = kc.constraint_name AND tc.table_schema = kc.table_schema AND tc.table_name = kc.table_name WHERE tc.constraint_type = 'PRIMARY KEY') AS pk ON c.table_schema = pk.table_schema AND c.table_name = pk.table_name AND c.column_name = pk.column_name WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' ORDER BY 4, 5, 3;
--: Metabase, foreign keys
SELECT fk_ns.nspname AS "fk-table-schema", fk_table.relname AS "fk-table-name", fk_column.attname AS "fk-column-name", pk_ns.nspname AS "pk-table-schema", pk_table.relname AS "pk-table-name", pk_column.attname AS "pk-column-name" FROM pg_constraint AS c INNER JOIN pg_class AS fk_table ON c.conrelid = fk_table.oid INNER JOIN pg_namespace AS fk_ns ON c.connamespace = fk_ns.oid INNER JOIN pg_attribute AS fk_column ON c.conrelid = fk_column.attrelid INNER JOIN pg_class AS pk_table ON c.confrelid = pk_table.oid INNER JOIN pg_namespace AS pk_ns ON pk_table.relnamespace = pk_ns.oid INNER JOIN pg_attribute AS pk_column ON c.confrelid = pk_column.attrelid WHERE fk_ns.nspname !~ '^information_schema|catalog_history|pg_' AND c.contype = 'f' AND fk_column.attnum = ANY (c.conkey) AND pk_column.attnum = ANY (c.confkey) ORDER BY 1, 2, 3;
--: Metabase, enums
SELECT nspname, typname, t.oid, e.enumlabel FROM pg_type t JOIN pg_enum e ON t.oid = e.enumtypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace ORDER BY 1, 2, e.enumsortorder;
--: Metabase, time zone
SELECT TO_CHAR(NOW(), 'YYYY') > '2000' AS ok, current_setting('TIMEZONE') AS tz;
--: Metabase, a table's sample
SELECT "app"."people"."id" AS "id", "app"."people"."country" AS "country" FROM "app"."people" LIMIT 100;
--: Metabase, a question by month
SELECT DATE_TRUNC('month', "source"."at") AS "at", COUNT(*) AS "count", AVG("source"."watched_ms") AS "avg" FROM (SELECT "app"."watch_events"."at" AS "at", "app"."watch_events"."watched_ms" AS "watched_ms" FROM "app"."watch_events") AS "source" GROUP BY DATE_TRUNC('month', "source"."at") ORDER BY DATE_TRUNC('month', "source"."at") ASC;
--: Metabase, fingerprint of a column
SELECT count(distinct "app"."people"."country") AS "distinct-count", sum(CASE WHEN "app"."people"."country" IS NULL THEN 1 ELSE 0 END) AS "nulls" FROM "app"."people";
--: Tableau, version and settings
SELECT version(), current_setting('server_version_num'), current_schema(), current_database();
--: Tableau, tables
SELECT n.nspname, c.relname, c.relkind, obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c, pg_catalog.pg_namespace n WHERE n.oid = c.relnamespace AND c.relkind IN ('r', 'v', 'm', 'f', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1, 2;
--: Tableau, columns
SELECT a.attname, a.atttypid, a.atttypmod, a.attnum, a.attnotnull, pg_get_expr(ad.adbin, ad.adrelid), t.typname, t.typtype FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_type t ON a.atttypid = t.oid LEFT JOIN pg_catalog.pg_attrdef ad ON (a.attrelid = ad.adrelid AND a.attnum = ad.adnum) WHERE a.attrelid = 'app.people'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;
--: Tableau, primary keys
SELECT ta.attname AS column_name, i.relname AS pk_name FROM pg_catalog.pg_attribute ta, pg_catalog.pg_attribute ia, pg_catalog.pg_class tc, pg_catalog.pg_index ix, pg_catalog.pg_namespace n, pg_catalog.pg_class i WHERE tc.relname = 'people' AND n.nspname = 'app' AND tc.oid = ix.indrelid AND n.oid = tc.relnamespace AND ix.indisprimary AND ia.attrelid = i.oid AND i.oid = ix.indexrelid AND ta.attrelid = tc.oid AND ta.attnum = ix.indkey[ia.attnum - 1] AND NOT ta.attisdropped ORDER BY ia.attnum;
--: Tableau, an aggregate with an alias for each field
SELECT "videos"."topic_id" AS "topic_id", SUM("videos"."seconds") AS "sum:seconds:ok", COUNT(DISTINCT "videos"."creator_id") AS "ctd:creator_id:ok" FROM "app"."videos" "videos" INNER JOIN "app"."topics" "topics" ON ("videos"."topic_id" = "topics"."id") GROUP BY 1 ORDER BY 1;
--: Tableau, top n in a filter
SELECT "t0"."topic_id", "t0"."n" FROM (SELECT "topic_id", SUM(1) AS "n" FROM "app"."videos" GROUP BY 1) "t0" INNER JOIN (SELECT "topic_id" AS "id", SUM(1) AS "$__alias__0" FROM "app"."videos" GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5) "t1" ON ("t0"."topic_id" = "t1"."id") ORDER BY 1;
--: Tableau, a temporary table of a filter
CREATE LOCAL TEMPORARY TABLE "#Tableau_1_Filter" ("X_topic" smallint NOT NULL) ON COMMIT PRESERVE ROWS;
--: Tableau, rows into it
INSERT INTO "#Tableau_1_Filter" VALUES (1), (2), (3);
--: Tableau, a join with it
SELECT COUNT(*) FROM "app"."videos" "v" INNER JOIN "#Tableau_1_Filter" "f" ON ("v"."topic_id" = "f"."X_topic");
--: Tableau, the filter dropped
DROP TABLE "#Tableau_1_Filter";
--: Superset, schemas
SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname NOT LIKE 'pg_%' ORDER BY nspname;
--: Superset (SQLAlchemy), start-up
SELECT pg_catalog.version();
--: Superset (SQLAlchemy), standard_conforming_strings
SHOW standard_conforming_strings;
--: Superset (SQLAlchemy), table names
SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p']) AND pg_catalog.pg_class.relpersistence != 't' AND pg_catalog.pg_namespace.nspname = 'app' ORDER BY 1;
--: Superset (SQLAlchemy), columns
SELECT pg_catalog.pg_attribute.attname AS name, pg_catalog.format_type(pg_catalog.pg_attribute.atttypid, pg_catalog.pg_attribute.atttypmod) AS format_type, (SELECT pg_catalog.pg_get_expr(pg_catalog.pg_attrdef.adbin, pg_catalog.pg_attrdef.adrelid) AS pg_get_expr_1 FROM pg_catalog.pg_attrdef WHERE pg_catalog.pg_attrdef.adrelid = pg_catalog.pg_attribute.attrelid AND pg_catalog.pg_attrdef.adnum = pg_catalog.pg_attribute.attnum AND pg_catalog.pg_attribute.atthasdef) AS "default", pg_catalog.pg_attribute.attnotnull AS not_null, pg_catalog.pg_class.relname AS table_name, pg_catalog.pg_description.description AS comment FROM pg_catalog.pg_class LEFT OUTER JOIN pg_catalog.pg_attribute ON pg_catalog.pg_class.oid = pg_catalog.pg_attribute.attrelid AND pg_catalog.pg_attribute.attnum > 0 AND NOT pg_catalog.pg_attribute.attisdropped LEFT OUTER JOIN pg_catalog.pg_description ON pg_catalog.pg_description.objoid = pg_catalog.pg_attribute.attrelid AND pg_catalog.pg_description.objsubid = pg_catalog.pg_attribute.attnum JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']) AND pg_catalog.pg_namespace.nspname = 'app' ORDER BY pg_catalog.pg_class.relname, pg_catalog.pg_attribute.attnum;
--: Superset (SQLAlchemy), primary keys
SELECT attr.conrelid, array_agg(CAST(attr.attname AS TEXT) ORDER BY attr.ord) AS cols, attr.conname FROM (SELECT con.conrelid, con.conname, con.ord, pg_catalog.pg_attribute.attname FROM pg_catalog.pg_attribute JOIN (SELECT pg_catalog.pg_constraint.conrelid AS conrelid, pg_catalog.pg_constraint.conname AS conname, unnest(pg_catalog.pg_constraint.conkey) AS attnum, generate_subscripts(pg_catalog.pg_constraint.conkey, 1) AS ord FROM pg_catalog.pg_constraint WHERE pg_catalog.pg_constraint.contype = 'p') AS con ON pg_catalog.pg_attribute.attnum = con.attnum AND pg_catalog.pg_attribute.attrelid = con.conrelid) AS attr GROUP BY attr.conrelid, attr.conname ORDER BY attr.conrelid, attr.conname;
--: Superset (SQLAlchemy), has_table
SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = 'people' AND pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog';
--: Superset, a chart
SELECT DATE_TRUNC('day', at) AS __timestamp, COUNT(*) AS count FROM app.watch_events WHERE at >= TO_TIMESTAMP('2000-01-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY DATE_TRUNC('day', at) ORDER BY count DESC LIMIT 1000;
--: Superset, a virtual dataset paged by OFFSET
SELECT id, topic_id FROM (SELECT v.id, v.topic_id, t.label FROM app.videos v JOIN app.topics t ON t.id = v.topic_id) AS virtual_table ORDER BY id LIMIT 50 OFFSET 100;
--: Power BI (Npgsql), types
SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid, elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind, CASE WHEN elemproc.proname = 'array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype FROM (SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid, CASE WHEN proc.proname = 'array_recv' THEN 'a' ELSE typ.typtype END AS typtype, CASE WHEN proc.proname = 'array_recv' THEN typ.typelem WHEN typ.typtype = 'r' THEN rngsubtype END AS elemtypoid FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)) AS typ LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid) LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) WHERE typtype IN ('b', 'r', 'm', 'e', 'd') ORDER BY t.oid LIMIT 2000;
--: Power BI, tables
SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM INFORMATION_SCHEMA.tables WHERE TABLE_SCHEMA NOT IN ('information_schema', 'pg_catalog') ORDER BY TABLE_SCHEMA, TABLE_NAME;
--: Power BI, columns
SELECT COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, CASE WHEN (data_type LIKE '%unsigned%') THEN DATA_TYPE || ' unsigned' ELSE DATA_TYPE END AS DATA_TYPE FROM INFORMATION_SCHEMA.columns WHERE TABLE_SCHEMA = 'app' AND TABLE_NAME = 'people' ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION;
--: Power BI, foreign keys
SELECT pkcol.COLUMN_NAME AS PK_COLUMN_NAME, fkcol.TABLE_SCHEMA AS FK_TABLE_SCHEMA, fkcol.TABLE_NAME AS FK_TABLE_NAME, fkcol.COLUMN_NAME AS FK_COLUMN_NAME, fkcol.ORDINAL_POSITION AS ORDINAL, fkcon.CONSTRAINT_NAME AS FK_NAME FROM (SELECT DISTINCT constraint_catalog, constraint_schema, unique_constraint_schema, constraint_name, unique_constraint_name FROM INFORMATION_SCHEMA.REFERENTIAL_CONSTRAINTS) fkcon INNER JOIN INFORMATION_SCHEMA.KEY_COLUMN_USAGE fkcol ON fkcon.CONSTRAINT_SCHEMA = fkcol.CONSTRAINT_SCHEMA AND fkcon.CONSTRAINT_NAME = fkcol.CONSTRAINT_NAME INNER JOIN INFORMATION_SCHEMA.KEY_COLUMN_USAGE pkcol ON fkcon.UNIQUE_CONSTRAINT_SCHEMA = pkcol.CONSTRAINT_SCHEMA AND fkcon.UNIQUE_CONSTRAINT_NAME = pkcol.CONSTRAINT_NAME WHERE pkcol.TABLE_SCHEMA = 'app' AND pkcol.ORDINAL_POSITION = fkcol.ORDINAL_POSITION ORDER BY FK_NAME, fkcol.ORDINAL_POSITION;
--: Power BI, a folded step
SELECT "_"."topic_id", "_"."a0" FROM (SELECT "rows"."topic_id" AS "topic_id", SUM("rows"."seconds") AS "a0" FROM (SELECT "topic_id", "seconds" FROM "app"."videos" "$Table") "rows" GROUP BY "topic_id") "_" WHERE NOT "_"."a0" IS NULL ORDER BY 1 LIMIT 1000001;
--: Looker, a persistent query by keyset, first page
SELECT id, at FROM app.watch_events ORDER BY id, at LIMIT 100;
--: Looker, a persistent query by keyset, a later page
SELECT id, at FROM app.watch_events WHERE (id, at) > ((SELECT id FROM app.watch_events ORDER BY id, at OFFSET 99 LIMIT 1), '2000-01-01'::timestamptz) ORDER BY id, at LIMIT 100;
--: Looker, pivoted with window functions
SELECT * FROM (SELECT *, DENSE_RANK() OVER (ORDER BY z___min_rank) AS z___pivot_row_rank, RANK() OVER (PARTITION BY z__pivot_col_rank ORDER BY z___min_rank) AS z__pivot_col_ordering FROM (SELECT *, MIN(z___rank) OVER (PARTITION BY topic) AS z___min_rank FROM (SELECT *, RANK() OVER (ORDER BY n DESC, topic, month) AS z___rank FROM (SELECT topic_id AS topic, TO_CHAR(DATE_TRUNC('month', published_at), 'YYYY-MM') AS month, COUNT(*) AS n, DENSE_RANK() OVER (ORDER BY TO_CHAR(DATE_TRUNC('month', published_at), 'YYYY-MM')) AS z__pivot_col_rank FROM app.videos GROUP BY 1, 2) ww) bb) aa) xx WHERE z__pivot_col_rank <= 16384 AND z___pivot_row_rank <= 500 ORDER BY z___pivot_row_rank, z__pivot_col_rank;
--: Grafana, a time series
SELECT floor(extract(epoch FROM at) / 86400) * 86400 AS time, avg(watched_ms) AS watched FROM app.watch_events WHERE at BETWEEN '2000-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z' GROUP BY 1 ORDER BY 1;
--: Grafana, tables for its editor
SELECT CASE WHEN quote_ident(table_schema) IN (SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END FROM generate_series(array_lower(string_to_array(current_setting('search_path'), ','), 1), array_upper(string_to_array(current_setting('search_path'), ','), 1)) AS i, string_to_array(current_setting('search_path'), ',') s) THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS "table" FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache', '_timescaledb_catalog') ORDER BY 1;
--: DBeaver, session
SELECT current_schema(), session_user;
--: DBeaver, databases
SELECT db.oid, db.datname, db.datistemplate, pg_catalog.pg_get_userbyid(db.datdba) AS owner FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate ORDER BY db.datname;
--: DBeaver, classes of a schema
SELECT c.oid, c.relname, c.relkind, c.relnamespace, d.description FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'app') AND c.relkind NOT IN ('i', 'I', 'c') ORDER BY c.relname;
--: DBeaver, everything of pg_class
SELECT c.*, n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'app' AND c.relname = 'people';
--: DBeaver, data by page
SELECT x.* FROM app.videos x ORDER BY x.id OFFSET 200 LIMIT 200;
--: pgAdmin, dashboard of sessions
SELECT datname, usename FROM pg_catalog.pg_stat_activity WHERE pid = pg_backend_pid();
--: pgAdmin, size of the database
SELECT pg_database_size(current_database()) > 1000000 AS more_than_a_megabyte;
--: Excel (psqlODBC), type names
SELECT oid, typbasetype FROM pg_type WHERE typname = 'lo';
--: dbt, relations
SELECT 'platform' AS database, tablename AS name, schemaname AS schema, 'table' AS type FROM pg_tables WHERE schemaname ILIKE 'app' UNION ALL SELECT 'platform', viewname, schemaname, 'view' FROM pg_views WHERE schemaname ILIKE 'app' ORDER BY 2;
--: Django, columns of a table
SELECT a.attname AS column_name, NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)) AS is_nullable, pg_get_expr(ad.adbin, ad.adrelid) AS column_default, CASE WHEN collname = 'default' THEN NULL ELSE collname END AS collation, a.attidentity != '' AS is_autofield, col_description(a.attrelid, a.attnum) AS column_comment FROM pg_attribute a LEFT JOIN pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum LEFT JOIN pg_collation co ON a.attcollation = co.oid JOIN pg_type t ON a.atttypid = t.oid JOIN pg_class c ON a.attrelid = c.oid JOIN pg_namespace n ON c.relnamespace = n.oid WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND c.relname = 'people' AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND a.attnum > 0 ORDER BY a.attnum;
--: Rails, a page of records with their count
SELECT COUNT(*) FROM (SELECT 1 AS one FROM "app"."videos" ORDER BY "app"."videos"."id" ASC LIMIT 25 OFFSET 50) subquery_for_count;
--: Hibernate, a page
SELECT v1_0.id, v1_0.topic_id FROM app.videos v1_0 WHERE v1_0.seconds > 10 ORDER BY v1_0.id OFFSET 20 ROWS FETCH FIRST 20 ROWS ONLY;
--: R (dbplyr), a summary with a quantile
SELECT "topic_id", COUNT(*) AS "n", PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY "seconds") AS "median" FROM (SELECT * FROM "app"."videos" WHERE ((("seconds") IS NOT NULL))) "q01" GROUP BY "topic_id" ORDER BY "topic_id";
