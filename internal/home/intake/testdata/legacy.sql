-- A legacy database: no foreign keys, hardly a primary key, German mixed-case names, reserved words, quotes and dots.
CREATE TABLE "Kunden" ("KundenNr" integer NOT NULL, "Anrede" varchar(10), "Vorname" varchar(50), "Nachname" varchar(50), "GebDatum" date, "Straße" varchar(80), "PLZ" char(5),
	"Ort" varchar(50), "Land" char(2), "E-Mail" varchar(120), "Telefon" varchar(40), "Bemerkung" text);
CREATE TABLE "Bestellungen" ("BestellNr" integer PRIMARY KEY, "KundenNr" integer, "Datum" date, "Betrag" numeric(12,2), "Status" varchar(20));
CREATE TABLE "Order" ("ID" integer, "BestellNr" integer, "Artikel Nr." integer, "select" integer, "a""b" text);
CREATE TABLE "Artikel" ("ArtikelNr" integer PRIMARY KEY, "Bezeichnung" varchar(100), "Preis" numeric(8,2));
CREATE TABLE "Konten.Bank" ("Konto ID" integer, "KundenNr" integer, "IBAN" varchar(34), "Kontoinhaber" varchar(100));
INSERT INTO "Kunden" SELECT i, 'Frau', 'Vor' || i, 'Nach' || i, '1950-03-01'::date + i * 50, 'Hauptstraße ' || i, lpad((10000 + i)::text, 5, '0'), 'Köln', (ARRAY['DE', 'AT', 'CH'])[1 + i % 3], 'k' || i || '@post.example', '0221 / ' || (555000 + i), NULL FROM generate_series(1000, 1199) i;
INSERT INTO "Bestellungen" SELECT i, 1000 + i % 200, '2024-01-01'::date + i, i * 1.5, (ARRAY['offen', 'bezahlt'])[1 + i % 2] FROM generate_series(1, 300) i;
INSERT INTO "Order" SELECT i, 1 + i % 300, 500 + i % 20, i, 'x' FROM generate_series(1, 400) i;
INSERT INTO "Artikel" SELECT i, 'Ding ' || i, 9.99 FROM generate_series(500, 519) i;
INSERT INTO "Konten.Bank" SELECT i, 1000 + i % 200, 'DE89370400440532013000', 'Inhaber ' || i FROM generate_series(1, 150) i;
