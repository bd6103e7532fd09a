-- No persons at all.
CREATE TABLE station (id serial PRIMARY KEY, label text NOT NULL, altitude int);
CREATE TABLE reading (station_id int REFERENCES station, at timestamptz, celsius real, PRIMARY KEY (station_id, at));
INSERT INTO station (label, altitude) SELECT 'S' || i, i * 10 FROM generate_series(1, 20) i;
INSERT INTO reading SELECT 1 + i % 20, '2025-01-01'::timestamptz + i * interval '1 hour', 12.5 FROM generate_series(1, 500) i;
