# Every task has a command here; what a command does in detail lies in a script beside what it serves.
# Cargo is always told `--workspace`, or nothing, so that it compiles what the crates share only once.

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin
RUST_TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
LAB = cargo run -q --bin lab --
# What benchmarks run beside themselves lies beside them.
BENCH = cargo build -q --release --bin bench --bin lb-agent && cargo run -q --release --bin bench --
TOOLS = cargo run -q --bin tools --
CHART = charts/portable-lb
CRD = portablelb.io_portableloadbalancers.yaml

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p; s/^## \(.*\)/\n\1/p' Makefile | awk -F'|' 'NF < 2 { print; next } { printf "  make %-14s %s\n", $$1, $$2 }'

## All at once

.PHONY: demo
demo: lab-up ## a real cluster, the chart, a balancer and traffic through it, from nothing
	$(LAB) demo

.PHONY: test
test: deps ## all tests, in a cluster too
	e2e/test.sh

.PHONY: check
check: fmt clippy verify chart ## format, lints, generated files, chart; needs no root

## The lab: a three-node Kubernetes on this machine, as root

.PHONY: lab-up
lab-up: deps images tools ## start or mend it, with the images as they are now; NODES=3 BACKEND=vxlan
	$(LAB) up $(if $(NODES),--nodes $(NODES)) $(if $(BACKEND),--flannel $(BACKEND))
	$(LAB) load

.PHONY: lab-down
lab-down: ## stop it, and leave nothing behind
	$(LAB) down

.PHONY: lab-status
lab-status: ## what runs, and where its logs are
	$(LAB) status

.PHONY: lab-shell
lab-shell: ## a shell with kubectl and helm for it
	@$(LAB) shell

.PHONY: lab-flannel
lab-flannel: ## change its network: BACKEND=host-gw, vxlan or udp
	$(LAB) flannel $(or $(BACKEND),$(error say BACKEND=host-gw, vxlan or udp))

## Parts of the tests

.PHONY: fmt
fmt: ## is all code formatted?
	cargo fmt --all --check

.PHONY: clippy
clippy: ## lints
	cargo clippy -q --workspace --all-targets -- -D warnings

.PHONY: verify
verify: ## are the generated files those that the code gives?
	cargo run -q --bin crdgen | diff -u $(CHART)/files/crds/$(CRD) -

.PHONY: chart
chart: ## lint the chart with Helm 4 and Helm 3
	for helm in helm helm3; do for values in $(CHART)/ci/*.yaml; do \
		$(TOOLS) run $$helm lint --strict --quiet $(CHART) --values $$values || exit; done; done

.PHONY: deny
deny: ## licences and advisories of dependencies; needs cargo-deny
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check

.PHONY: test-unit
test-unit: ## tests that need no cluster; kernel tests boot their own
	cargo test -q --workspace --exclude lb-agent-fuzz --lib --bins
	e2e/test-targets.sh

.PHONY: test-fuzz
test-fuzz: ## a short search for inputs that break what reads untrusted bytes
	lb-agent/fuzz/run.sh 15

.PHONY: fuzz
fuzz: ## a long one: SECONDS=600 for each reader
	lb-agent/fuzz/run.sh $(or $(SECONDS),600)

.PHONY: test-api
test-api: ## tests against an API server without nodes
	cargo test -q --workspace --test 'api_*'

.PHONY: test-cluster
test-cluster: ## tests in the running lab
	cargo test --workspace --test 'cluster_*' -- --test-threads=1

## Benchmarks

.PHONY: bench-deps
bench-deps: ## the rivals, as Debian packages; where systemd runs, some of them start
	@e2e/deps.sh e2e/packages e2e/bench/packages

.PHONY: bench
bench: bench-deps lab-up ## ours beside each rival; writes docs/benchmarks
	$(BENCH) run

.PHONY: bench-long
bench-long: bench-deps lab-up ## disruption anew, each event 20 times if MINUTES=90 allow it
	$(BENCH) run --long $(or $(MINUTES),90) disruption

.PHONY: bench-quick
bench-quick: bench-deps lab-up ## a small run; writes target/bench
	$(BENCH) --folder target/bench run --quick

## What the others are made of

.PHONY: deps
deps: ## Debian packages that are missing
	@e2e/deps.sh e2e/packages

.PHONY: tools
tools: ## Kubernetes, Helm and the lab's other programs, built once into a cache
	$(TOOLS) ensure

.PHONY: images
images: ## target/images/{agent,operator,lab-pod}.tar
	RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" cargo build -q --release --target $(RUST_TARGET) -p operator -p lb-agent -p e2e \
		--bin portable-lb-operator --bin lb-agent --bin lab-pod
	lb-agent/image.sh target/$(RUST_TARGET)/release/lb-agent
	operator/image.sh target/$(RUST_TARGET)/release/portable-lb-operator
	e2e/image.sh target/$(RUST_TARGET)/release/lab-pod

.PHONY: crds
crds: ## write the generated files again
	cargo run -q --bin crdgen -- $(CHART)/files/crds
