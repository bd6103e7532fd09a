package install

// OffForm is the function, in each dataset's own schema, that counts values which are not in the
// form of their column. It runs with the rights of the dataset's owner, inside the region, and
// answers two numbers: no value leaves. The tests are fixed; who calls it chooses a column, a
// form and its unit, and nothing that could ask for a value.
const OffForm = "off_form"

// FormsBody is its text. Forms of which nothing can be seen in a value have no test: clear ones,
// and pseudonyms of whole numbers, which may be any number. sampled is then 0.
const FormsBody = `
DECLARE kind text; often float8; test text;
BEGIN
  sampled := 0; off := 0;
  IF in_schema ~ '^(pg_|trefoil_|information_schema$)' THEN RETURN; END IF;
  SELECT format_type(a.atttypid, NULL), least(100, 400000 / greatest(c.reltuples, 1)) INTO kind, often
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = in_schema AND c.relname = in_table AND a.attname = in_column AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p');
  test := CASE
    WHEN kind IS NULL THEN NULL
    WHEN form = 'withheld' THEN 'false'
    WHEN form = 'pseudonymised' AND kind IN ('text', 'character varying', 'character', 'name') THEN 'v::text ~ ''^[a-z2-7]{15,24} *$'''
    WHEN form <> 'generalised' THEN NULL
    WHEN unit IN ('year', 'month', 'day') AND kind = 'date' THEN format('v = date_trunc(%L, v::timestamp)::date', unit)
    WHEN unit IN ('year', 'month', 'day', 'hour') AND kind = 'timestamp without time zone' THEN format('v = date_trunc(%L, v)', unit)
    WHEN unit IN ('year', 'month', 'day', 'hour') AND kind = 'timestamp with time zone' THEN format('v = date_trunc(%L, v AT TIME ZONE ''UTC'') AT TIME ZONE ''UTC''', unit)
    WHEN unit = 'net' AND kind IN ('inet', 'cidr') THEN 'masklen(v::inet) <= CASE family(v::inet) WHEN 4 THEN 24 ELSE 48 END'
    WHEN unit ~ '^bucket:[1-9][0-9]{0,17}$' AND kind IN ('smallint', 'integer', 'bigint', 'numeric') THEN format('v::numeric %% %s = 0', substring(unit FROM 8))
    WHEN unit ~ '^prefix:[1-9][0-9]{0,5}$' AND kind IN ('text', 'character varying', 'character', 'name') THEN format('length(v::text) <= %s', substring(unit FROM 8))
  END;
  IF test IS NULL THEN RETURN; END IF;
  EXECUTE format('SELECT count(*), count(*) FILTER (WHERE NOT (%s)) FROM (SELECT %I AS v FROM %I.%I TABLESAMPLE SYSTEM (%s) WHERE %I IS NOT NULL LIMIT 2000) s',
    test, in_column, in_schema, in_table, often, in_column) INTO sampled, off;
END `

// FormsStatements make the function in a schema of a dataset, given as it is quoted, for the
// probe alone. They are run by the dataset's owner.
func FormsStatements(schema string) []string {
	name := schema + "." + OffForm
	const in = "(in_schema text, in_table text, in_column text, form text, unit text"
	return []string{
		"CREATE FUNCTION " + name + in + ", OUT sampled bigint, OUT off bigint) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $trefoil$" + FormsBody + "$trefoil$",
		"REVOKE ALL ON FUNCTION " + name + "(text, text, text, text, text) FROM PUBLIC",
		"GRANT EXECUTE ON FUNCTION " + name + "(text, text, text, text, text) TO " + Role,
		"GRANT USAGE ON SCHEMA " + schema + " TO " + Role,
	}
}
