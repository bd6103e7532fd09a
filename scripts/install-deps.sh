#!/usr/bin/env bash
# Installs what Trefoil needs and this machine lacks, from Debian's packages: PostgreSQL 15 with
# its client programs and contrib modules, a C compiler (the SQL parser is PostgreSQL's own, in C),
# the drivers that tests drive the gateway with, the browser they look at pages with. Quiet when nothing is missing.
#
# Debian would create and start a cluster of its own when PostgreSQL is installed: it is told not
# to. Trefoil starts its own instances and never touches Debian's.
set -euo pipefail

missing=()
asked=()
pgbin=/usr/lib/postgresql/15/bin
[ -x "$pgbin/postgres" ] && [ -x "$pgbin/pgbench" ] || missing+=(postgresql-15 postgresql-contrib)
[ -x "$pgbin/psql" ] || missing+=(postgresql-client-15)
command -v psql >/dev/null || missing+=(postgresql-client-common)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
/usr/bin/python3 -c 'import psycopg2' 2>/dev/null || missing+=(python3-psycopg2)
/usr/bin/python3 -c 'import psycopg' 2>/dev/null || missing+=(python3-psycopg)
/usr/bin/perl -MDBD::Pg -e 1 2>/dev/null || missing+=(libdbd-pg-perl)
[ -e /usr/share/java/postgresql.jar ] || missing+=(libpostgresql-jdbc-java)
command -v javac >/dev/null || missing+=(openjdk-17-jdk-headless)
command -v isql >/dev/null || missing+=(unixodbc)
ls /usr/lib/*/odbc/psqlodbcw.so >/dev/null 2>&1 || missing+=(odbc-postgresql)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v chromium >/dev/null || missing+=(chromium)
for program in "$@"; do # what one target needs besides: its name, or its name and Debian's, as in pgpool:pgpool2
	package=${program#*:}
	command -v "${program%%:*}" >/dev/null || { missing+=("$package"); asked+=("$package"); }
done
[ ${#missing[@]} -eq 0 ] && exit 0

command -v apt-get >/dev/null || {
	echo "install-deps: missing: ${missing[*]}. This machine has no apt-get: install their like by hand." >&2
	exit 1
}
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		as_root=(sudo -n)
	elif command -v sudo >/dev/null && [ -t 0 ]; then
		as_root=(sudo)
	else
		echo "install-deps: missing: ${missing[*]}" >&2
		echo "install-deps: neither root nor sudo here. Ask an administrator to run: apt-get install ${missing[*]}" >&2
		exit 1
	fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
	if ! "${as_root[@]}" "$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		echo "install-deps: failed: $*" >&2
		exit 1
	fi
}

echo "install-deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
if [ ! -x "$pgbin/postgres" ]; then
	quietly mkdir -p /etc/postgresql-common/createcluster.d
	quietly sh -c 'echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/trefoil.conf'
fi
quietly apt-get update -qq
quietly apt-get install -y -qq --no-install-recommends "${missing[@]}"
for package in "${asked[@]}"; do # Debian would run it as a service: only its program is wanted
	! command -v systemctl >/dev/null || "${as_root[@]}" systemctl disable --now "$package" >/dev/null 2>&1 || true
done
