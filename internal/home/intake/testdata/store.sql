-- A music store in the manner of a teaching database: customers, employees, invoices; money and addresses.
CREATE TABLE "Artist" ("ArtistId" serial PRIMARY KEY, "Name" varchar(120));
CREATE TABLE "Album" ("AlbumId" serial PRIMARY KEY, "Title" varchar(160) NOT NULL, "ArtistId" int NOT NULL REFERENCES "Artist");
CREATE TABLE "Genre" ("GenreId" serial PRIMARY KEY, "Name" varchar(120));
CREATE TABLE "Track" ("TrackId" serial PRIMARY KEY, "Name" varchar(200) NOT NULL, "AlbumId" int REFERENCES "Album", "GenreId" int REFERENCES "Genre",
	"Milliseconds" int NOT NULL, "UnitPrice" numeric(10,2) NOT NULL);
CREATE TABLE "Employee" ("EmployeeId" serial PRIMARY KEY, "LastName" varchar(20) NOT NULL, "FirstName" varchar(20) NOT NULL, "ReportsTo" int REFERENCES "Employee",
	"BirthDate" timestamp, "HireDate" timestamp, "Phone" varchar(24), "Email" varchar(60));
CREATE TABLE "Customer" ("CustomerId" serial PRIMARY KEY, "FirstName" varchar(40) NOT NULL, "LastName" varchar(20) NOT NULL, "Company" varchar(80),
	"Address" varchar(70), "City" varchar(40), "State" varchar(40), "Country" varchar(40), "PostalCode" varchar(10), "Phone" varchar(24), "Fax" varchar(24),
	"Email" varchar(60) NOT NULL, "SupportRepId" int REFERENCES "Employee");
CREATE TABLE "Invoice" ("InvoiceId" serial PRIMARY KEY, "CustomerId" int NOT NULL REFERENCES "Customer", "InvoiceDate" timestamp NOT NULL,
	"BillingAddress" varchar(70), "BillingCity" varchar(40), "BillingCountry" varchar(40), "Total" numeric(10,2) NOT NULL);
CREATE TABLE "InvoiceLine" ("InvoiceLineId" serial PRIMARY KEY, "InvoiceId" int NOT NULL REFERENCES "Invoice", "TrackId" int NOT NULL REFERENCES "Track",
	"UnitPrice" numeric(10,2) NOT NULL, "Quantity" int NOT NULL);
INSERT INTO "Artist" ("Name") SELECT 'Artist ' || i FROM generate_series(1, 20) i;
INSERT INTO "Album" ("Title", "ArtistId") SELECT 'Album ' || i, 1 + i % 20 FROM generate_series(1, 40) i;
INSERT INTO "Genre" ("Name") VALUES ('Rock'), ('Jazz'), ('Chanson');
INSERT INTO "Track" ("Name", "AlbumId", "GenreId", "Milliseconds", "UnitPrice") SELECT 'Track ' || i, 1 + i % 40, 1 + i % 3, 100000 + i * 1000, 0.99 FROM generate_series(1, 100) i;
INSERT INTO "Employee" ("LastName", "FirstName", "BirthDate", "Phone", "Email") SELECT 'Last' || i, 'First' || i, '1970-01-01', '+353 1 555 0' || (100 + i), 'e' || i || '@store.example' FROM generate_series(1, 5) i;
INSERT INTO "Customer" ("FirstName", "LastName", "Address", "City", "Country", "PostalCode", "Phone", "Email", "SupportRepId")
	SELECT 'First' || i, 'Last' || i, i || ' Main Street', 'Dublin', CASE i % 2 WHEN 0 THEN 'Ireland' ELSE 'Germany' END, 'D0' || i % 9, '+353 1 555 1' || (100 + i), 'c' || i || '@mail.example', 1 + i % 5 FROM generate_series(1, 60) i;
INSERT INTO "Invoice" ("CustomerId", "InvoiceDate", "Total") SELECT 1 + i % 60, '2025-01-01'::timestamp + i * interval '7 hours', i FROM generate_series(1, 200) i;
INSERT INTO "InvoiceLine" ("InvoiceId", "TrackId", "UnitPrice", "Quantity") SELECT 1 + i % 200, 1 + i % 100, 0.99, 1 FROM generate_series(1, 400) i;
