PYTHON ?= python3
BIN := .venv/bin
SEEDS ?= 20000
READY := .venv/.ready

.PHONY: setup demo test check proto bench bench-peers soak leaks simulate chaos chaos-loss

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lambent needs Python 3.11 or newer, $(PYTHON) is %d.%d: make setup PYTHON=python3.12" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# A fleet on this machine, a real function, 2,000 calls, a table.
demo: setup
	@$(BIN)/python -m loadtest.demo

test: setup
	$(BIN)/python -m pytest

# Everything that takes no processes and no minutes.
check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m 'not integration and not e2e and not simulation and not escape and not chaos and not conformance'

# Generated code is committed; this renews it.
proto: setup
	$(BIN)/python proto/generate.py

# All that is promised, measured, into docs/benchmarks.md; or some of it, small, with options, and not into it:
# make bench ONLY='warm cold' QUICK=1, make bench ONLY=placement SET='rounds=5 nodes=10,1000'
bench: setup
	$(BIN)/python -m loadtest.bench $(ONLY) $(if $(QUICK),--quick) $(foreach it,$(SET),--set $(it)) $(if $(ONLY)$(QUICK),,--page)

# Lambent beside others of the package registries: make bench-peers PEERS='celery-redis workerd' ROUNDS=1
bench-peers: setup
	$(BIN)/python -m loadtest.peers $(PEERS) $(if $(ROUNDS),--rounds $(ROUNDS))

# A fleet at 70 % of its knee for an hour: does anything grow? Into docs/benchmarks.md: make soak MINUTES=5
soak: setup
	$(BIN)/python -m loadtest.bench soak --page --strict $(if $(MINUTES),--set minutes=$(MINUTES))

# Ten thousand instances that come and go, and nothing left of them; as root.
leaks: setup
	$(BIN)/python -m loadtest.leaks

# The three cores in a hostile network: make simulate SEEDS=100000
simulate: setup
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

# A whole fleet on hosts of its own, hurt for ten minutes; then every pair of hosts and every majority is parted; then events
# while all that handles them is killed; as root: make chaos MINUTES=1 SEED=7 EVENTS=500. PAGE=1 writes docs/reliability.md.
chaos: setup
	$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(EVENTS),--events $(EVENTS)) $(if $(PAGE),--page)

# The second half of it alone.
chaos-loss: setup
	$(BIN)/python -m tests.chaos --minutes 0 --no-partitions $(if $(EVENTS),--events $(EVENTS)) $(if $(NATS),--nats)
