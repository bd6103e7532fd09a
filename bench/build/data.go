package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// fill makes the source: persons, devices, events, messages and payments, with keys,
// foreign keys and indexes, all values generated from the row's number.
func (b *bench) fill(ctx context.Context, events int64) error {
	conn, err := pgx.Connect(ctx, b.sourceDSN)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	persons := max(events/10, 100)
	for _, sql := range []string{
		`CREATE SCHEMA app`,
		fmt.Sprintf(`CREATE TABLE app.person AS SELECT i::bigint AS id, 'person' || i || '@mail' || i %% 97 || '.example' AS email,
			'+353' || 800000000 + i AS phone, (ARRAY['IE','NO','FR','DE','PL','ES'])[1 + i %% 6]::char(2) AS country,
			date '1950-01-01' + (i * 7919 %% 20000)::int AS born, '10.0.0.0'::inet + i AS ip,
			timestamptz '2020-01-01' + i * interval '7 minutes' AS created FROM generate_series(1::bigint, %d) i`, persons),
		fmt.Sprintf(`CREATE TABLE app.device AS SELECT md5('d' || i)::uuid AS id, 1 + i * 7919 %% %d AS person_id,
			'model ' || i %% 50 AS model, '10.1.0.0'::inet + i AS ip FROM generate_series(1::bigint, %d) i`, persons, persons*3/2),
		fmt.Sprintf(`CREATE TABLE app.event AS SELECT i::bigint AS id, 1 + i * 7919 %% %d AS person_id, (i * 31 %% 20000)::int AS video,
			(i * 37 %% 600000)::int AS watched_ms, timestamptz '2024-01-01' + i * interval '11 seconds' AS at
			FROM generate_series(1::bigint, %d) i`, persons, events),
		fmt.Sprintf(`CREATE TABLE app.message AS SELECT i::bigint AS id, 1 + i * 7919 %% %d AS sender_id, 1 + i * 104729 %% %d AS recipient_id,
			i %% 3 AS kind, timestamptz '2024-01-01' + i * interval '17 seconds' AS at FROM generate_series(1::bigint, %d) i`, persons, persons, events/4),
		fmt.Sprintf(`CREATE TABLE app.payment AS SELECT i::bigint AS id, 1 + i * 104729 %% %d AS person_id, (i %% 10000 / 100.0)::numeric(10,2) AS amount,
			'EUR'::text AS currency, date '2024-01-01' + (i %% 600)::int AS paid FROM generate_series(1::bigint, %d) i`, persons, events/8),
		`ALTER TABLE app.person ADD PRIMARY KEY (id)`, `CREATE INDEX person_country ON app.person (country)`,
		`ALTER TABLE app.device ADD PRIMARY KEY (id), ADD FOREIGN KEY (person_id) REFERENCES app.person`,
		`CREATE INDEX device_person ON app.device (person_id)`,
		`ALTER TABLE app.event ADD PRIMARY KEY (id), ADD FOREIGN KEY (person_id) REFERENCES app.person`,
		`CREATE INDEX event_person ON app.event (person_id)`,
		`ALTER TABLE app.message ADD PRIMARY KEY (id), ADD FOREIGN KEY (sender_id) REFERENCES app.person, ADD FOREIGN KEY (recipient_id) REFERENCES app.person`,
		`CREATE INDEX message_sender ON app.message (sender_id)`,
		`ALTER TABLE app.payment ADD PRIMARY KEY (id), ADD FOREIGN KEY (person_id) REFERENCES app.person`,
		`CREATE INDEX payment_person ON app.payment (person_id)`,
		`VACUUM ANALYZE`, `CHECKPOINT`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("fill the source: %w", err)
		}
	}
	return nil
}

const catalogYAML = `version: 1
database: app
person: {table: app.person, key: id, residence: country}
tables:
  - table: app.person
    subject: {self: true}
    columns:
      - {name: id, type: bigint, category: identifier, trait: key, domain: person, reviewed: true}
      - {name: email, type: text, category: contact, reviewed: true}
      - {name: phone, type: text, category: contact, reviewed: true}
      - {name: country, type: character(2), category: location, trait: residence, reviewed: true}
      - {name: born, type: date, category: identifier, trait: birth, reviewed: true}
      - {name: ip, type: inet, category: device, reviewed: true}
      - {name: created, type: timestamp with time zone, category: behaviour, trait: time, reviewed: true}
  - table: app.device
    subject: {column: person_id}
    references: [{columns: [person_id], to: app.person, of: [id]}]
    columns:
      - {name: id, type: uuid, category: device, trait: key, reviewed: true}
      - {name: person_id, type: bigint, category: identifier, trait: key, domain: person, reviewed: true}
      - {name: model, type: text, category: behaviour, reviewed: true}
      - {name: ip, type: inet, category: device, reviewed: true}
  - table: app.event
    subject: {column: person_id}
    references: [{columns: [person_id], to: app.person, of: [id]}]
    columns:
      - {name: id, type: bigint, category: identifier, trait: key, domain: event, reviewed: true}
      - {name: person_id, type: bigint, category: identifier, trait: key, domain: person, reviewed: true}
      - {name: video, type: integer, category: behaviour, reviewed: true}
      - {name: watched_ms, type: integer, category: behaviour, reviewed: true}
      - {name: at, type: timestamp with time zone, category: behaviour, trait: time, reviewed: true}
  - table: app.message
    subject: {column: sender_id}
    references: [{columns: [sender_id], to: app.person, of: [id]}, {columns: [recipient_id], to: app.person, of: [id]}]
    columns:
      - {name: id, type: bigint, category: identifier, trait: key, domain: message, reviewed: true}
      - {name: sender_id, type: bigint, category: identifier, trait: key, domain: person, reviewed: true}
      - {name: recipient_id, type: bigint, category: identifier, trait: key, domain: person, reviewed: true}
      - {name: kind, type: bigint, category: behaviour, reviewed: true}
      - {name: at, type: timestamp with time zone, category: behaviour, trait: time, reviewed: true}
  - table: app.payment
    subject: {column: person_id}
    references: [{columns: [person_id], to: app.person, of: [id]}]
    columns:
      - {name: id, type: bigint, category: identifier, trait: key, domain: payment, reviewed: true}
      - {name: person_id, type: bigint, category: identifier, trait: key, domain: person, reviewed: true}
      - {name: amount, type: 'numeric(10,2)', category: behaviour, reviewed: true}
      - {name: currency, type: text, category: behaviour, trait: neutral, reviewed: true}
      - {name: paid, type: date, category: behaviour, reviewed: true}
`

// datasetsYAML holds every column of every row, so that both sides move the same tables.
const datasetsYAML = `version: 1
datasets:
  - name: bench
    cluster: inside
    purpose: research
    source: app
    k: 10
    rows: {residence: [EEA]}
    tables:
      - table: app.person
        columns:
          - {name: id, form: pseudonymised}
          - {name: email, form: pseudonymised}
          - {name: phone, form: pseudonymised}
          - {name: country, form: clear}
          - {name: born, form: generalised, by: year}
          - {name: ip, form: pseudonymised}
          - {name: created, form: generalised, by: year}
      - table: app.device
        columns: [{name: id, form: pseudonymised}, {name: person_id, form: pseudonymised}, {name: model, form: clear}, {name: ip, form: pseudonymised}]
      - table: app.event
        columns: [{name: id, form: pseudonymised}, {name: person_id, form: pseudonymised}, {name: video, form: clear}, {name: watched_ms, form: clear}, {name: at, form: generalised, by: hour}]
      - table: app.message
        columns: [{name: id, form: pseudonymised}, {name: sender_id, form: pseudonymised}, {name: recipient_id, form: pseudonymised}, {name: kind, form: clear}, {name: at, form: generalised, by: hour}]
      - table: app.payment
        columns: [{name: id, form: pseudonymised}, {name: person_id, form: pseudonymised}, {name: amount, form: clear}, {name: currency, form: clear}, {name: paid, form: clear}]
`
