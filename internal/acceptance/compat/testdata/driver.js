// Drives sessions as an application would, with node's pg.
// argv: directory of node_modules, DSN, path (service or release). Prints one line a row: what, tab, outcome.
const [modules, dsn, path] = process.argv.slice(2);
const { Client, Pool } = require(modules + "/pg");
const fs = require("fs");

const u = new URL(dsn);
const config = {
    host: u.hostname, port: Number(u.port), user: decodeURIComponent(u.username), password: decodeURIComponent(u.password),
    database: u.pathname.slice(1), ssl: { ca: fs.readFileSync(u.searchParams.get("sslrootcert"), "utf8") }, connectionTimeoutMillis: 20000,
};
const client = new Client(config);
const notices = [];
client.on("notice", (n) => notices.push(n.message));

async function row(what, f, release) {
    let outcome;
    try {
        const holds = await f();
        outcome = holds === true ? "works" : "does not hold: " + JSON.stringify(holds);
        if (release && path === "release") outcome = "was not refused";
    } catch (e) {
        outcome = "error " + e.code + ": " + e.message;
        if (release && path === "release" && e.code === release) outcome = "refused, " + release;
    }
    await client.query("ROLLBACK");
    console.log(what + "\t" + outcome);
}

async function code(sql) {
    try {
        await client.query(sql);
    } catch (e) {
        return e.code;
    }
    return "";
}

async function main() {
    await client.connect();
    await row("types", async () => {
        const r = await client.query("SELECT 1 AS one, 'two' AS two, NULL AS nothing, now() AS at, ARRAY[1,2] AS list, '{\"a\": 1}'::jsonb AS doc");
        return r.rows[0].one === 1 && r.rows[0].two === "two" && r.rows[0].at instanceof Date && r.rows[0].doc.a === 1;
    });
    await row("parameters", async () => (await client.query("SELECT count(*)::int AS n FROM app.videos WHERE topic_id = $1 AND id <> $2", [3, "0"])).rows[0].n > 0);
    await row("10,000 rows", async () => (await client.query({ text: "SELECT id, person_id, at FROM app.watch_events", rowMode: "array" })).rows.length > 5000);
    await row("prepared statement", async () => {
        for (const topic of [1, 2, 3]) {
            const r = await client.query({ name: "by topic", text: "SELECT count(*)::int AS n FROM app.videos WHERE topic_id = $1", values: [topic] });
            if (!(r.rows[0].n >= 0)) return r.rows;
        }
        return true;
    });
    await row("binary results", async () => {
        const r = await client.query({ text: "SELECT 5::int4 AS n, true AS yes", binary: true });
        return r.rows[0].n === 5 && r.rows[0].yes === true;
    });
    await row("an error, a failed transaction", async () => {
        await client.query("BEGIN");
        return (await code("SELECT no_such_column FROM app.people")) === "42703" && (await code("SELECT 1")) === "25P02";
    });
    await row("savepoint", async () => {
        await client.query("BEGIN");
        await client.query("SAVEPOINT s");
        await code("SELECT 1/0");
        await client.query("ROLLBACK TO s");
        return (await client.query("SELECT 7 AS n")).rows[0].n === 7;
    });
    await row("temporary tables", async () => {
        await client.query("CREATE TEMP TABLE mine (id bigint, note text)");
        await client.query("INSERT INTO mine SELECT i, 'n' || i FROM generate_series(1, $1::int) i", [300]);
        return (await client.query("SELECT count(*)::int AS n FROM mine")).rows[0].n === 300;
    });
    await row("cursor, FETCH", async () => {
        await client.query("BEGIN");
        await client.query("DECLARE c CURSOR FOR SELECT id FROM app.watch_events");
        const a = await client.query("FETCH 100 FROM c");
        const b = await client.query("FETCH 50 FROM c");
        return a.rows.length === 100 && b.rows.length === 50;
    });
    await row("cursor WITH HOLD", async () => {
        await client.query("BEGIN");
        await client.query("DECLARE held CURSOR WITH HOLD FOR SELECT id FROM app.topics");
        await client.query("COMMIT");
        const n = (await client.query("FETCH ALL FROM held")).rows.length;
        await client.query("CLOSE held");
        return n === 16;
    });
    await row("session settings", async () => {
        await client.query("SET application_name = 'driver'");
        return (await client.query("SHOW application_name")).rows[0].application_name === "driver";
    });
    await row("two statements in one text", async () => {
        const r = await client.query("SELECT 1; SELECT 2 AS two");
        return r.length === 2 && r[1].rows[0].two === 2;
    });
    await row("queued queries", async () => {
        const many = await Promise.all([1, 2, 3, 4, 5].map((i) => client.query("SELECT $1::int AS i", [i])));
        return many.every((m, i) => m.rows[0].i === i + 1);
    });
    await row("LISTEN, NOTIFY", async () => {
        const heard = new Promise((yes) => client.once("notification", (m) => yes(m.payload)));
        await client.query("LISTEN compat_js");
        await client.query("NOTIFY compat_js, 'hello'");
        return (await heard) === "hello";
    });
    await row("pool of connections", async () => {
        const pool = new Pool({ ...config, max: 3 });
        const many = await Promise.all([1, 2, 3, 4, 5, 6].map((i) => pool.query("SELECT $1::int AS i, pg_backend_pid() AS pid", [i])));
        await pool.end();
        return many.every((m, i) => m.rows[0].i === i + 1) && new Set(many.map((m) => m.rows[0].pid)).size <= 3;
    });
    await row("INSERT … RETURNING", async () => {
        await client.query("BEGIN");
        return (await client.query("INSERT INTO app.topics VALUES ($1, 'x') RETURNING id", [901])).rows[0].id === 901;
    }, "42501");
    await client.end();
    console.log("end");
}

main().catch((e) => { console.error(e.message); process.exit(1); });
