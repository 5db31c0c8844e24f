# make prerequisites   installs what is missing (root)
# make test            everything: formats, lints, licences, protos, scripts, the unit, the package, unit and system tests
# make test-fast       unit tests and cases, without nodes
# make demo            a walk through the product on a node of its own, under a minute once built
# make help            all targets

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := build

# root file systems of the test nodes, and buf
export MIRRORLET_CACHE ?= /var/cache/mirrorlet-house
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# the package that `make deb` leaves; the tests of the package and the demo install it
export MIRRORLET_DEB := $(TARGET)/debian/mirrorlet_$(VERSION)-1_$(shell dpkg --print-architecture 2>/dev/null).deb

SCRIPTS := .ci/run $(wildcard packaging/*.sh packaging/deb/* tests/harness/node/*.sh)

.PHONY: help prerequisites build release deb check check-unit test test-fast torture demo bench clean-house

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | column -t -s $$'\t'

prerequisites: ## installs what building and testing need and this machine lacks
	@packaging/prerequisites.sh "$(MIRRORLET_CACHE)"

build: ## debug build
	cargo build --workspace --locked

release: ## release build of the two programs
	cargo build --release --locked --package mirrorlet --bins

deb: release ## the Debian package
	cargo deb --package mirrorlet --no-build --output "$(MIRRORLET_DEB)"

check: check-unit ## everything that needs no test run
	cargo fmt --all --check
	shellcheck $(SCRIPTS)
	cd proto && "$(MIRRORLET_CACHE)/buf" lint
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	cargo clippy --workspace --all-targets --locked -- -D warnings

check-unit: ## what systemd itself says of the units
	systemd-analyze security --offline=yes --threshold=30 systemd/mirrorlet.service | tail -1
	systemd-analyze security --offline=yes --threshold=30 systemd/mirrorlet-recover.service | tail -1
	@draft=$$(mktemp -d); trap 'rm -rf "$$draft"' EXIT; \
	for unit in mirrorlet.service mirrorlet-recover.service; do \
	    sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "systemd/$$unit" >"$$draft/$$unit"; \
	done; \
	systemd-analyze verify --man=no "$$draft"/*.service

test: check deb ## everything
	cargo nextest run --workspace --locked

test-fast: ## unit tests, and cases that need no node
	cargo nextest run --workspace --locked --no-tests warn -E 'not binary(system) + test(/^(cases|architecture|readme)/)'

torture: ## breaks it at every point there is, not at a tenth of them as "make test" does
	MIRRORLET_TORTURE=whole PROPTEST_CASES=10000 \
	    cargo nextest run --profile torture --workspace --locked -E 'test(/^(torture|drift|planted)::/) + test(/only_owned_keys_change/)'

demo: deb ## the product on a node of its own
	cargo run --quiet --locked --package mirrorlet --example demo

bench: ## the budgets, as ratios: the ignored tests of the module bench, one at a time
	cargo nextest run --profile bench --cargo-profile release --package mirrorlet --locked --no-tests warn --run-ignored only -E 'test(/^bench::/)'

clean-house: ## removes the cached root file systems and what killed tests left
	rm -rf --one-file-system "$(MIRRORLET_CACHE)"/{bookworm,trixie,sid}.* /var/tmp/mirrorlet-house
