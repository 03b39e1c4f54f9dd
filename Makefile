# Tandem: `make` alone says what there is to make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tandem
VENV := $(CACHE)/venv
PYTHON_LIST := tests/tools/requirements.txt
# Most end-to-end tests wait for speech to be spoken, so more of them run at once than there are cores.
TEST_THREADS ?= 3
FUZZ_SECONDS ?= 60

.PHONY: help build demo test bench bench-media lint clean fuzz deps test-deps python-env

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 12

build: deps ## the gateway, optimised, in target/release/tandem
	$(CARGO) build --locked --release

demo: deps ## builds and runs a whole call: app user, gateway, operator
	$(CARGO) build --locked
	$(CARGO) run --locked --quiet -- demo

test: test-deps ## installs what the tests need, starts the real components, runs every test
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked --no-fail-fast

bench: test-deps ## prints the figures of BENCHMARKS.md as this machine reaches them
	@tools/debian-tree sid $(CACHE)/asterisk-sid asterisk asterisk || true
	$(CARGO) bench --locked

bench-media: test-deps ## the media path beside rtpengine, in one run (BENCH="side-by-side quick" is shorter)
	@tools/ensure-packages rtpengine-daemon=rtpengine
	@tools/debian-tree sid $(CACHE)/rtpengine-sid rtpengine-daemon rtpengine || true
	$(CARGO) bench --locked --bench media -- $(or $(BENCH),side-by-side)

lint: deps ## formatting, clippy, and licences where cargo-deny is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check; else echo "cargo-deny is not installed: licences not checked"; fi

fuzz: deps ## feeds each parser with broken input for FUZZ_SECONDS (60)
	@tools/fuzz $(FUZZ_SECONDS)

clean: ## removes what was built and what the demo left behind
	$(CARGO) clean
	rm -rf demo-output data

deps:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: see the first line of README.md" >&2; exit 2; }
	@tools/ensure-packages cmake=cmake gcc=cc libc6-dev=/usr/include/stdio.h

test-deps: deps
	@tools/ensure-packages $(TEST_PACKAGES)
	@tools/debian-tree testing $(CACHE)/sipp-tls sip-tester sipp || echo "Tests with SIPp over TLS will fail" >&2
	@cmp -s $(PYTHON_LIST) $(VENV)/.ready || $(MAKE) python-env

# The virtual environment stays outside the clone, so that a new clone does not build it again.
python-env:
	@echo "Preparing Python packages for the speech tests"
	@rm -rf $(VENV)
	@mkdir -p $(CACHE)
	@/usr/bin/python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check wheel setuptools
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $(PYTHON_LIST)
	@cp $(PYTHON_LIST) $(VENV)/.ready

# PACKAGE=PROBE, see tools/ensure-packages.
TEST_PACKAGES := \
  sip-tester=sipp \
  tshark=tshark \
  xfsprogs=xfs_io \
  e2fsprogs=mkfs.ext4 \
  baresip-core=baresip \
  linphone-cli=linphonec \
  kamailio=kamailio \
  'kamailio-tls-modules=/usr/lib/*/kamailio/modules/tls.so' \
  'kamailio-secsipid-modules=/usr/lib/*/kamailio/modules/secsipid.so' \
  prometheus=prometheus \
  dnsmasq-base=dnsmasq \
  tshark=tshark \
  sngrep=sngrep \
  curl=curl \
  'postgresql=/usr/lib/postgresql/*/bin/postgres' \
  espeak-ng=espeak-ng \
  sox=sox \
  'libspandsp2=/usr/lib/*/libspandsp.so.2' \
  'libsrtp2-1=/usr/lib/*/libsrtp2.so.1' \
  'python3-venv=/usr/lib/python3*/ensurepip/__init__.py' \
  'python3-dev=/usr/include/python3*/Python.h'
