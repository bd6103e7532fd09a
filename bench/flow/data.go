package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// fill makes pgbench's tables, with a key for its history and a country for its accounts,
// and a table of marks by which lag is seen.
func (b *bench) fill(ctx context.Context) error {
	dsn := b.source.SuperuserDSN("postgres")
	cmd := exec.CommandContext(ctx, b.source.Programs().Path("pgbench"), "-i", "-q", "-s", fmt.Sprint(b.scale), dsn)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench -i: %w: %s", err, out)
	}
	return do(ctx, dsn,
		`ALTER TABLE pgbench_history ADD hid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY`,
		`ALTER TABLE pgbench_accounts ADD country char(2) NOT NULL DEFAULT 'IE'`,
		`CREATE TABLE mark (id bigint PRIMARY KEY)`,
		`CREATE PUBLICATION trefoil FOR TABLE pgbench_accounts, pgbench_tellers, pgbench_branches, pgbench_history, mark`,
		`CREATE PROCEDURE mixed(transactions bigint, accounts bigint, seed float) LANGUAGE plpgsql AS $$
		DECLARE a bigint; t int; d int; BEGIN
			PERFORM setseed(seed);
			FOR i IN 1 .. transactions LOOP
				a := 1 + floor(random() * accounts); t := 1 + floor(random() * accounts / 10000); d := floor(random() * 10000) - 5000;
				UPDATE pgbench_accounts SET abalance = abalance + d WHERE aid = a;
				UPDATE pgbench_tellers SET tbalance = tbalance + d WHERE tid = t;
				UPDATE pgbench_branches SET bbalance = bbalance + d WHERE bid = 1 + (t - 1) / 10;
				INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (t, 1 + (t - 1) / 10, a, d, current_timestamp);
				IF i % 10 = 0 THEN DELETE FROM pgbench_history WHERE hid = (SELECT min(hid) FROM pgbench_history WHERE hid > i / 10); END IF;
				COMMIT;
			END LOOP;
		END $$`,
		`CREATE PROCEDURE apart(changes bigint, accounts bigint) LANGUAGE plpgsql AS $$
		DECLARE n bigint := changes / 3; BEGIN
			FOR i IN 0 .. n / 500 LOOP
				UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid IN (SELECT 1 + (k::bigint * 7919) % accounts FROM generate_series(i * 1000, i * 1000 + 999) k);
				INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) SELECT 1, 1, 1 + (k::bigint * 104729) % accounts, i, current_timestamp FROM generate_series(i * 500, i * 500 + 499) k;
				COMMIT;
			END LOOP;
		END $$`,
		`VACUUM ANALYZE`, `CHECKPOINT`)
}

// do runs statements one by one, each on its own.
func do(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return nil
}

const catalogYAML = `version: 1
database: app
person: {table: public.pgbench_accounts, key: aid, residence: country}
tables:
  - table: public.pgbench_accounts
    subject: {self: true}
    columns:
      - {name: aid, type: integer, category: identifier, trait: key, domain: account, reviewed: true}
      - {name: bid, type: integer, category: behaviour, reviewed: true}
      - {name: abalance, type: integer, category: financial, reviewed: true}
      - {name: filler, type: character(84), category: behaviour, reviewed: true}
      - {name: country, type: character(2), category: location, trait: residence, reviewed: true}
  - table: public.pgbench_history
    subject: {column: aid}
    references: [{columns: [aid], to: public.pgbench_accounts, of: [aid]}]
    columns:
      - {name: hid, type: bigint, category: identifier, trait: key, domain: history, reviewed: true}
      - {name: tid, type: integer, category: behaviour, reviewed: true}
      - {name: bid, type: integer, category: behaviour, reviewed: true}
      - {name: aid, type: integer, category: identifier, trait: key, domain: account, reviewed: true}
      - {name: delta, type: integer, category: financial, reviewed: true}
      - {name: mtime, type: timestamp without time zone, category: behaviour, trait: time, reviewed: true}
      - {name: filler, type: character(22), category: behaviour, reviewed: true}
  - table: public.pgbench_tellers
    subject: {nobody: true}
    columns:
      - {name: tid, type: integer, category: behaviour, reviewed: true}
      - {name: bid, type: integer, category: behaviour, reviewed: true}
      - {name: tbalance, type: integer, category: behaviour, reviewed: true}
      - {name: filler, type: character(84), category: behaviour, reviewed: true}
  - table: public.pgbench_branches
    subject: {nobody: true}
    columns:
      - {name: bid, type: integer, category: behaviour, reviewed: true}
      - {name: bbalance, type: integer, category: behaviour, reviewed: true}
      - {name: filler, type: character(88), category: behaviour, reviewed: true}
  - table: public.mark
    subject: {nobody: true}
    columns: [{name: id, type: bigint, category: behaviour, reviewed: true}]
`

// datasetsYAML holds every row and every column: keys of persons as pseudonyms, which
// scatter what is written; the rest as it is.
const datasetsYAML = `version: 1
datasets:
  - name: bench
    cluster: inside
    purpose: research
    source: app
    rows: {residence: [EEA]}
    tables:
      - table: public.pgbench_accounts
        columns: [{name: aid, form: pseudonymised}, {name: bid, form: clear}, {name: abalance, form: clear}, {name: filler, form: clear}, {name: country, form: clear}]
      - table: public.pgbench_history
        columns: [{name: hid, form: pseudonymised}, {name: tid, form: clear}, {name: bid, form: clear}, {name: aid, form: pseudonymised}, {name: delta, form: clear}, {name: mtime, form: generalised, by: hour}, {name: filler, form: clear}]
      - table: public.pgbench_tellers
        columns: [{name: tid, form: clear}, {name: bid, form: clear}, {name: tbalance, form: clear}, {name: filler, form: clear}]
      - table: public.pgbench_branches
        columns: [{name: bid, form: clear}, {name: bbalance, form: clear}, {name: filler, form: clear}]
      - table: public.mark
        columns: [{name: id, form: clear}]
`

func (b *bench) open(context.Context) error {
	var err error
	b.b, err = builder(b.dir, b.source.SuperuserDSN("postgres"), b.target.SocketDSN("trefoil_steward", password, "postgres"))
	if err != nil {
		return err
	}
	text := b.source.SuperuserDSN("postgres") + "\n" + b.target.SocketDSN("trefoil_steward", password, "postgres")
	return os.WriteFile(filepath.Join(b.dir, "dsn"), []byte(text), 0o600)
}

func builder(dir, source, steward string) (*dataset.Builder, error) {
	cat, _, err := catalog.ParseCatalog("catalog.yaml", []byte(catalogYAML))
	if err != nil {
		return nil, err
	}
	ds, _, err := catalog.ParseDatasets("datasets.yaml", []byte(datasetsYAML))
	if err != nil {
		return nil, err
	}
	return dataset.Open(dataset.Config{
		Catalogs: []*catalog.Catalog{cat}, Datasets: ds,
		Purposes: &catalog.Purposes{Version: 1, Purposes: []catalog.Purpose{{Name: "research", Basis: "GDPR art. 6(1)(f)", Epoch: 1}}},
		Sources:  map[string]string{"app": source}, Clusters: map[string]string{"inside": steward}, Exporter: "IE",
		PseudonymKey: filepath.Join(dir, "p.key"), DigestKey: filepath.Join(dir, "d.key"), SpillDir: dir, Logger: logger(),
	})
}
