# Thin: every recipe is one command of the project. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help build demo test soak bench

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

build: ## the release binary, target/release/seedbed
	build/release.sh

demo: ## a live three-node control plane on this machine; ARGS=--once tears it down at the end
	@tests/testbed/prerequisites.sh
	cargo build --locked --bins --example testbed
	$${CARGO_TARGET_DIR:-target}/debug/examples/testbed --name demo demo $(ARGS)

test: ## every check and test, the cheapest first; GROUP="unit rendering" runs only these
	@tests/run.sh $(GROUP)

soak: ## what takes too long for every run: about an hour
	@tests/testbed/prerequisites.sh
	SEEDBED_SOAK=1 tests/run.sh etcd e2e

bench: ## the benchmarks of docs/benchmarks.md; ARGS=latency runs only that one
	@tests/testbed/prerequisites.sh
	cargo build --locked --release --bins --example testbed
	$${CARGO_TARGET_DIR:-target}/release/examples/testbed bench $(ARGS)
