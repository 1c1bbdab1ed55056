# The four commands are format, check, test, simulate; the same on a laptop and in CI. `make run` needs no other.
SHELL := /bin/bash
.DEFAULT_GOAL := test
.PHONY: deps run test check conformance format simulate torture bench mutants mutants-http audit build compiled pure test-compiled clean

PYTHON := .venv/bin/python
PORT_BASE ?= 2379
SEEDS ?= 200
MINUTES ?= 30
RESULTS := torture-results

# Most of a member's start is compiling what it imports, where a shell forbids to keep the bytecode.
unexport PYTHONDONTWRITEBYTECODE

deps: ## Debian's etcd for the tests, .venv, Python packages. Fast when nothing is missing.
	@tools/deps

run: export PORT_BASE := $(PORT_BASE)
run: deps ## Three members on loopback, data kept under data/. PORT_BASE=3000 moves the ports.
	@exec $(PYTHON) -m kvraft.testing.run

test: deps check ## What must hold after each change; within 15 minutes on 2 cores.
	$(PYTHON) -m pytest -n 2 --dist loadgroup

check: deps ## ruff, mypy, tidy.
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q --durations=0 --durations-min=1 tests/test_tidy.py tests/test_fault_matrix.py \
		tests/test_security_page.py tests/commands/test_manual.py -m "not landing"

conformance: ## What is slow but must hold for every landing: real programs, long stories; within 30 minutes on 2 cores.
	@tools/deps programs
	$(PYTHON) -m pytest -m landing

format: deps ## Write the sources as ruff would.
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

simulate: deps ## Seeds of the simulator: SEEDS=1000.
	$(PYTHON) -m tests.simulation run --seeds $(SEEDS) --master-seed $$RANDOM$$RANDOM

mutants: deps ## Plant each bug of the core; every one must be found.
	$(PYTHON) -m tests.simulation.mutants

mutants-http: deps ## Plant each deviation of the HTTP API; every one must be found.
	$(PYTHON) -m tests.conformance.mutants
	$(PYTHON) -m tests.conformance.mutants.auth
	$(PYTHON) -m tests.conformance.mutants.by_differential

torture: deps ## Longer, with fresh seeds: MINUTES=30. Leaves seeds and histories in torture-results/.
	$(PYTHON) -m tests.torture --minutes $(MINUTES) --results $(RESULTS)

bench: deps ## The same workloads against etcd and kvraft, with the goals beside them.
	$(PYTHON) -m bench

audit: deps ## bandit on kvraft, PyPI's advisories on what it needs; a finding without a dated reason fails.
	$(PYTHON) -m release.audit

build: deps ## The wheels of the commit, pure and compiled, and what they need as a CycloneDX document, in dist/.
	$(PYTHON) -m release.build dist

compiled: deps pure ## Run this checkout compiled from now on: compile the hot files in place (needs gcc). Again after each edit.
	KVRAFT_COMPILED=1 $(PYTHON) setup.py -q build_ext --inplace
	@# What all compiled files share lies beside kvraft/, where .venv/bin/kvraft alone would not look.
	@echo "$(CURDIR)" > "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/kvraft-compiled.pth"

pure: ## Run this checkout as it is written again.
	rm -f kvraft__mypyc*.so .venv/lib/python3*/site-packages/kvraft-compiled.pth
	find kvraft -name '*.so' -delete

test-compiled: compiled ## The tests of `make test` and `make conformance` on the compiled form, which is gone after it.
	@tools/deps programs
	$(PYTHON) -m pytest -m "not torture"; status=$$?; $(MAKE) pure; exit $$status

clean: ## Remove what was built and what tests left; not data/.
	rm -rf build dist .venv .programs kvraft.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
