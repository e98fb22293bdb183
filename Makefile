# What a person can do here. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Tools that deploy/tools/install has fetched stand before those of the system.
export PATH := $(CURDIR)/.tools/bin:$(PATH)

CARGO ?= cargo
# `make up PROFILE=dev` starts slower code that `make test` has mostly built already.
PROFILE ?= release
# Passed on to the program: make up ARGS='--data-dir /srv/rapport', make test ARGS=stale_etag.
ARGS ?=

# How often `make soak` runs each of the fault tests.
ROUNDS ?= 10

OUT := $(or $(CARGO_TARGET_DIR),target)
BIN := $(OUT)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
# A run that nobody watches must not change the lock file, and goes on after a failed test.
LOCKED := $(if $(CI),--locked)
NEXTEST := $(CARGO) nextest run --workspace $(LOCKED) $(if $(CI),--profile ci)

help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

up: ## Build Rapport, start it here with everything it needs, and say where it is
	deploy/tools/install cc postgres nats-server
	$(CARGO) build --profile $(PROFILE) $(LOCKED) --package rapport
	exec $(BIN)/rapport up $(ARGS)

test: ## Run all tests on real servers, which are started before and stopped after
	deploy/tools/install cc postgres nats-server nextest
	$(NEXTEST) --no-run $(ARGS)
	$(if $(ARGS),,$(CARGO) test --doc --workspace --exclude rapport-proto $(LOCKED) --quiet)
	rm -f $(OUT)/snapshots.seen && touch $(OUT)/snapshots.seen
	INSTA_SNAPSHOT_REFERENCES_FILE=$(abspath $(OUT))/snapshots.seen \
	$(OUT)/debug/with-servers -- $(NEXTEST) $(ARGS)
	$(if $(ARGS),,deploy/tools/snapshots $(OUT)/snapshots.seen)

soak: ## Run the faults of `make test` ten times over, and the simulation with 50,000 seeds: half an hour and more
	deploy/tools/install cc postgres nats-server nextest
	$(CARGO) build $(LOCKED) --package rapport-local --bins
	$(CARGO) nextest run $(LOCKED) --package rapport-tests --test faults --no-run
	RAPPORT_FAULTS_ROUNDS=$(ROUNDS) $(OUT)/debug/with-servers -- \
	$(CARGO) nextest run $(LOCKED) --package rapport-tests --test faults --no-fail-fast $(ARGS)
	RAPPORT_SIMULATION_SEEDS=50000 $(CARGO) test $(LOCKED) --package rapport-events --lib simulation::what

check: ## Check format, lints, documentation, dependencies, the contract and its compatibility
	deploy/tools/install cc deny buf
	$(CARGO) fmt --all --check
	cd proto && buf lint
	cd proto && buf build -o - | buf breaking - --against released.binpb
	deploy/tools/snapshots
	$(CARGO) deny $(LOCKED) check --hide-inclusion-graph bans licenses sources
	$(CARGO) clippy --workspace --all-targets $(LOCKED) -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps $(LOCKED)

bench: ## Measure against PostgreSQL alone, within one run, and print a table
	deploy/tools/install cc postgres nats-server
	$(CARGO) build --release $(LOCKED) --package rapport --package rapport-local --package rapport-bench
	$(OUT)/release/with-servers --durable -- $(OUT)/release/bench $(ARGS)

tools: ## Install what building and testing needs, as far as this user may
	deploy/tools/install

released: ## Record the contract as it is now as the one that later changes must not break
	deploy/tools/install buf
	cd proto && buf build -o released.binpb

clean: ## Remove what was built and fetched; data under .rapport stay
	$(CARGO) clean
	rm -rf .tools

.PHONY: help up test soak check bench tools released clean
