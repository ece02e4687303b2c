# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := build/venv
BIN := $(VENV)/bin
TOOLS := build/tools
export CCINIT_TOOLS ?= $(CURDIR)/$(TOOLS)

.PHONY: help demo test test-native test-boots test-kernel test-long faults bench check check-text check-types check-units image lock clean setup tools

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup tools ## Run everything end to end, attackers included (TEE=tpm|snp-sim|tdx-sim|sample-test; report in build/demo/).
	@$(BIN)/python -m tests.demo --tee $(or $(TEE),tpm)

test: image ## Run every check and test that CI runs.
	@$(MAKE) --no-print-directory --keep-going --jobs=2 $(IN_TEST); code=$$?; $(BIN)/python -m tests.faults && exit $$code

# Two at a time, in an order that keeps two processors busy to the end: most tests of a kind use one,
# a guest under emulation as well. Each line says whose it is; an interrupt is for the tests, which
# end in order, and not for who passes their words on.
IN_TEST := check-units check-types check-text test-boots test-native test-kernel
told_as = 2>&1 | { trap '' INT; sed --unbuffered 's/^/$(1) | /'; }; exit $${PIPESTATUS[0]}

test-native:
	@$(BIN)/pytest tests/integration -m 'not long' $(call told_as,native)

test-boots:
	@$(BIN)/pytest tests/vm --ignore=tests/vm/guest -m 'not long' -o cache_dir=.pytest_cache/boots $(call told_as,boots )

test-kernel:
	@$(BIN)/pytest tests/vm/guest -m 'not long' -o cache_dir=.pytest_cache/kernel $(call told_as,kernel)

test-long: check tools ## Run what takes longer; resumable.
	@$(BIN)/pytest tests -m long --resume build/long/passed

faults: setup ## Say which fault rows the tests have shown on this very tree (report in build/faults/).
	@$(BIN)/python -m tests.faults

bench: setup tools ## Compare with other tools as ratios in one run (report in build/bench/).
	@$(BIN)/python -m tests.bench

check: setup ## Lint, types, layer contracts, unit tests.
	@$(MAKE) --no-print-directory --jobs=2 check-text check-types check-units

check-text:
	@echo "check: ruff"; $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@echo "check: layers"; $(BIN)/lint-imports --no-logo 2>/dev/null | tail -n 4; test $${PIPESTATUS[0]} -eq 0
	@echo "check: spelling"; $(BIN)/codespell

check-types:
	@echo "check: mypy"; $(BIN)/mypy

check-units:
	@$(BIN)/pytest -q -m 'not long' tests/architecture tests/unit tests/fuzz -o cache_dir=.pytest_cache/units $(call told_as,units )

image: setup tools ## Build the guest image, both profiles, into build/image/ (RELEASE=1: locked versions only).
	@$(BIN)/rootfs-builder image $(if $(RELEASE),--release)

lock: setup tools ## Renew every lock file and say what changed.
	@for name in host dev; do \
	  echo "lock: requirements/$$name.txt"; cp requirements/$$name.txt build/$$name.before; \
	  $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-annotate --universal \
	    --python-version 3.11 --custom-compile-command "make lock" \
	    requirements/$$name.in -o requirements/$$name.txt || exit 1; \
	  diff <(grep == build/$$name.before) <(grep == requirements/$$name.txt) | grep '^[<>]' || true; \
	done
	@$(BIN)/rootfs-builder lock
	@$(BIN)/rootfs-builder lock --project docs/examples/wireguard-guest

clean: ## Remove everything that was built.
	rm -rf --one-file-system build

setup: $(VENV)/.stamp

tools: setup
	@$(BIN)/rootfs-builder tools

SET_UP_BY := requirements/dev.txt pyproject.toml $(wildcard */pyproject.toml)

# Of two makes at once, the second waits, and then finds the work done.
$(VENV)/.stamp: $(SET_UP_BY)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("setup: expected Python 3.11 or later, found " + sys.version.split()[0] + ": name another, as make PYTHON=python3.12")'
	@mkdir -p $(dir $(VENV)); flock --nonblock $(VENV).lock true || echo "setup: waiting for another make"; \
	  flock $(VENV).lock $(MAKE) --no-print-directory $(VENV)/.packages  # one line: `make -n` runs it, too
	@touch $@

$(VENV)/.packages: $(SET_UP_BY)
	@echo "setup: Python packages from requirements/dev.txt (hash-checked) into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt 2>&1 | { grep -v '^WARNING: Location' || true; }; test $${PIPESTATUS[0]} -eq 0
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --no-index -e . -e measured-boot -e rootfs-builder -e host-runtime -e guest-owner
	@touch $@
