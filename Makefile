# Cuckoo: every task a contributor or CI runs. `make` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
FUZZ_SECONDS ?= 60
CHAIN ?= dev
TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cuckoo/venv-test

.PHONY: help setup demo test bench bench-dispatch bench-infer chaos fuzz fuzz-api lint contracts mutations slither parity score screenshot openapi check-gpu

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: ## install what building and testing need and this machine lacks
	@.ci/setup

demo: ## a whole market in one process, then target/demo/report.html (CHAIN=anvil: over JSON-RPC)
	@if [ "$(CHAIN)" = anvil ]; then .ci/setup chain; fi
	@cargo run --release --quiet -p cuckoo-examples --bin demo -- --chain $(CHAIN)

test: setup ## every suite: Rust, doc tests, contracts, the HTTP interface, dashboard and report in Chromium, Python
	@.ci/test

bench: ## scheduler and inference benchmarks; results go to docs/benchmarks.md by hand
	cargo bench -p cuckoo-core
	cargo run --release --quiet -p cuckoo-core --example fairness

bench-dispatch: ## tasks a second beside BullMQ, Celery and NATS JetStream (installs Redis and NATS; ten minutes)
	@.ci/setup bench
	@cargo build --release --quiet -p cuckoo-examples --bin bench-dispatch
	@ulimit -n "$$(ulimit -Hn)"; "$(TARGET)/release/bench-dispatch" --scratch "$(TARGET)/bench-dispatch"

bench-infer: ## models' speed beside PyTorch's on the same weights (installs torch, 4 GB; writes 10 GB; half an hour)
	@.ci/setup infer
	@cargo build --release --quiet -p cuckoo-examples --bin bench-infer
	@"$(TARGET)/release/bench-infer" --scratch "$(TARGET)/bench-infer"

chaos: ## kills processes 200 times each, fills disks, stops chains, sets clocks: what is lost or paid twice? (15 minutes at most)
	@.ci/setup chain
	@.ci/chaos

fuzz: ## arbitrary bytes into everything that reads them, each target for a minute (FUZZ_SECONDS=60)
	@.ci/fuzz $(FUZZ_SECONDS)

fuzz-api: ## a running coordinator against its OpenAPI file (installs Schemathesis outside the repository)
	@.ci/fuzz-api

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings

contracts: ## forge tests of the contracts alone, their format and lints, and committed artifacts checked for drift
	@.ci/setup chain
	npm run --silent contracts:check
	npm run --silent contracts:lint
	npm run --silent contracts:mutate -- --check
	npm run --silent contracts:test

mutations: ## would the tests notice? seeds bugs into the contracts, one by one, and writes the table (an hour)
	@.ci/setup chain
	npm run --silent contracts:mutate

slither: ## static analysis of the contracts (installs Slither, 120 MB, outside the repository)
	@.ci/setup chain
	@.ci/slither

parity: ## compare with diffusers and transformers (installs torch, 4 GB) and rewrite the golden files
	cuckoo-miner/parity/run.sh

check-gpu: ## compile the kernels for GPUs (installs NVRTC, 220 MB); on a machine with a GPU, compare and time them
	@.ci/check-gpu

score: ## draw the full grid of prompts with the Rust executor and score colour and shape
	cargo run --release --quiet -p cuckoo-examples --bin render-grid -- --out target/grid
	@.ci/setup python
	"$(VENV)/bin/python" examples/models/shapes_training/score.py target/grid

screenshot: ## the documents' pictures, from the last demo's report and a running dashboard, in headless Chromium
	@.ci/setup chain browser
	node examples/demo/screenshot.mjs target/demo/report.html docs/images/report.png
	cargo build --release --quiet -p cuckoo-examples --bin dashboard-host
	node examples/dashboard/screenshot.mjs docs/images/dashboard.png

openapi: ## rewrite the committed OpenAPI file from the code
	cargo run --release --quiet -p cuckoo-coordinator -- openapi > cuckoo-coordinator/openapi.json
