# What a fresh Debian 12 machine with root and Rust can do here:
#
#   make demo    the main job, shown: a guest behind NAT, logged in to both ways (KEEP=1 stays)
#   make test    every test, against real peers
#   make bench   the bridge beside socat, the tunnel beside ssh -R, autossh and rathole, to docs/bench
#                (5 rounds, most of an hour; QUICK=1 for a look, PARTS="bridge", "tunnel" or "guest")
#   make bench-recovery
#                seconds to recovery beside autossh and ssh -R, to docs/bench/recovery.md
#                (5 rounds, half an hour; ROUNDS=1 for a look, FAULTS="restart ghost" for some)
#   make bench-networks
#                slow, lossy and far networks beside ssh -R, to docs/bench/networks.md
#                (three quarters of an hour; QUICK=1 for a look)
#   make fuzz    a minute for each parser of what others wrote: executions and findings
#                (SECONDS_EACH=600 for longer)
#   make check   what must be clean before a commit
#   make deb     the Debian packages, in target/debian
#   make image   a bootable Debian 13 disk with the package baked in, in target/image
#
# Each installs what it needs, and asks nothing of the network when it is there.
# Long steps say how far they are in one line (tests/step); the output of the
# compiler is in target/steps.

.DELETE_ON_ERROR:
SHELL := /bin/bash

# Programs are run from there, whatever the environment says.
export CARGO_TARGET_DIR := $(CURDIR)/target
unexport CARGO_BUILD_TARGET

# All packages but the fuzz targets, which have no tests, and a library in C++. Cargo chooses the
# features of a library for all packages that are built together, so every build of the development
# profile names these: otherwise one library would be compiled several times. (agent/debian/build too.)
TESTED := --workspace --exclude vmagent-fuzz

step := tests/step

.PHONY: demo test ready programs base device bench bench-recovery bench-networks fuzz check lint setup deb image

demo: ready
	@target/debug/demo

# Most tests wait most of the time; those that don't take turns (tests/harness/turn.rs).
test: ready
	@$(step) --show test "running all tests" \
		cargo test --locked $(TESTED) --no-fail-fast -- --test-threads=$${TEST_THREADS:-4}

# All that the demo and the tests run. The programs are built beside the package, which takes longest
# and leaves a processor idle in its last step.
ready: setup
	@$(MAKE) --no-print-directory -j4 image base programs device

# Every program and test in one build, and whether the demo could run on this machine.
programs: setup
	@nice $(step) programs "building the demo and the tests" cargo test --locked $(TESTED) --no-run
	@target/debug/demo --check

base: setup
	@nice $(step) base "fetching the image's Debian packages" images/build --base

device: setup
	@nice $(step) device "building the guests' vsock device" tests/setup --device

# What they compare with is for them alone, so the tests' setup does not install it.
bench: image device
	@$(step) bench-setup "installing the peers of the bench" tests/bench/setup rathole autossh socat
	@$(step) bench-programs "building the bench" cargo build --release --locked -p vmagent-tests \
		--bin bench --bin bench-load --bin vsock-connect
	@target/release/bench

bench-recovery: deb programs
	@$(step) bench-setup "installing the peers of the bench" tests/bench/setup autossh nftables
	@target/debug/bench-recovery

bench-networks: deb
	@cargo run --quiet --locked -p vmagent-tests --bin bench-networks

fuzz:
	@tests/fuzz/run

check: lint
	@$(step) check-setup "installing what the checks need" tests/setup --only gcc g++ libc6-dev make
	cargo fmt --all --check
	@$(step) clippy "linting (clippy)" \
		cargo clippy --locked --workspace --all-targets --features vmagent/https -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(step) docs "building the documentation" \
		cargo doc --locked --no-deps --document-private-items --workspace --features vmagent/https

# What is not Rust; cargo-deny and systemd-analyze where they are installed.
lint:
	@$(step) lint-setup "installing what the checks need" tests/setup --only shellcheck
	shellcheck $$(for file in $$(git ls-files --cached --others --exclude-standard); do \
		head -n1 "$$file" 2>/dev/null | grep -qE '^#!(/bin/|/usr/bin/env )(ba)?sh' && echo "$$file"; done)
	tests/links $$(git ls-files --cached --others --exclude-standard '*.md')
	@if command -v systemd-analyze >/dev/null && [ -d /run/systemd/system ]; then \
		systemd-analyze verify --man=no systemd/*.socket systemd/*.service; \
	else echo "no systemd here: the units are verified by make test"; fi
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check bans licenses sources; \
	else echo "no cargo-deny: licences were not checked (cargo install --locked cargo-deny)"; fi

setup:
	@$(step) setup "installing what the tests need" tests/setup

deb: setup
	@$(step) package "building the package" agent/debian/build

# The package that was just built; the directory may have older ones.
package = target/debian/vmagent_$(shell dpkg-parsechangelog -l agent/debian/changelog -S Version)_$(shell dpkg --print-architecture).deb

image: deb
	@$(step) image "building the image" images/build $(package)
