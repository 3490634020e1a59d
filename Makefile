# What a fresh Debian 12 machine with root and Rust can do here:
#
#   make demo    the main job, shown: a guest behind NAT, logged in to both ways (KEEP=1 stays)
#   make test    every test, against real peers
#   make bench   the bridge beside socat, the tunnel beside ssh -R, autossh and rathole, to docs/bench
#                (5 rounds, most of an hour; QUICK=1 for a look, PARTS="bridge", "tunnel" or "guest")
#   make bench-recovery
#                seconds to recovery beside autossh and ssh -R, to docs/bench/recovery.md
#                (5 rounds, half an hour; ROUNDS=1 for a look, FAULTS="restart ghost" for some)
#   make fuzz    a minute for each parser of what others wrote: executions and findings
#                (SECONDS_EACH=600 for longer)
#   make check   what must be clean before a commit
#   make deb     the Debian packages, in target/debian
#   make image   a bootable Debian 13 disk with the package baked in, in target/image
#
# Each installs what it needs, and asks nothing of the network when it is there.

.DELETE_ON_ERROR:
SHELL := /bin/bash

# The fuzz targets have no tests, and a library in C++.
TESTED := --workspace --exclude vmagent-fuzz

.PHONY: demo test base built device bench bench-recovery fuzz check deb image setup lint

demo: image device
	@cargo run --quiet --locked -p vmagent-tests --bin demo

# Most tests wait most of the time; those that don't take turns (tests/harness/turn.rs).
test: setup
	@$(MAKE) --no-print-directory -j4 image base built device
	cargo test --locked $(TESTED) -- --test-threads=$${TEST_THREADS:-4}

# Beside the package, which takes longest and leaves a processor idle in its last step.
built: setup
	@nice cargo test --quiet --locked $(TESTED) --no-run

base: setup
	@nice images/build --base

device: setup
	@nice tests/setup --device

# What they compare with is for them alone, so the tests' setup does not install it.
bench: image device
	@tests/bench/setup rathole autossh socat
	@cargo build --quiet --release --locked -p vmagent-tests --bin bench --bin bench-load --bin vsock-connect
	@target/release/bench

bench-recovery: deb
	@tests/bench/setup autossh nftables
	@cargo run --quiet --locked -p vmagent-tests --bin bench-recovery

fuzz:
	@tests/fuzz/run

check: lint
	@command -v c++ >/dev/null || apt-get -qq install -y g++
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features vmagent/https -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --no-deps --document-private-items --workspace --features vmagent/https

# What is not Rust; cargo-deny and systemd-analyze where they are installed.
lint:
	@command -v shellcheck >/dev/null || apt-get -qq install -y shellcheck
	shellcheck $$(for file in $$(git ls-files); do \
		head -n1 "$$file" | grep -qE '^#!(/bin/|/usr/bin/env )(ba)?sh' && echo "$$file"; done)
	@if command -v systemd-analyze >/dev/null && [ -d /run/systemd/system ]; then \
		systemd-analyze verify --man=no systemd/*.socket systemd/*.service; \
	else echo "no systemd here: the units are verified by make test"; fi
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check bans licenses sources; \
	else echo "no cargo-deny: licences were not checked (cargo install --locked cargo-deny)"; fi

setup:
	@tests/setup

deb: setup
	@agent/debian/build

image: deb
	@images/build target/debian/vmagent_*_*.deb
