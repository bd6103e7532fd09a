# Drives sessions as an application would, with DBD::Pg. argv: DSN as key=value;…, user, password, path.
# Prints one line a row: what, tab, outcome.
use strict;
use warnings;
use DBI;
use DBD::Pg qw(:pg_types :async);

my ($dsn, $user, $password, $path) = @ARGV;
$| = 1;
my $db = DBI->connect("dbi:Pg:$dsn", $user, $password, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1 });

sub row {
    my ($what, $f, $release) = @_;
    my $holds = eval { $f->() };
    my $outcome;
    if ($@) {
        my $state = $db->state;
        $outcome = "error $state: " . (split /\n/, $@)[0];
        $outcome = "refused, $release" if $release && $path eq "release" && $state eq $release;
    } else {
        $outcome = $holds ? "works" : "does not hold";
        $outcome = "was not refused" if $release && $path eq "release";
    }
    eval { $db->do("ROLLBACK") };
    print "$what\t$outcome\n";
}

row("types", sub { my @r = $db->selectrow_array("SELECT 1, 'two', NULL, ARRAY[1,2], true"); $r[0] == 1 && $r[1] eq "two" && !defined $r[2] && $r[3][1] == 2 });
row("parameters", sub { ($db->selectrow_array("SELECT count(*) FROM app.videos WHERE topic_id = ? AND id <> ?", undef, 3, 0))[0] > 0 });
row("10,000 rows", sub { @{ $db->selectall_arrayref("SELECT id, person_id, at FROM app.watch_events") } > 5000 });
row("prepared statement", sub { my $s = $db->prepare('SELECT $1::int + 1'); my $n = 0; for (1 .. 4) { $s->execute($_); $n += ($s->fetchrow_array)[0] } $n == 14 });
row("an error, a failed transaction", sub {
    $db->begin_work;
    eval { $db->do("SELECT no_such_column FROM app.people") };
    my $first = $db->state;
    eval { $db->do("SELECT 1") };
    my $second = $db->state;
    $db->rollback;
    $first eq "42703" && $second eq "25P02";
});
row("savepoint", sub {
    $db->begin_work; $db->pg_savepoint("s");
    eval { $db->do("SELECT 1/0") };
    $db->pg_rollback_to("s");
    my $n = ($db->selectrow_array("SELECT 7"))[0];
    $db->commit; $n == 7;
});
row("temporary tables", sub { $db->do("CREATE TEMP TABLE mine AS SELECT i FROM generate_series(1, 300) i"); ($db->selectrow_array("SELECT count(*) FROM mine"))[0] == 300 });
row("cursor, FETCH", sub {
    $db->begin_work; $db->do("DECLARE c CURSOR FOR SELECT id FROM app.watch_events");
    my $n = @{ $db->selectall_arrayref("FETCH 100 FROM c") };
    $db->commit; $n == 100;
});
row("session settings", sub { $db->do("SET application_name = 'driver'"); ($db->selectrow_array("SHOW application_name"))[0] eq "driver" });
row("COPY TO", sub {
    $db->do("COPY app.topics TO STDOUT");
    my ($line, $n) = ("", 0);
    $n++ while $db->pg_getcopydata($line) >= 0;
    $n == 16;
});
row("COPY FROM into a temporary table", sub {
    $db->do("CREATE TEMP TABLE copied (n int, t text)"); $db->do("COPY copied FROM STDIN");
    $db->pg_putcopydata("$_\ttext $_\n") for 1 .. 5000;
    $db->pg_putcopyend; ($db->selectrow_array("SELECT count(*) FROM copied"))[0] == 5000;
});
row("asynchronous query, cancelled", sub { my $s = $db->prepare("SELECT pg_sleep(20)", { pg_async => PG_ASYNC }); $s->execute; $db->pg_cancel; ($db->selectrow_array("SELECT 1"))[0] == 1 });
row("catalog methods", sub {
    my $t = $db->table_info(undef, "app", "%", "TABLE")->fetchall_arrayref;
    my $c = $db->column_info(undef, "app", "people", "%")->fetchall_arrayref;
    my @k = $db->primary_key(undef, "app", "people");
    @$t >= 5 && @$c >= 4 && $k[0] eq "id";
});
row("INSERT … RETURNING", sub { $db->begin_work; ($db->selectrow_array("INSERT INTO app.topics VALUES (905, 'x') RETURNING id"))[0] == 905 }, "42501");
$db->disconnect;
print "end\n";
