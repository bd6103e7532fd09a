package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
)

// Fact is one thing that a server reports of itself.
type Fact struct {
	Topic string `json:"topic"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// State is what one server reports of itself at one look.
type State struct {
	Facts     []Fact               // of the whole server, sorted
	Databases map[string]*Contents // each that the probe may enter
	Closed    []string             // databases that it may not enter
}

// Contents is what one database holds, from its catalogs alone.
type Contents struct {
	Owner   string
	Objects []Object
}

// Object is one thing in a database: a relation, column, function, extension, right and the like.
type Object struct {
	Kind   string // see objectsSQL
	Schema string
	Name   string
	Part   string // a column's name, a trigger's table
	Detail string
}

// Look asks one server. It changes nothing there, and reads no table but catalogs.
func Look(ctx context.Context, t *Target, password string) (*State, error) {
	conn, err := connect(ctx, t, password, "")
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", t.Name, err)
	}
	defer hangUp(conn)
	s := &State{Databases: map[string]*Contents{}}
	if s.Facts, err = facts(ctx, conn); err != nil {
		return nil, fmt.Errorf("look at %s: %w", t.Name, err)
	}
	rows, err := conn.Query(ctx, `SELECT d.datname::text, r.rolname::text, d.datallowconn AND has_database_privilege(d.oid, 'CONNECT')
		FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", t.Name, err)
	}
	var name, owner string
	var open bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &owner, &open}, func() error {
		if open {
			s.Databases[name] = &Contents{Owner: owner}
		} else {
			s.Closed = append(s.Closed, name)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look at %s: %w", t.Name, err)
	}
	for name, c := range s.Databases {
		if c.Objects, err = inside(ctx, t, password, name); isGone(err) {
			delete(s.Databases, name) // dropped while we looked
		} else if err != nil {
			return nil, fmt.Errorf("look at %s, database %s: %w", t.Name, name, err)
		}
	}
	return s, nil
}

// connect opens a connection that can only read.
func connect(ctx context.Context, t *Target, password, database string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(t.DSN)
	if err != nil {
		return nil, errors.New("connect: the connection string is none")
	}
	if password != "" {
		cfg.Password = password
	}
	if database != "" {
		cfg.Database = database
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.RuntimeParams["application_name"] = "trefoil probe"
	cfg.RuntimeParams["search_path"] = "pg_catalog"
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	return pgx.ConnectConfig(ctx, cfg)
}

func hangUp(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	_ = c.Close(ctx) // it only read
}

// facts asks the probe's functions, after it saw that they are what this side knows. A bad line
// of the operator's login rules is a fact too: the server will not read the file.
func facts(ctx context.Context, conn *pgx.Conn) ([]Fact, error) {
	altered, err := alteredFunctions(ctx, conn)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, "SELECT topic, name, value FROM trefoil_probe.facts()")
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Fact])
	if err != nil {
		return nil, err
	}
	out = append(out, altered...)
	slices.SortFunc(out, func(a, b Fact) int {
		return cmpStrings([]string{a.Topic, a.Name, a.Value}, []string{b.Topic, b.Name, b.Value})
	})
	return slices.Compact(out), nil
}

func cmpStrings(a, b []string) int { return slices.Compare(a, b) }

// alteredFunctions makes a fact of each of the probe's functions that is not as it was installed,
// and of each that was put beside them.
func alteredFunctions(ctx context.Context, conn *pgx.Conn) ([]Fact, error) {
	rows, err := conn.Query(ctx, `SELECT p.proname::text, p.prosrc, p.prosecdef AND l.lanname = 'sql' AND o.rolname = $2
			AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp']
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang
			JOIN pg_catalog.pg_roles o ON o.oid = p.proowner WHERE n.nspname = $1 ORDER BY 1`, install.Schema, install.Owner)
	if err != nil {
		return nil, err
	}
	want := install.Bodies()
	var out []Fact
	var name, body string
	var pinned bool
	_, err = pgx.ForEachRow(rows, []any{&name, &body, &pinned}, func() error {
		if want[name] != body || !pinned {
			out = append(out, Fact{Topic: "function", Name: install.Schema + "." + name, Value: "altered"})
		}
		delete(want, name)
		return nil
	})
	for name := range want {
		out = append(out, Fact{Topic: "function", Name: install.Schema + "." + name, Value: "missing"})
	}
	return out, err
}

func inside(ctx context.Context, t *Target, password, database string) ([]Object, error) {
	conn, err := connect(ctx, t, password, database)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	rows, err := conn.Query(ctx, objectsSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Object])
}

// objectsSQL lists what somebody made in a database: everything beyond what initdb makes. Of a
// foreign server it tells where it points to, and no other option.
const objectsSQL = `
WITH own AS (SELECT oid, nspname::text AS name FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
SELECT 'schema', n.name, '', '', '' FROM own n
UNION ALL SELECT 'relation', n.name, c.relname::text, '', c.relkind::text || CASE WHEN c.relispartition THEN ' partition of ' ||
    coalesce((SELECT pn.nspname || '.' || p.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
      JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhrelid = c.oid), '?') ELSE '' END
  FROM pg_catalog.pg_class c JOIN own n ON n.oid = c.relnamespace WHERE c.relkind NOT IN ('i', 'I', 'c')
UNION ALL SELECT 'column', n.name, c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN own n ON n.oid = c.relnamespace
  WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
UNION ALL SELECT 'default', n.name, c.relname::text, a.attname::text, '' FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_class c ON c.oid = d.adrelid
    JOIN own n ON n.oid = c.relnamespace JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum
UNION ALL SELECT 'grant', n.name, c.relname::text, coalesce(r.rolname::text, 'PUBLIC'), string_agg(DISTINCT x.privilege_type, ',' ORDER BY x.privilege_type)
  FROM pg_catalog.pg_class c JOIN own n ON n.oid = c.relnamespace CROSS JOIN LATERAL (SELECT * FROM pg_catalog.aclexplode(c.relacl)
      UNION ALL SELECT e.* FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) e WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL) x
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee WHERE x.grantee <> c.relowner AND c.relkind NOT IN ('i', 'I') GROUP BY 2, 3, 4
UNION ALL SELECT 'schema-grant', n.name, coalesce(r.rolname::text, 'PUBLIC'), '', string_agg(x.privilege_type, ',' ORDER BY x.privilege_type)
  FROM own n JOIN pg_catalog.pg_namespace s ON s.oid = n.oid CROSS JOIN LATERAL pg_catalog.aclexplode(s.nspacl) x
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee WHERE x.grantee <> s.nspowner GROUP BY 2, 3
UNION ALL SELECT 'database-grant', '', coalesce(r.rolname::text, 'PUBLIC'), '', string_agg(x.privilege_type, ',' ORDER BY x.privilege_type)
  FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) x
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee WHERE d.datname = pg_catalog.current_database() AND x.grantee <> d.datdba GROUP BY 3
UNION ALL SELECT 'owner', n.name, c.relname::text, '', r.rolname::text
  FROM pg_catalog.pg_class c JOIN own n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
UNION ALL SELECT 'function', n.name, p.proname::text, pg_catalog.pg_get_function_identity_arguments(p.oid),
    pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex') || CASE WHEN p.prosecdef THEN ' definer' ELSE '' END
  FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL SELECT 'function', 'pg_catalog', proname::text, '', 'made by hand' FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND oid >= 16384
UNION ALL SELECT 'relation', 'pg_catalog', relname::text, '', relkind::text FROM pg_catalog.pg_class WHERE relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND oid >= 16384
UNION ALL SELECT 'type', n.name, t.typname::text, '', t.typtype::text FROM pg_catalog.pg_type t JOIN own n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c')
UNION ALL SELECT 'trigger', n.name, c.relname::text, t.tgname::text, '' FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    JOIN own n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal
UNION ALL SELECT 'rule', n.name, c.relname::text, w.rulename::text, '' FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
    JOIN own n ON n.oid = c.relnamespace WHERE c.relkind NOT IN ('v', 'm')
UNION ALL SELECT 'policy', n.name, c.relname::text, p.polname::text, '' FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid JOIN own n ON n.oid = c.relnamespace
UNION ALL SELECT 'event-trigger', '', evtname::text, '', '' FROM pg_catalog.pg_event_trigger
UNION ALL SELECT 'extension', '', extname::text, '', extversion FROM pg_catalog.pg_extension
UNION ALL SELECT 'language', '', lanname::text, '', '' FROM pg_catalog.pg_language WHERE lanname NOT IN ('internal', 'c', 'sql', 'plpgsql')
UNION ALL SELECT 'wrapper', '', fdwname::text, '', '' FROM pg_catalog.pg_foreign_data_wrapper
UNION ALL SELECT 'foreign-server', '', s.srvname::text, '', w.fdwname || ' ' || coalesce((SELECT pg_catalog.string_agg(o, ' ' ORDER BY o)
      FROM pg_catalog.unnest(s.srvoptions) o WHERE o ~ '^(host|hostaddr|port|dbname)='), '')
  FROM pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
UNION ALL SELECT 'publication', '', p.pubname::text, '', CASE WHEN p.puballtables THEN 'all tables' ELSE '' END FROM pg_catalog.pg_publication p
UNION ALL SELECT 'cast', '', c.castsource::pg_catalog.regtype::text, c.casttarget::pg_catalog.regtype::text, '' FROM pg_catalog.pg_cast c WHERE c.oid >= 16384
UNION ALL SELECT 'operator', n.name, o.oprname::text, '', '' FROM pg_catalog.pg_operator o JOIN own n ON n.oid = o.oprnamespace
UNION ALL SELECT 'large-object', '', l.oid::text, '', '' FROM pg_catalog.pg_largeobject_metadata l
ORDER BY 1, 2, 3, 4, 5`

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return "SQLSTATE " + pg.Code
	}
	return "no answer"
}

// isGone reports whether a database was dropped or closed between two questions.
func isGone(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "3D000" || pg.Code == "57P01" || pg.Code == "55000")
}
