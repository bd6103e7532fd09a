-- A web framework's application: auth_user with a profile of one to one, generic foreign keys, sessions, jsonb, soft deletes.
CREATE TABLE auth_group (id serial PRIMARY KEY, name varchar(150) UNIQUE NOT NULL);
CREATE TABLE auth_user (id serial PRIMARY KEY, password varchar(128) NOT NULL, last_login timestamptz, is_superuser boolean NOT NULL, username varchar(150) UNIQUE NOT NULL,
	first_name varchar(150) NOT NULL, last_name varchar(150) NOT NULL, email varchar(254) NOT NULL, is_staff boolean NOT NULL, is_active boolean NOT NULL, date_joined timestamptz NOT NULL);
CREATE TABLE auth_user_groups (id bigserial PRIMARY KEY, user_id int NOT NULL REFERENCES auth_user DEFERRABLE INITIALLY DEFERRED, group_id int NOT NULL REFERENCES auth_group DEFERRABLE INITIALLY DEFERRED, UNIQUE (user_id, group_id));
CREATE TABLE accounts_profile (user_id int PRIMARY KEY REFERENCES auth_user, bio text NOT NULL, birth_date date, country varchar(2) NOT NULL, phone varchar(32), avatar varchar(100), preferences jsonb NOT NULL);
CREATE TABLE django_content_type (id serial PRIMARY KEY, app_label varchar(100) NOT NULL, model varchar(100) NOT NULL);
CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL, expire_date timestamptz NOT NULL);
CREATE TABLE blog_post (id bigserial PRIMARY KEY, author_id int NOT NULL REFERENCES auth_user, title varchar(200) NOT NULL, body text NOT NULL, status varchar(10) NOT NULL, tags text[], published_at timestamptz, deleted_at timestamptz);
CREATE TABLE blog_comment (id bigserial PRIMARY KEY, post_id bigint NOT NULL REFERENCES blog_post ON DELETE CASCADE, user_id int REFERENCES auth_user, body text NOT NULL, ip_address inet, created_at timestamptz NOT NULL);
CREATE TABLE blog_like (post_id bigint NOT NULL REFERENCES blog_post, user_id int NOT NULL REFERENCES auth_user, created_at timestamptz NOT NULL, PRIMARY KEY (post_id, user_id));
CREATE TABLE activity_log (id bigserial PRIMARY KEY, user_id int, content_type_id int REFERENCES django_content_type, object_id int, verb varchar(30) NOT NULL, data jsonb, remote_addr varchar(45), created_at timestamptz NOT NULL);
INSERT INTO auth_group (name) VALUES ('editors'), ('readers');
INSERT INTO auth_user (password, is_superuser, username, first_name, last_name, email, is_staff, is_active, date_joined)
	SELECT 'pbkdf2_sha256$600000$' || md5(i::text), false, 'user' || i, 'Jean' || i, 'Dupont' || i, 'u' || i || '@courriel.example', false, true, now() - i * interval '1 day' FROM generate_series(1, 120) i;
INSERT INTO auth_user_groups (user_id, group_id) SELECT i, 1 + i % 2 FROM generate_series(1, 120) i;
INSERT INTO accounts_profile SELECT i, 'Hello, I am ' || i, '1960-01-01'::date + i * 100, (ARRAY['FR', 'DE', 'IE'])[1 + i % 3], '+33 6 00 00 00 ' || lpad((i % 100)::text, 2, '0'), NULL, '{"theme": "dark"}' FROM generate_series(1, 120) i;
INSERT INTO django_content_type (app_label, model) VALUES ('blog', 'post'), ('blog', 'comment');
INSERT INTO django_session SELECT md5(i::text), 'e30:' || md5(i::text), now() FROM generate_series(1, 50) i;
INSERT INTO blog_post (author_id, title, body, status, published_at) SELECT 1 + i % 120, 'Title ' || i, 'Some text about ' || i, (ARRAY['draft', 'live'])[1 + i % 2], now() FROM generate_series(1, 200) i;
INSERT INTO blog_comment (post_id, user_id, body, ip_address, created_at) SELECT 1 + i % 200, 1 + i % 120, 'I think ' || i, '192.0.2.1', now() FROM generate_series(1, 300) i;
INSERT INTO blog_like SELECT DISTINCT 1 + i % 200, 1 + i % 119, now() FROM generate_series(1, 300) i;
INSERT INTO activity_log (user_id, content_type_id, object_id, verb, remote_addr, created_at) SELECT 1 + i % 120, 1, i, 'view', '198.51.100.' || i % 200, now() FROM generate_series(1, 300) i;
