#!/usr/bin/env bash
# make bench-release: what the release path, the log and a dataset's build cost, fsync on.
# Starts a detached demo whose gateway reaches the monitor through a relay that can delay it,
# then measures the build and the log on clusters and directories of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
people=${PEOPLE:-100000}
dir=$(mktemp -d)
gateway=
finish() {
	if [ -n "$gateway" ]; then kill "$gateway" 2>/dev/null && wait "$gateway" || true; fi
	bin/trefoil demo --stop --dir "$dir/demo" >/dev/null 2>&1 || true
	rm -rf "$dir"
}
trap finish EXIT

go build -trimpath -o bin/trefoil ./cmd/trefoil
go build -o "$dir/release" ./bench/release
bin/trefoil demo --detach --dir "$dir/demo" --people "$people" >&2
# shellcheck source=/dev/null
. "$dir/demo/demo.env"

# The gateway again, with the monitor behind the relay.
kill "$GATEWAY_PID"
while kill -0 "$GATEWAY_PID" 2>/dev/null; do sleep 0.1; done
monitor=${MONITOR_URL#http://}
relay=127.0.0.1:$((20000 + RANDOM % 10000))
sed -i "s#$MONITOR_URL#http://$relay#" "$CONFIG"
bin/trefoil gateway -c "$CONFIG" >"$dir/gateway.log" 2>&1 &
gateway=$!
"$dir/release" -env "$dir/demo/demo.env" -monitor-proxy "$relay" -monitor-target "$monitor"
kill "$gateway"
wait "$gateway" || true
gateway=
bin/trefoil demo --stop --dir "$dir/demo" >&2

go run ./bench/build
go test ./internal/proof/accesslog -run '^$' -bench Records -benchtime 100000x |
	awk '/records\/s/ { for (i = 2; i <= NF; i++) if ($i == "records/s") print "figure records_per_s", $(i-1), "records/s" }'
