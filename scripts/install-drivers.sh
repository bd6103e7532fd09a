#!/bin/sh
# Installs node's PostgreSQL driver for tests into .cache/drivers. Version pinned; nothing else
# of Trefoil needs it. Does nothing when it is there. Debian pins psycopg2: scripts/install-deps.sh.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
dest="$root/.cache/drivers"
version=8.16.3
if [ -f "$dest/node_modules/pg/package.json" ] && grep -q "\"version\": \"$version\"" "$dest/node_modules/pg/package.json"; then
    exit 0
fi
command -v npm >/dev/null || { echo "install-drivers: npm is not installed" >&2; exit 1; }
rm -rf "$dest"
mkdir -p "$dest"
cd "$dest"
echo '{"private":true}' >package.json
npm install --no-audit --no-fund --ignore-scripts --silent "pg@$version"
chmod -R a+rX "$dest"
