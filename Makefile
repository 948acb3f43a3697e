# `make help` lists the targets. Everything runs as root on Debian with Rust (rustup) installed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := $(abspath $(TARGET))/tools
PREFIX ?= /usr/local
DESTDIR ?=
# The BPF toolchain (rebuilding the committed object); 760 MB.
export CAUSEWAY_BPF_TOOLS ?= $(TOOLS)/ebpf
export PATH := $(TOOLS)/bin:$(PATH)

BINARIES := causeway causewayd causeway-engine causeway-shim

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install the Debian packages (and a docker CLI where none is) that building and testing need
	@scripts/install-deps $(TOOLS)

.PHONY: build
build: deps ## Build the four binaries, optimised, into cargo's target directory
	cargo build --locked --release -p engine-cli -p libnetwork-daemon -p engine-daemon -p engine-shim

.PHONY: demo
demo: build ## Show a published port, names and topology with real packets, in namespaces of its own
	@scripts/demo $(TARGET)/release

.PHONY: test
test: deps check ebpf-check ## Run every check and every test
	cargo build --locked --workspace --all-targets
	cargo test --locked --workspace --no-fail-fast

.PHONY: check
check: deps $(TOOLS)/bin/cargo-deny ## Formatting, clippy, licences, duplicate versions, import rules
	cargo fmt --all --check
	cargo xtask check-arch
	cargo xtask check-sizes
	cargo deny --log-level error check --hide-inclusion-graph licenses bans
	cargo clippy --locked --workspace --all-targets -- -D warnings

$(TOOLS)/bin/cargo-deny:
	@mkdir -p $(TOOLS)/bin
	@if command -v cargo-deny >/dev/null; then ln -sf "$$(command -v cargo-deny)" $@; \
	else cargo install --locked --debug --version 0.20.2 --root $(TOOLS) --target-dir $(TARGET)/cargo-deny cargo-deny; fi

.PHONY: ebpf-check
ebpf-check: deps ## Rebuild the BPF object from source and compare it with the committed one
	ebpf/setup-toolchain
	ebpf/check-object

.PHONY: fuzz
fuzz: deps ## Look for bytes that do harm to the embedded DNS, led by coverage; SECONDS=60
	scripts/fuzz $(or $(SECONDS),60)

.PHONY: bench
bench: build ## Measure; PEER=unix:///… measures another engine beside it and prints ratios
	@command -v dnsperf >/dev/null || { apt-get update -qq; apt-get install -yqq --no-install-recommends dnsperf; }
	cargo build --locked --release -p integration-bench
	$(TARGET)/release/causeway-bench $(if $(PEER),--peer $(PEER)) $(BENCH_ARGS)

.PHONY: install
install: build ## Install binaries, systemd units, man pages and completions (PREFIX, DESTDIR)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 0755 $(addprefix $(TARGET)/release/,$(BINARIES)) $(DESTDIR)$(PREFIX)/bin/
	for unit in packaging/systemd/*; do sed 's|@bindir@|$(PREFIX)/bin|g' $$unit > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$(basename $$unit); done
	$(TARGET)/release/causeway man $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(TARGET)/release/causeway completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/causeway
	$(TARGET)/release/causeway completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_causeway
	$(TARGET)/release/causeway completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/causeway.fish
