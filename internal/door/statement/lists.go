package statement

import "strings"

// guardedRelations are catalogs that a covered statement may read but for guardedColumns:
// row and page counts of pg_class say something of the data, and a principal can write any
// text into the settings of its own role, where they outlive its session.
var guardedRelations = set("pg_class pg_roles pg_user")

var guardedColumns = set("reltuples relpages relallvisible rolconfig useconfig")

// relations are the catalogs that a covered statement may read. Never statistics
// (pg_statistic, pg_stats, pg_stat_…, pg_statistic_ext, pg_sequences' last value), large
// objects, secrets (pg_authid, pg_user_mappings), what other sessions do (pg_locks), or what a
// principal can write that stays (pg_db_role_setting, pg_default_acl).
var relations = set(`
	pg_aggregate pg_am pg_amop pg_amproc pg_attrdef pg_attribute
	pg_available_extension_versions pg_available_extensions pg_cast pg_class pg_collation pg_constraint
	pg_conversion pg_database pg_depend pg_description pg_enum
	pg_event_trigger pg_extension pg_foreign_data_wrapper pg_foreign_server pg_foreign_table
	pg_index pg_indexes pg_inherits pg_init_privs pg_language pg_matviews pg_namespace pg_opclass
	pg_operator pg_opfamily pg_partitioned_table pg_policies pg_policy pg_proc pg_publication
	pg_publication_namespace pg_publication_rel pg_publication_tables pg_range pg_rewrite pg_roles
	pg_rules pg_seclabel pg_seclabels pg_sequence pg_settings pg_shdescription
	pg_shseclabel pg_tables pg_tablespace pg_timezone_abbrevs pg_timezone_names pg_transform pg_trigger
	pg_ts_config pg_ts_config_map pg_ts_dict pg_ts_parser pg_ts_template pg_type pg_user pg_views`)

// namesSchema are the views of information_schema that a covered statement may read.
var namesSchema = set(`
	administrable_role_authorizations applicable_roles attributes character_sets
	check_constraint_routine_usage check_constraints collation_character_set_applicability collations
	column_column_usage column_domain_usage column_options column_privileges column_udt_usage columns
	constraint_column_usage constraint_table_usage data_type_privileges domain_constraints
	domain_udt_usage domains element_types enabled_roles information_schema_catalog_name
	key_column_usage parameters referential_constraints role_column_grants role_routine_grants
	role_table_grants role_udt_grants role_usage_grants routine_column_usage routine_privileges
	routine_routine_usage routine_sequence_usage routine_table_usage routines schemata sequences
	sql_features sql_implementation_info sql_parts sql_sizing table_constraints table_privileges tables
	transforms triggered_update_columns triggers udt_privileges usage_privileges user_defined_types
	view_column_usage view_routine_usage view_table_usage views`)

// schemaFunctions and schemaTypes are those of information_schema.
var (
	schemaFunctions = set("_pg_expandarray _pg_char_max_length _pg_char_octet_length _pg_numeric_precision _pg_numeric_precision_radix _pg_numeric_scale _pg_datetime_precision _pg_interval_type _pg_truetypid _pg_truetypmod _pg_index_position")
	schemaTypes     = set("cardinal_number character_data sql_identifier yes_or_no time_stamp")
)

// types are those that a covered statement may cast to.
var types = set(`
	bool boolean "char" bpchar varchar char text name int2 int4 int8 smallint integer int bigint float4 float8
	numeric oid xid cid tid date time timetz timestamp timestamptz interval json jsonb bytea
	regclass regtype regproc regprocedure regoper regoperator regnamespace regrole regconfig
	regdictionary regcollation oidvector int2vector aclitem record unknown pg_node_tree anyarray
	_text _name _oid _int2 _int4 _char _bool _varchar _aclitem _regclass`)

// catalogFunctions are the functions that a covered statement may call: they read catalogs,
// or nothing. No sizes (statistics), no other sessions, no files, no SQL from text.
var catalogFunctions = set(`
	acldefault aclexplode array_agg array_append array_cat array_length array_lower array_ndims array_position
	array_positions array_prepend array_remove array_replace array_to_string array_upper bool_and bool_or
	btrim cardinality char_length character_length col_description concat concat_ws count current_catalog
	current_database current_schema current_schemas current_setting current_user dense_rank every
	format_type generate_series generate_subscripts getdatabaseencoding has_any_column_privilege
	has_column_privilege has_database_privilege has_foreign_data_wrapper_privilege
	has_function_privilege has_language_privilege has_parameter_privilege has_schema_privilege
	has_sequence_privilege has_server_privilege has_table_privilege has_tablespace_privilege
	has_type_privilege json_agg json_build_array json_build_object jsonb_agg jsonb_build_array
	jsonb_build_object left length lower ltrim max min now obj_description pg_available_extensions
	pg_backend_pid pg_char_to_encoding pg_client_encoding pg_collation_for pg_collation_is_visible
	pg_column_is_updatable pg_conf_load_time pg_conversion_is_visible pg_describe_object
	pg_encoding_to_char pg_function_is_visible pg_get_constraintdef pg_get_expr
	pg_get_function_arg_default pg_get_function_arguments pg_get_function_identity_arguments
	pg_get_function_result pg_get_function_sqlbody pg_get_functiondef pg_get_indexdef pg_get_keywords
	pg_get_partition_constraintdef pg_get_partkeydef pg_get_publication_tables pg_get_ruledef
	pg_get_serial_sequence pg_get_statisticsobjdef_columns pg_get_triggerdef pg_get_userbyid
	pg_get_viewdef pg_has_role pg_identify_object pg_identify_object_as_address
	pg_index_column_has_property pg_index_has_property pg_indexam_has_property pg_is_in_recovery
	pg_is_other_temp_schema pg_my_temp_schema pg_opclass_is_visible pg_operator_is_visible
	pg_opfamily_is_visible pg_options_to_table pg_partition_ancestors pg_partition_root
	pg_partition_tree pg_postmaster_start_time pg_relation_is_publishable pg_relation_is_updatable
	pg_show_all_settings pg_table_is_visible pg_tablespace_location pg_timezone_names
	pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible
	pg_type_is_visible pg_typeof position quote_ident quote_literal quote_nullable rank regexp_match
	regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table replace right
	row_number rtrim session_user shobj_description split_part starts_with string_agg string_to_array
	strpos substr substring to_regclass to_regcollation to_regnamespace to_regoper to_regoperator
	to_regproc to_regprocedure to_regrole to_regtype translate unnest upper version`)

// pureFunctions, with catalogFunctions, are what a SELECT may call and leave the session as
// it was: no text is run as SQL, no setting changed, nothing stored or sent.
var pureFunctions = set(`
	abs acos age any_value array_dims array_fill array_to_json ascii asin atan atan2 avg bit_and bit_count bit_length
	bit_or bit_xor broadcast cbrt ceil ceiling chr clock_timestamp corr cos cot count covar_pop
	covar_samp cume_dist date date_bin date_part date_trunc daterange decode degrees div encode exp
	extract factorial first_value float4 float8 floor format gcd gen_random_uuid get_bit get_byte host
	initcap int2 int4 int8 int4range int8range isempty isfinite json_array_elements
	json_array_elements_text json_array_length json_each json_each_text json_extract_path
	json_extract_path_text json_object json_object_agg json_object_keys json_strip_nulls json_typeof
	jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_each jsonb_each_text
	jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_agg
	jsonb_object_keys jsonb_path_exists jsonb_path_query jsonb_path_query_array jsonb_path_query_first
	jsonb_pretty jsonb_set jsonb_strip_nulls jsonb_typeof justify_days justify_hours justify_interval
	lag last_value lcm lead ln localtime localtimestamp log log10 lower_inc lpad make_date
	make_interval make_time make_timestamp make_timestamptz masklen md5 min_scale mod mode network
	nth_value ntile num_nonnulls num_nulls numeric numrange octet_length overlaps overlay parse_ident
	percent_rank percentile_cont percentile_disc pg_column_size pg_database_size pg_indexes_size pg_relation_size
	pg_size_bytes pg_size_pretty pg_sleep pg_table_size pg_total_relation_size pi power radians random range_agg
	regexp_count regexp_instr regexp_like regexp_substr regr_avgx regr_avgy regr_count regr_intercept
	regr_r2 regr_slope regr_sxx regr_sxy regr_syy repeat reverse round row_to_json rpad scale sha224
	sha256 sha384 sha512 sign sin sqrt statement_timestamp stddev stddev_pop stddev_samp sum tan text
	timeofday timestamp timestamptz timezone to_ascii to_char to_date to_hex to_json to_jsonb
	to_number to_timestamp to_tsquery to_tsvector plainto_tsquery phraseto_tsquery
	websearch_to_tsquery ts_rank ts_rank_cd ts_headline transaction_timestamp trim trim_array
	trim_scale trunc tsrange tstzrange upper_inc var_pop var_samp variance width_bucket`)

// settings may be set by a covered statement. search_path is here as long as its value does
// not move pg_catalog; standard_conforming_strings only as "on".
var settings = set(`
	application_name bytea_output client_encoding client_min_messages cursor_tuple_fraction datestyle
	deadlock_timeout default_transaction_deferrable default_transaction_isolation
	default_transaction_read_only effective_cache_size enable_bitmapscan enable_hashagg enable_hashjoin
	enable_indexonlyscan enable_indexscan enable_material enable_memoize enable_mergejoin
	enable_nestloop enable_parallel_append enable_parallel_hash enable_partition_pruning
	enable_partitionwise_aggregate enable_partitionwise_join enable_seqscan enable_sort enable_tidscan
	escape_string_warning extra_float_digits from_collapse_limit geqo geqo_threshold
	idle_in_transaction_session_timeout idle_session_timeout intervalstyle jit join_collapse_limit
	lc_messages lc_monetary lc_numeric lc_time lock_timeout max_parallel_workers_per_gather
	parallel_setup_cost parallel_tuple_cost plan_cache_mode quote_all_identifiers random_page_cost
	row_security search_path seq_page_cost standard_conforming_strings statement_timeout
	synchronous_commit temp_buffers timezone transaction_deferrable transaction_isolation
	transaction_read_only work_mem xmlbinary xmloption session characteristics`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[strings.Trim(w, `"`)] = true
	}
	return m
}

// harmless reports whether setting name to the given constants changes neither how names
// resolve nor how text is read. A nil value list means that they are not all constants.
func harmless(name string, values []string) bool {
	name = strings.ToLower(name)
	if !settings[name] || values == nil {
		return false
	}
	for _, v := range values {
		switch v = strings.ToLower(v); name {
		case "search_path":
			if strings.Contains(v, "pg_catalog") || strings.Contains(v, "pg_temp") {
				return false
			}
		case "standard_conforming_strings":
			if v != "on" && v != "true" && v != "1" && v != "yes" {
				return false
			}
		}
	}
	return true
}
