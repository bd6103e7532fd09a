package acceptance

import (
	"fmt"
	"strings"
)

// kind is a column of app.kinds: a type, what the analytics dataset holds of it, and the
// values planted there.
type kind struct {
	name, typ, category string
	form                string   // in datasets.yaml; "" = not listed: withheld
	value               string   // SQL, unique for each i
	pieces              []string // SQL: what to search for; default the column itself
}

// tagged makes unique text.
func tagged(s string) string { return "'" + s + "-' || i || '-' || left(md5('" + s + "' || i), 12)" }

const pseudonym = "form: pseudonymised"

// kinds are columns of each type in each form that keeps its values from being clear.
var kinds = []kind{
	{name: "p_big", typ: "bigint", category: "identifier", form: pseudonym, value: "7712345678900000 + i * 977"},
	{name: "p_int", typ: "integer", category: "identifier", form: pseudonym, value: "1987654300 + i"},
	{name: "p_num", typ: "numeric(20,0)", category: "identifier", form: pseudonym, value: "9876543210987654300 + i * 37"},
	{name: "p_uuid", typ: "uuid", category: "device", form: pseudonym, value: "md5('p uuid' || i)::uuid"},
	{name: "p_text", typ: "text", category: "contact", form: pseudonym, value: tagged("p text é")},
	{name: "p_phone", typ: "character varying(40)", category: "contact", form: pseudonym, value: "'+35386' || 71200000 + i * 37"},
	{name: "p_char", typ: "character(40)", category: "contact", form: pseudonym, value: tagged("pchar"), pieces: []string{"trim(p_char)"}},
	{name: "p_bytes", typ: "bytea", category: "device", form: pseudonym, value: "decode(md5('p bytes' || i), 'hex')"},
	{name: "p_inet", typ: "inet", category: "location", form: pseudonym, value: "inet '93.184.100.0' + i * 977"},
	{name: "p_inet6", typ: "inet", category: "location", form: pseudonym, value: "inet '2001:db8:77:aa55:1234:5678:9abc:0' + i * 977"},
	{name: "p_mac", typ: "macaddr", category: "device", form: pseudonym, value: "('0a5c7e' || lpad(to_hex(4660000 + i * 7919), 6, '0'))::macaddr"},
	{name: "p_mac8", typ: "macaddr8", category: "device", form: pseudonym, value: "('0a5c7eaa' || lpad(to_hex(1874660000 + i * 7919), 8, '0'))::macaddr8"},
	{name: "p_texts", typ: "text[]", category: "contact", form: pseudonym, value: "ARRAY[" + tagged("ptexts") + "]", pieces: []string{"p_texts[1]"}},
	{name: "p_bigs", typ: "bigint[]", category: "identifier", form: pseudonym, value: "ARRAY[7723456789000000 + i * 991]", pieces: []string{"p_bigs[1]"}},
	{name: "p_doc", typ: "jsonb", category: "device", form: "paths: {/held: {form: pseudonymised}}",
		value:  "jsonb_build_object('held', " + tagged("pdoc") + ", 'other', " + tagged("pdocother") + ", 'n', 77345678901234 + i * 7)",
		pieces: []string{"p_doc->>'held'", "p_doc->>'other'", "(p_doc->>'n')::numeric"}},

	{name: "g_date", typ: "date", category: "behaviour", form: "form: generalised, by: year", value: "date '1911-02-03' + i * 11"},
	{name: "g_tstz", typ: "timestamp with time zone", category: "behaviour", form: "form: generalised, by: hour", value: "timestamptz '1931-02-03 04:05:06.789012Z' + i * interval '1 day 17 s'"},
	{name: "g_ts", typ: "timestamp without time zone", category: "behaviour", form: "form: generalised, by: day", value: "timestamp '1932-02-03 04:05:06.789013' + i * interval '1 day 17 s'"},
	{name: "g_text", typ: "text", category: "location", form: "form: generalised, by: 'prefix:2'", value: tagged("QZ-postcode")},
	{name: "g_inet", typ: "inet", category: "location", form: "form: generalised, by: net", value: "inet '93.185.100.77' + i * 256"},
	{name: "g_big", typ: "bigint", category: "behaviour", form: "form: generalised, by: 'bucket:1000000'", value: "7734567890123456 + i * 1000003"},
	{name: "g_num", typ: "numeric", category: "behaviour", form: "form: generalised, by: 'bucket:100000'", value: "8765432109876.54321 + i * 1000003"},
	{name: "g_float", typ: "double precision", category: "behaviour", form: "form: generalised, by: 'bucket:1000'", value: "876543210.98765 + i * 1003"},

	{name: "n_text", typ: "text", category: "content", form: "form: withheld, 'null': true", value: tagged("ntext")},
	{name: "n_big", typ: "bigint", category: "special", form: "form: withheld, 'null': true", value: "7745678901234567 + i * 977"},
	{name: "n_doc", typ: "jsonb", category: "special", form: "form: withheld, 'null': true", value: "jsonb_build_object('secret', " + tagged("ndoc") + ")", pieces: []string{"n_doc->>'secret'"}},

	{name: "w_text", typ: "text", category: "content", value: tagged("wtext")},
	{name: "w_json", typ: "json", category: "content", value: "json_build_object('secret', " + tagged("wjson") + ")", pieces: []string{"w_json->>'secret'"}},
	{name: "w_xml", typ: "xml", category: "content", value: "xmlelement(name a, " + tagged("wxml") + ")", pieces: []string{"(xpath('//a/text()', w_xml))[1]::text"}},
	{name: "w_words", typ: "tsvector", category: "content", value: "to_tsvector('simple', 'wlexeme' || md5('w words' || i))", pieces: []string{"(tsvector_to_array(w_words))[1]"}},
	{name: "w_span", typ: "interval", category: "behaviour", value: "i * interval '7 months 19 days 03:04:05.678901'"},
	{name: "w_point", typ: "point", category: "location", value: "point(53.349805 + i / 1e4, -6.260310 - i / 1e4)"},
	{name: "w_bits", typ: "bit varying", category: "device", value: "('x' || md5('w bits' || i))::bit(128)::varbit", pieces: []string{"w_bits"}},
	{name: "w_bigs", typ: "int8range", category: "special", value: "int8range(7756789012345678 + i * 977, 7756789012345678 + i * 979 + 5)", pieces: []string{"lower(w_bigs)", "upper(w_bigs)"}},
	{name: "w_during", typ: "tstzrange", category: "special", value: "tstzrange('1933-02-03 04:05:06.789014Z'::timestamptz + i * interval '1 day 17 s', NULL)", pieces: []string{"lower(w_during)"}},
	{name: "w_num", typ: "numeric", category: "financial", value: "76543210987654.321098 + i * 1.000003"},
	{name: "w_money", typ: "money", category: "financial", value: "(7654321098765.43 + i * 1.03)::numeric::money"},
	{name: "w_float", typ: "double precision", category: "special", value: "765432109.8765 + i * 1.00003"},
	{name: "w_date", typ: "date", category: "special", value: "date '1921-02-03' + i * 11"},
	{name: "w_tstz", typ: "timestamp with time zone", category: "special", value: "timestamptz '1934-02-03 04:05:06.789015Z' + i * interval '1 day 17 s'"},
	{name: "w_uuid", typ: "uuid", category: "special", value: "md5('w uuid' || i)::uuid"},
	{name: "w_inet", typ: "inet", category: "location", value: "inet '93.186.100.77' + i * 256"},
	{name: "w_cidr", typ: "cidr", category: "location", value: "network(set_masklen(inet '93.187.0.0' + i * 256, 24))::cidr"},
	{name: "w_bytes", typ: "bytea", category: "special", value: "decode(md5('w bytes' || i), 'hex')"},
	{name: "w_long", typ: "text", category: "content", value: tagged("wlong") + " || repeat(' compressible', 2000)", pieces: []string{"left(w_long, 24)"}},
	{name: "w_toast", typ: "text", category: "content", value: "(SELECT string_agg(md5('w toast' || i || ' ' || j), '') FROM generate_series(1, 200) j)", pieces: []string{"left(w_toast, 64)"}},
}

// planted is how many rows hold planted values, and where their keys begin.
const (
	planted   = 20
	plantedID = 7701234567890000
)

// kindsSchema makes app.kinds with its rows. uncatalogued is a column nobody described.
func kindsSchema() string {
	var columns, values []string
	for _, k := range kinds {
		columns = append(columns, k.name+" "+k.typ)
		values = append(values, k.value)
	}
	return fmt.Sprintf(`CREATE TABLE app.kinds (id bigint PRIMARY KEY, person_id bigint NOT NULL REFERENCES app.people (id), %s, uncatalogued text);
		INSERT INTO app.kinds SELECT %d + i, 1 + i, %s, %s FROM generate_series(1, %d) i;
		CREATE INDEX kinds_text ON app.kinds (p_text); CREATE INDEX kinds_lower ON app.kinds (lower(w_text)); CREATE INDEX kinds_words ON app.kinds USING gin (w_words);
		CREATE STATISTICS app.kinds_together ON p_text, n_text FROM app.kinds;
		GRANT SELECT ON app.kinds TO trefoil_reader; GRANT SELECT, INSERT, UPDATE, DELETE ON app.kinds TO platform_app; ANALYZE app.kinds;`,
		strings.Join(columns, ", "), plantedID, strings.Join(values, ", "), tagged("uncatalogued"), planted)
}

func kindsCatalog() string {
	var b strings.Builder
	b.WriteString("  - table: app.kinds\n    subject: {column: person_id}\n    references:\n      - {columns: [person_id], to: app.people, of: [id]}\n    columns:\n" +
		"      - {name: id, type: bigint, category: identifier, trait: key, domain: kind, reviewed: true}\n" +
		"      - {name: person_id, type: bigint, category: identifier, domain: person, reviewed: true}\n")
	for _, k := range kinds {
		trait := ""
		switch k.name {
		case "g_date":
			trait = ", trait: birth"
		case "g_tstz", "g_ts":
			trait = ", trait: time"
		}
		fmt.Fprintf(&b, "      - {name: %s, type: %q, category: %s%s, reviewed: true}\n", k.name, k.typ, k.category, trait)
	}
	return b.String()
}

// kindsDataset is the table's part of the analytics dataset.
func kindsDataset() string {
	var b strings.Builder
	b.WriteString("      - table: app.kinds\n        columns:\n          - {name: id, form: pseudonymised}\n          - {name: person_id, form: pseudonymised}\n")
	for _, k := range kinds {
		if k.form != "" {
			fmt.Fprintf(&b, "          - {name: %s, %s}\n", k.name, k.form)
		}
	}
	return b.String()
}

// plantedRows are people with unique values in every column of the platform that can have
// one. Enums and country codes cannot: they are not unique to anybody.
var plantedRows = fmt.Sprintf(`
INSERT INTO app.people (id, handle, display_name, email, phone, birth_date, country, country_before, country_changed, signup_ip, plan, interests, settings, created_at)
SELECT %[1]d + i, %[3]s, %[4]s, %[5]s || '@mail.example', '+35387' || 61200000 + i * 37, date '1914-02-03' + i * 11, 'DE', 'FR', date '1990-02-03' + i * 11,
	inet '93.188.100.77' + i * 256, 'plus', ARRAY[%[6]s], jsonb_build_object('lang', 'de', 'recovery', jsonb_build_object('email', %[7]s)), timestamptz '1995-02-03 04:05:06.789016Z' + i * interval '1 day 17 s'
FROM generate_series(1, %[2]d) i;
INSERT INTO app.devices SELECT md5('planted device' || i)::uuid, %[1]d + i, %[8]s, %[9]s, %[10]s, inet '93.189.100.77' + i * 256, timestamptz '2026-02-03 04:05:06.789017Z' + i * interval '1 day 17 s' FROM generate_series(1, %[2]d) i;
INSERT INTO app.videos SELECT %[1]d + 100 + i, %[1]d + i, 1, %[11]s, 60, timestamptz '2026-01-03 04:05:06.789018Z' + i * interval '1 day 17 s' FROM generate_series(1, %[2]d) i;
INSERT INTO app.watch_events SELECT %[1]d + 200 + i, %[1]d + i, %[1]d + 100 + i, 1000, timestamptz '2026-06-03 04:05:06.789019Z' + i * interval '1 day 17 s' FROM generate_series(1, %[2]d) i;
INSERT INTO app.messages SELECT %[1]d + 300 + i, %[1]d + i, 1, %[12]s, timestamptz '2026-03-03 04:05:06.789020Z' + i * interval '1 day 17 s' FROM generate_series(1, %[2]d) i;
INSERT INTO billing.payments SELECT %[1]d + 400 + i, %[1]d + i, 'DE' || 76543210987654321000 + i * 37, 87654321.09 + i * 1.03, %[13]s, timestamptz '2026-04-03 04:05:06.789021Z' + i * interval '1 day 17 s' FROM generate_series(1, %[2]d) i;
`, plantedID, planted, tagged("handle"), tagged("Display Name"), tagged("email"), tagged("interest"), tagged("recovery"),
	tagged("model"), tagged("system"), tagged("token"), tagged("title"), tagged("body"), tagged("currency"))

// platformPieces are what to search for in the platform's own tables: planted rows and a
// part of the generated ones.
var platformPieces = []struct {
	table, where string
	pieces       []string
}{
	{"app.people", "id % 40 = 0", []string{"handle", "display_name", "email", "phone", "settings->'recovery'->>'email'", "created_at"}},
	{"app.people", "id > 7700000000000000", []string{"id", "handle", "display_name", "email", "phone", "birth_date", "country_changed", "signup_ip", "interests[1]", "settings->'recovery'->>'email'", "created_at"}},
	{"app.devices", "person_id % 40 = 0", []string{"id", "push_token"}},
	{"app.devices", "person_id > 7700000000000000", []string{"id", "person_id", "model", "os", "push_token", "last_ip", "seen_at"}},
	{"app.videos", "id > 7700000000000000", []string{"id", "title", "published_at"}},
	{"app.watch_events", "id > 7700000000000000", []string{"id", "at"}},
	{"app.messages", "id > 7700000000000000 OR id % 40 = 0", []string{"body"}},
	{"app.messages", "id > 7700000000000000", []string{"id", "sent_at"}},
	{"billing.payments", "id > 7700000000000000 OR id % 20 = 0", []string{"iban"}},
	{"billing.payments", "id > 7700000000000000", []string{"id", "amount", "currency", "paid_at"}},
}
