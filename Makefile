# What one does with Bulkhead, one word each; `make` alone lists them.
# Every target installs the Debian packages it needs where it is root, and names them where it is not.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build run test bench bench-block bench-cpu soak fuzz lint install clean

PREFIX ?= /usr/local
DESTDIR ?=
KILLS ?= 1000
export SECONDS_EACH ?= 30

help: ## this list
	@awk -F ' ?## ' '/^[a-z-]+:.*##/ { sub(/:.*/, "", $$1); printf "  make %-11s %s\n", $$1, $$2 }' Makefile

build: ## the command and its helpers, static and stripped, in target/dist/bin
	@packaging/install-deps.sh build
	@packaging/build.sh

run: build ## boot Debian's kernel: a shell in it on a terminal, else a scripted session with kills
	@packaging/install-deps.sh guest
	@packaging/fetch-kernel.sh
	@packaging/demo/run.sh

test: build ## all tests, the lab's included; ends with "N passed, N failed"
	@packaging/install-deps.sh guest lab test
	@packaging/fetch-kernel.sh
	@packaging/userland/mk-image.sh
	@.ci/test

bench: build ## figures beside the peers' (tests/bench); takes minutes, wants a quiet machine
	@packaging/install-deps.sh guest lab test
	@packaging/fetch-kernel.sh
	@tests/bench/run.sh

bench-block: build ## images, NBD, conversion, snapshots beside QEMU, nbdkit, fio; minutes, on a quiet machine
	@packaging/install-deps.sh test
	@tests/bench/run-block.sh

bench-cpu: build ## the software CPU beside QEMU's TCG; minutes, on a quiet machine
	@packaging/install-deps.sh guest lab
	@packaging/fetch-kernel.sh
	@tests/bench/run-cpu.sh

soak: build ## the crash tests with KILLS=1000 kills of each kind
	@packaging/install-deps.sh guest lab test
	@BULKHEAD_KILLS=$(KILLS) cargo nextest run --locked --profile soak -p bulkhead-crash --no-capture

fuzz: ## coverage-guided inputs against every decoder, SECONDS_EACH=30 for each of them
	@packaging/install-deps.sh build fuzz
	@tests/fuzz/run.sh

lint: ## format, clippy, documentation, dependencies, shell scripts
	@packaging/install-deps.sh build lint
	@.ci/lint

install: build ## bulkhead and bulkhead-img in PREFIX/bin, its helpers in PREFIX/libexec/bulkhead (PREFIX=/usr/local)
	@install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/bulkhead
	@install -m 755 target/dist/bin/bulkhead target/dist/bin/bulkhead-img $(DESTDIR)$(PREFIX)/bin/
	@install -m 755 target/dist/bin/bulkhead-* $(DESTDIR)$(PREFIX)/libexec/bulkhead/

clean: ## what was built and fetched
	@cargo clean --quiet
	@rm -rf target
