#!/usr/bin/env bash
# Runs every fuzz target of the module by its exact name for the time given, and fails if none
# ran, if a name matched nothing, or if a target found something.
# usage: scripts/fuzz.sh 1s [package-pattern]
set -euo pipefail
cd "$(dirname "$0")/.."
fuzztime=${1:?usage: scripts/fuzz.sh FUZZTIME [PACKAGES]}
pattern=${2:-./...}

work=$(mktemp -d)
out=$work/out
trap 'rm -rf "$work"' EXIT
corpus=$(go env GOCACHE)/fuzz # where go test keeps interesting inputs too
ran=0
# Packages with a target in their source first: listing the tests of every package builds them all.
mapfile -t dirs < <(go list -f '{{.Dir}}' "$pattern" | while read -r d; do
	grep -qsE '^func Fuzz[A-Z0-9_]' "$d"/*_test.go && echo "$d"; done || true)
for dir in "${dirs[@]}"; do
	name=${dir#"$PWD"}
	name=.${name}
	(cd "$dir" && go test -c -fuzz '^Fuzz' -o "$work/fuzz" .) # once a package, with the fuzzer's instruments
	mapfile -t targets < <(cd "$dir" && "$work/fuzz" -test.list '^Fuzz' | grep '^Fuzz' || true)
	kept=$corpus/$(cd "$dir" && go list .)
	for target in "${targets[@]}"; do
		# Go's fuzzer can report its own deadline as a failure (no input is written then): once more.
		for attempt in 1 2 3; do
			if (cd "$dir" && "$work/fuzz" -test.run '^$' -test.fuzz "^${target}\$" -test.fuzztime "$fuzztime" -test.fuzzminimizetime 10x \
				-test.fuzzcachedir "$kept" -test.parallel 2) >"$out" 2>&1; then
				break
			fi
			if [ "$attempt" -lt 3 ] && grep -q 'context deadline exceeded' "$out" && ! grep -q 'Failing input written' "$out"; then
				continue
			fi
			cat "$out" >&2
			echo "fuzz: $target in ${dir#"$PWD"/} failed" >&2
			exit 1
		done
		# An unmatched -fuzz pattern prints PASS: only lines of the fuzzer itself prove that it ran.
		if ! grep -q '^fuzz: elapsed: ' "$out"; then
			cat "$out" >&2
			echo "fuzz: $target in $name did not run" >&2
			exit 1
		fi
		ran=$((ran + 1))
		echo "fuzz: $name $target: $(grep '^fuzz: elapsed: ' "$out" | tail -1 | sed 's/^fuzz: //')"
	done
done
[ "$ran" -gt 0 ] || { echo "fuzz: no target ran" >&2; exit 1; }
echo "fuzz: $ran targets ran"
