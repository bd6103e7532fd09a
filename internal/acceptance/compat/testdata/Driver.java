import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** Drives sessions as an application would, with JDBC. Arguments: for each way its name, JDBC URL, user,
 *  password and path. Prints one line a row: way, tab, what, tab, outcome. */
public class Driver {
    interface Check { boolean holds(Connection c) throws Exception; }


    static synchronized void say(String s) { System.out.println(s); }

    static class Session implements Runnable {
        final String way, url, user, password, path;
        Connection c;
        Session(String way, String url, String user, String password, String path) {
            this.way = way; this.url = url; this.user = user; this.password = password; this.path = path;
        }

        void row(String what, Check f) { row(what, f, null); }

        void row(String what, Check f, String release) {
            boolean refusable = release != null && path.equals("release");
            String outcome;
            try {
                outcome = f.holds(c) ? "works" : "does not hold";
                if (refusable) outcome = "was not refused";
            } catch (SQLException e) {
                outcome = refusable && release.equals(e.getSQLState()) ? "refused, " + release
                    : "error " + e.getSQLState() + ": " + e.getMessage().split("\n")[0];
            } catch (Exception e) {
                outcome = "error " + e;
            }
            try {
                if (!c.getAutoCommit()) { c.rollback(); c.setAutoCommit(true); }
            } catch (SQLException e) {
                outcome = "the session is lost: " + e.getMessage();
            }
            say(way + "\t" + what + "\t" + outcome);
        }

        static int count(ResultSet r) throws SQLException { int n = 0; while (r.next()) n++; return n; }
        static String code(Statement s, String sql) {
            try { s.execute(sql); return ""; } catch (SQLException e) { return e.getSQLState(); }
        }

        public void run() {
            try {
                c = DriverManager.getConnection(url, user, password);
                rows();
                c.close();
                say(way + "\tend\tend");
            } catch (Exception e) { say(way + "\tconnect\terror " + e.getMessage()); }
        }

        void rows() {
            row("types", c -> {
                ResultSet r = c.createStatement().executeQuery("SELECT 1, 'two', NULL, 3.5::numeric, ARRAY[1,2], true, now(), '6f1f6f5e-0000-4000-8000-000000000000'::uuid");
                r.next();
                return r.getInt(1) == 1 && r.getString(2).equals("two") && r.getObject(3) == null && ((Integer[]) r.getArray(5).getArray())[1] == 2 && r.getBoolean(6) && r.getObject(8) instanceof UUID;
            });
            row("parameters", c -> {
                PreparedStatement s = c.prepareStatement("SELECT count(*) FROM app.videos WHERE topic_id = ? AND id <> ?");
                s.setInt(1, 3); s.setLong(2, 0);
                ResultSet r = s.executeQuery(); r.next();
                return r.getInt(1) > 0;
            });
            row("10,000 rows", c -> count(c.createStatement().executeQuery("SELECT id, person_id, at FROM app.watch_events")) > 5000);
            row("prepared on the server, binary results", c -> {
                PreparedStatement s = c.prepareStatement("SELECT ?::int + 1, now()");
                ((org.postgresql.PGStatement) s).setPrepareThreshold(1);
                for (int i = 0; i < 7; i++) { s.setInt(1, i); ResultSet r = s.executeQuery(); r.next(); if (r.getInt(1) != i + 1) return false; }
                return ((org.postgresql.PGStatement) s).isUseServerPrepare();
            });
            row("setFetchSize in a transaction", c -> {
                c.setAutoCommit(false);
                Statement s = c.createStatement(); s.setFetchSize(400);
                return count(s.executeQuery("SELECT id FROM app.watch_events LIMIT 2000")) == 2000;
            });
            row("batch", c -> {
                Statement t = c.createStatement(); t.execute("CREATE TEMP TABLE batch (i int)");
                PreparedStatement s = c.prepareStatement("INSERT INTO batch VALUES (?)");
                for (int i = 0; i < 200; i++) { s.setInt(1, i); s.addBatch(); }
                return s.executeBatch().length == 200;
            });
            row("an error, a failed transaction", c -> {
                c.setAutoCommit(false); Statement s = c.createStatement();
                return code(s, "SELECT no_such_column FROM app.people").equals("42703") && code(s, "SELECT 1").equals("25P02");
            });
            row("savepoint", c -> {
                c.setAutoCommit(false); Savepoint p = c.setSavepoint("s"); Statement s = c.createStatement();
                code(s, "SELECT 1/0"); c.rollback(p);
                ResultSet r = s.executeQuery("SELECT 7"); r.next();
                return r.getInt(1) == 7;
            });
            row("temporary tables", c -> {
                Statement s = c.createStatement(); s.execute("CREATE TEMP TABLE mine AS SELECT i FROM generate_series(1, 300) i");
                return count(s.executeQuery("SELECT * FROM mine")) == 300;
            });
            row("cursor that is held over COMMIT", c -> {
                c.setAutoCommit(false);
                Statement s = c.createStatement(); s.execute("DECLARE held CURSOR WITH HOLD FOR SELECT id FROM app.topics");
                c.commit();
                int n = count(s.executeQuery("FETCH ALL FROM held"));
                s.execute("CLOSE held");
                return n == 16;
            });
            row("scrollable result", c -> {
                Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY);
                ResultSet r = s.executeQuery("SELECT id FROM app.topics ORDER BY id"); r.last();
                return r.getRow() == 16 && r.first();
            });
            row("session settings", c -> {
                c.setClientInfo("ApplicationName", "driver");
                ResultSet r = c.createStatement().executeQuery("SHOW application_name"); r.next();
                return r.getString(1).equals("driver");
            });
            row("two statements in one text", c -> { Statement s = c.createStatement(); s.execute("SELECT 1; SELECT 2"); return s.getMoreResults(); });
            row("COPY TO", c -> { ByteArrayOutputStream o = new ByteArrayOutputStream(); return new CopyManager((org.postgresql.core.BaseConnection) c.unwrap(PGConnection.class)).copyOut("COPY (SELECT * FROM app.watch_events) TO STDOUT", o) > 5000; });
            row("COPY FROM into a temporary table", c -> {
                c.createStatement().execute("CREATE TEMP TABLE copied (n int, t text)");
                StringBuilder b = new StringBuilder(); for (int i = 0; i < 20000; i++) b.append(i).append("\ttext\n");
                return new CopyManager((org.postgresql.core.BaseConnection) c.unwrap(PGConnection.class)).copyIn("COPY copied FROM STDIN", new StringReader(b.toString())) == 20000;
            });
            row("setQueryTimeout", c -> { Statement s = c.createStatement(); s.setQueryTimeout(1); return code(s, "SELECT pg_sleep(20)").equals("57014"); });
            row("cancel", c -> {
                Statement s = c.createStatement();
                Thread t = new Thread(() -> { try { Thread.sleep(500); s.cancel(); } catch (Exception e) { } }); t.start();
                boolean ok = code(s, "SELECT pg_sleep(20)").equals("57014"); t.join();
                return ok;
            });
            row("LISTEN, NOTIFY", c -> {
                Statement s = c.createStatement(); s.execute("LISTEN compat_java"); s.execute("NOTIFY compat_java, 'hello'");
                PGConnection p = c.unwrap(PGConnection.class);
                for (int i = 0; i < 20; i++) { org.postgresql.PGNotification[] n = p.getNotifications(500); if (n != null && n.length > 0) return n[0].getParameter().equals("hello"); }
                return false;
            });
            row("DatabaseMetaData: tables, columns, keys", c -> {
                DatabaseMetaData m = c.getMetaData();
                return count(m.getTables(null, "app", "%", new String[] {"TABLE", "PARTITIONED TABLE"})) >= 5 && count(m.getColumns(null, "app", "people", "%")) >= 4
                    && count(m.getPrimaryKeys(null, "app", "people")) == 1 && count(m.getImportedKeys(null, "app", "videos")) >= 0 && count(m.getIndexInfo(null, "app", "people", false, true)) >= 1;
            });
            row("DatabaseMetaData: schemas, types, functions, privileges", c -> {
                DatabaseMetaData m = c.getMetaData();
                return count(m.getSchemas()) >= 2 && count(m.getTypeInfo()) > 20 && count(m.getFunctions(null, "pg_catalog", "lower")) >= 1
                    && count(m.getTablePrivileges(null, "app", "people")) >= 0 && count(m.getTableTypes()) > 3 && count(m.getBestRowIdentifier(null, "app", "people", 0, true)) == 1;
            });
            row("setReadOnly, serializable", c -> {
                c.setReadOnly(true); c.setAutoCommit(false); c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
                ResultSet r = c.createStatement().executeQuery("SHOW transaction_isolation"); r.next();
                boolean ok = r.getString(1).equals("serializable");
                c.rollback(); c.setAutoCommit(true); c.setReadOnly(false); c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
                return ok;
            });
            row("preferQueryMode=simple", c -> {
                try (Connection o = DriverManager.getConnection(url + "&preferQueryMode=simple", user, password)) {
                    PreparedStatement s = o.prepareStatement("SELECT ?::text"); s.setString(1, "it's");
                    ResultSet r = s.executeQuery(); r.next();
                    return r.getString(1).equals("it's");
                }
            });
            row("updatable result", c -> {
                c.setAutoCommit(false);
                Statement s = c.createStatement(ResultSet.TYPE_SCROLL_SENSITIVE, ResultSet.CONCUR_UPDATABLE);
                ResultSet r = s.executeQuery("SELECT id, label FROM app.topics ORDER BY id"); r.next();
                r.updateString(2, "changed"); r.updateRow();
                return true;
            }, "42501");
            row("INSERT … RETURNING", c -> {
                c.setAutoCommit(false);
                PreparedStatement s = c.prepareStatement("INSERT INTO app.topics VALUES (902, 'x')", Statement.RETURN_GENERATED_KEYS);
                s.executeUpdate(); ResultSet r = s.getGeneratedKeys(); r.next();
                return r.getInt(1) == 902;
            }, "42501");
        }
    }

    public static void main(String[] a) throws Exception {
        List<Thread> all = new ArrayList<>();
        for (int i = 0; i + 4 < a.length; i += 5) {
            Thread t = new Thread(new Session(a[i], a[i + 1], a[i + 2], a[i + 3], a[i + 4]));
            t.start(); all.add(t);
        }
        for (Thread t : all) t.join();
    }
}
