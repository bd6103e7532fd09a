-- A film rental in the manner of another: partitions, enums, domains, a composite key, arrays, a view, a trigger.
CREATE TYPE mpaa_rating AS ENUM ('G', 'PG', 'PG-13', 'R');
CREATE DOMAIN year AS integer CHECK (VALUE BETWEEN 1901 AND 2155);
CREATE DOMAIN email_text AS text CHECK (VALUE ~ '@');
CREATE TABLE language (language_id serial PRIMARY KEY, name character(20) NOT NULL);
CREATE TABLE film (film_id serial PRIMARY KEY, title text NOT NULL, description text, release_year year, language_id int NOT NULL REFERENCES language,
	rating mpaa_rating DEFAULT 'G', special_features text[], fulltext tsvector, rental_rate numeric(4,2) NOT NULL DEFAULT 4.99);
CREATE TABLE actor (actor_id serial PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL);
CREATE TABLE film_actor (actor_id int REFERENCES actor, film_id int REFERENCES film, PRIMARY KEY (actor_id, film_id));
CREATE TABLE address (address_id serial PRIMARY KEY, address text NOT NULL, district text NOT NULL, postal_code text, phone text NOT NULL);
CREATE TABLE store (store_id serial PRIMARY KEY, address_id int NOT NULL REFERENCES address);
CREATE TABLE staff (staff_id serial PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL, address_id int REFERENCES address, email text, store_id int REFERENCES store, username text, password text, picture bytea);
CREATE TABLE customer (customer_id serial PRIMARY KEY, store_id int NOT NULL REFERENCES store, first_name text NOT NULL, last_name text NOT NULL, email email_text,
	address_id int NOT NULL REFERENCES address, activebool boolean NOT NULL DEFAULT true, create_date date NOT NULL DEFAULT CURRENT_DATE, country_code character(2), last_update timestamptz DEFAULT now());
CREATE TABLE inventory (inventory_id serial PRIMARY KEY, film_id int NOT NULL REFERENCES film, store_id int NOT NULL REFERENCES store);
CREATE TABLE rental (rental_id serial PRIMARY KEY, rental_date timestamptz NOT NULL, inventory_id int NOT NULL REFERENCES inventory, customer_id int NOT NULL REFERENCES customer, return_date timestamptz, staff_id int NOT NULL REFERENCES staff);
CREATE TABLE payment (payment_id serial, customer_id int NOT NULL REFERENCES customer, staff_id int NOT NULL REFERENCES staff, rental_id int NOT NULL REFERENCES rental, amount numeric(5,2) NOT NULL,
	payment_date timestamptz NOT NULL, PRIMARY KEY (payment_date, payment_id)) PARTITION BY RANGE (payment_date);
CREATE TABLE payment_p2025_01 PARTITION OF payment FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
CREATE TABLE payment_p2025_02 PARTITION OF payment FOR VALUES FROM ('2025-02-01') TO ('2025-03-01');
CREATE VIEW customer_list AS SELECT customer_id, first_name || ' ' || last_name AS name FROM customer;
INSERT INTO language (name) VALUES ('English'), ('French');
INSERT INTO film (title, release_year, language_id, special_features) SELECT 'Film ' || i, 2000 + i % 20, 1 + i % 2, '{Trailers}' FROM generate_series(1, 50) i;
INSERT INTO actor (first_name, last_name) SELECT 'A' || i, 'B' || i FROM generate_series(1, 20) i;
INSERT INTO film_actor SELECT 1 + i % 20, i FROM generate_series(1, 50) i;
INSERT INTO address (address, district, phone) SELECT i || ' Street', 'D', '+47 22 00 ' || (10 + i) || ' 00' FROM generate_series(1, 80) i;
INSERT INTO store (address_id) VALUES (1), (2);
INSERT INTO staff (first_name, last_name, email, store_id) VALUES ('S', 'T', 's@rental.example', 1), ('U', 'V', 'u@rental.example', 2);
INSERT INTO customer (store_id, first_name, last_name, email, address_id, country_code) SELECT 1 + i % 2, 'F' || i, 'L' || i, 'f' || i || '@mail.example', i, (ARRAY['IE', 'NO', 'FR', 'CH'])[1 + i % 4] FROM generate_series(1, 70) i;
INSERT INTO inventory (film_id, store_id) SELECT 1 + i % 50, 1 + i % 2 FROM generate_series(1, 100) i;
INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id) SELECT '2025-01-01'::timestamptz + i * interval '4 hours', 1 + i % 100, 1 + i % 70, 1 + i % 2 FROM generate_series(1, 300) i;
INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) SELECT 1 + i % 70, 1 + i % 2, i, 4.99, '2025-01-01'::timestamptz + i * interval '4 hours' FROM generate_series(1, 300) i;
