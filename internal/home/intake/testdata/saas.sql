-- A Rails-like product: tenants, users with uuid, polymorphic rows, tokens, soft references without constraints.
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TABLE organizations (id uuid PRIMARY KEY, name text NOT NULL, plan text NOT NULL, created_at timestamp NOT NULL);
CREATE TABLE users (id uuid PRIMARY KEY, organization_id uuid REFERENCES organizations, email citext NOT NULL UNIQUE, encrypted_password text NOT NULL, reset_password_token text, current_sign_in_ip inet,
	locale varchar(8), country_code char(2), role text NOT NULL, created_at timestamp NOT NULL, updated_at timestamp NOT NULL);
CREATE TABLE devices (id uuid PRIMARY KEY, user_id uuid NOT NULL, push_token text, model text, created_at timestamp NOT NULL);
CREATE TABLE projects (id uuid PRIMARY KEY, organization_id uuid NOT NULL REFERENCES organizations, owner_id uuid NOT NULL REFERENCES users, name text NOT NULL, settings jsonb NOT NULL DEFAULT '{}', archived boolean NOT NULL DEFAULT false);
CREATE TABLE comments (id bigserial PRIMARY KEY, commentable_type text NOT NULL, commentable_id uuid NOT NULL, author_id uuid NOT NULL, body text NOT NULL, created_at timestamp NOT NULL);
CREATE TABLE messages (id bigserial PRIMARY KEY, sender_id uuid NOT NULL REFERENCES users, recipient_id uuid NOT NULL REFERENCES users, body text NOT NULL, read boolean NOT NULL DEFAULT false, sent_at timestamp NOT NULL);
CREATE TABLE schema_migrations (version varchar NOT NULL PRIMARY KEY);
INSERT INTO organizations SELECT md5('o' || i)::uuid, 'Org ' || i, (ARRAY['free', 'pro'])[1 + i % 2], now() FROM generate_series(1, 5) i;
INSERT INTO users SELECT md5('u' || i)::uuid, md5('o' || (1 + i % 5))::uuid, 'x' || i || '@saas.example', '$2a$12$' || md5(i::text), NULL, '203.0.113.9', 'fr', (ARRAY['FR', 'SE'])[1 + i % 2], (ARRAY['admin', 'member'])[1 + i % 2], now(), now() FROM generate_series(1, 100) i;
INSERT INTO devices SELECT md5('d' || i)::uuid, md5('u' || (1 + i % 100))::uuid, md5('p' || i), 'Phone', now() FROM generate_series(1, 150) i;
INSERT INTO projects SELECT md5('p' || i)::uuid, md5('o' || (1 + i % 5))::uuid, md5('u' || (1 + i % 100))::uuid, 'Project ' || i FROM generate_series(1, 50) i;
INSERT INTO comments (commentable_type, commentable_id, author_id, body, created_at) SELECT 'Project', md5('p' || (1 + i % 50))::uuid, md5('u' || (1 + i % 100))::uuid, 'Text ' || i, now() FROM generate_series(1, 200) i;
INSERT INTO messages (sender_id, recipient_id, body, sent_at) SELECT md5('u' || (1 + i % 100))::uuid, md5('u' || (1 + (i * 7) % 100))::uuid, 'Hi ' || i, now() FROM generate_series(1, 200) i;
INSERT INTO schema_migrations VALUES ('20250101');
