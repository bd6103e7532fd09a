#!/usr/bin/env bash
# For each claim of the demo, builds the binary with the claim's sabotage and shows that exactly
# this claim fails. The sabotages are behind the build tag `sabotage`, absent from shipped binaries.
set -euo pipefail
cd "$(dirname "$0")/.."
TREFOIL_TEST_SABOTAGE=1 exec go test -count=1 -timeout 20m -run '^TestSabotage' ./internal/demo
