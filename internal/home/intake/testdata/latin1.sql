-- For a database in LATIN1: names and values with letters beyond ASCII; text keys.
CREATE TABLE "élèves" (matricule varchar(20) PRIMARY KEY, nom varchar(60), "prénom" varchar(60), "né_le" date, pays char(2), "téléphone" varchar(20));
CREATE TABLE notes (id serial PRIMARY KEY, "élève" varchar(20) NOT NULL REFERENCES "élèves", "matière" varchar(30), valeur numeric(4,2), "remarque" text);
INSERT INTO "élèves" SELECT 'M-2025-' || lpad(i::text, 6, '0'), 'Lefèvre' || i, 'Zoë', '2005-01-01'::date + i, 'FR', '+33 1 99 00 ' || (10 + i) || ' 00' FROM generate_series(1, 60) i;
INSERT INTO notes ("élève", "matière", valeur, "remarque") SELECT 'M-2025-' || lpad((1 + i % 60)::text, 6, '0'), (ARRAY['français', 'maths'])[1 + i % 2], 12, 'à revoir' FROM generate_series(1, 200) i;
