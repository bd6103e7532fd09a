// Drives a session as an application would, with node's pg. argv: directory of node_modules, DSN, path (service or release).
const [modules, dsn, path] = process.argv.slice(2);
const { Client } = require(modules + "/pg");
const fs = require("fs");

let done = 0;
function ok(what, holds) {
    if (!holds) throw new Error("does not hold: " + what);
    done++;
}

async function refused(client, sql) {
    try {
        await client.query(sql);
    } catch (e) {
        return e.code;
    }
    return "";
}

async function main() {
    const u = new URL(dsn);
    const client = new Client({
        host: u.hostname, port: Number(u.port), user: decodeURIComponent(u.username), password: decodeURIComponent(u.password),
        database: u.pathname.slice(1), ssl: { ca: fs.readFileSync(u.searchParams.get("sslrootcert"), "utf8") }, connectionTimeoutMillis: 20000,
    });
    const notices = [];
    client.on("notice", (n) => notices.push(n.message));
    await client.connect();
    let r = await client.query("SELECT 1 AS one, 'two' AS two, NULL AS nothing, now() AS at, ARRAY[1,2] AS list, '{\"a\": 1}'::jsonb AS doc");
    ok("types", r.rows[0].one === 1 && r.rows[0].two === "two" && r.rows[0].at instanceof Date && r.rows[0].doc.a === 1);
    r = await client.query("SELECT count(*)::int AS n FROM app.people WHERE (country = $1 OR country IS NULL) AND id <> $2", ["DE", "0"]);
    ok("parameters", r.rows[0].n > 10);
    for (const country of ["DE", "FR", "IT"]) {
        r = await client.query({ name: "by country", text: "SELECT count(*)::int AS n FROM app.people WHERE country = $1 OR country IS NULL", values: [country] });
        ok("prepared statement", r.rows[0].n > 10);
    }
    r = await client.query({ text: "SELECT id, email FROM app.people ORDER BY id", rowMode: "array" });
    ok("many rows", r.rows.length > 1000 && r.rows[0].length === 2);
    r = await client.query({ text: "SELECT 5::int4 AS n, true AS yes", binary: true });
    ok("binary", r.rows[0].n === 5 && r.rows[0].yes === true);
    await client.query("BEGIN");
    await client.query("DECLARE c CURSOR FOR SELECT id FROM app.people");
    r = await client.query("FETCH 100 FROM c");
    ok("cursor", r.rows.length === 100);
    ok("an error", (await refused(client, "SELECT no_such_column FROM app.people")) === "42703");
    ok("a failed transaction", (await refused(client, "SELECT 1")) === "25P02");
    await client.query("ROLLBACK");
    r = await client.query("SELECT 1; SELECT 2 AS two");
    ok("two statements", r.length === 2 && r[1].rows[0].two === 2);
    await client.query("CREATE TEMP TABLE mine (id bigint, note text)");
    await client.query("INSERT INTO mine SELECT i, 'n' || i FROM generate_series(1, $1::int) i", [300]);
    r = await client.query("SELECT count(*)::int AS n FROM mine");
    ok("temporary table", r.rows[0].n === 300);
    const many = await Promise.all([1, 2, 3].map((i) => client.query("SELECT $1::int AS i", [i])));
    ok("queued queries", many.every((m, i) => m.rows[0].i === i + 1));
    if (path === "release") {
        ok("the notice at connect", notices.some((n) => n.includes("SHOW trefoil.dataset")));
        r = await client.query("SHOW trefoil.dataset");
        ok("SHOW trefoil.dataset", Object.values(r.rows[0])[0].includes("people"));
        r = await client.query("SELECT column_name, form FROM trefoil_info.columns WHERE table_name = $1", ["people"]);
        ok("trefoil_info.columns", r.rows.length >= 4);
        ok("a write is refused", ["42501", "25006"].includes(await refused(client, "DELETE FROM app.topics")));
    } else {
        await client.query("BEGIN");
        r = await client.query("INSERT INTO app.topics VALUES ($1, 'x') RETURNING id", [901]);
        ok("a write", r.rows[0].id === 901);
        await client.query("ROLLBACK");
    }
    await client.end();
    console.log(done + " hold");
}

main().catch((e) => { console.error(e.message); process.exit(1); });
