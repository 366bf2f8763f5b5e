# Two commands do all the set-up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What this machine needs of Dagster lies in one folder, out of the way of everything else.
export DAGSTER_HOME ?= $(CURDIR)/dagster_home
export DAGSTER_DISABLE_TELEMETRY := 1
# Many images of Python set it, and each of the processes that we start would compile our package again.
unexport PYTHONDONTWRITEBYTECODE
STORE := $(or $(TRANSCRIPTION_STORE),store)

# Where `make dev` serves the search page and Dagster.
PAGE_PORT ?= 8000
GRAPH_PORT ?= 3000

.PHONY: install install-dev hooks tools lock upgrade sbom audit models fmt check test demo dev page graph bench validate \
    clean

# `install` brings what the product needs, `install-dev` what its tests and checks need as well. Both take the versions and
# hashes in requirements/ (tools/install.py).
install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

LOCKS := $(wildcard requirements/*.txt) setup.cfg pyproject.toml tools/install.py

$(VENV)/.installed: $(LOCKS)
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python tools/install.py local --editable
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what tests need into $(VENV) ..."
	@$(BIN)/python tools/install.py dev
	@touch $@

# Git checks the subjects of new commits in this clone (tools/subjects.py).
hooks:
	git config core.hooksPath .githooks

# Write requirements/ anew from setup.cfg and constraints.txt: `lock` keeps every version that still fits.
lock upgrade: $(VENV)/.tools
	PATH="$(CURDIR)/$(VENV)/tools/bin:$$PATH" $(VENV)/tools/bin/python tools/lock.py $(if $(filter upgrade,$@),--upgrade)

tools: $(VENV)/.tools

$(VENV)/.tools: requirements/tools.txt
	$(PYTHON) -m venv $(VENV)/tools
	@$(VENV)/tools/bin/python tools/install.py tools
	@touch $@

# The bill of materials of what is installed (CycloneDX), and the known vulnerabilities of everything locked.
sbom: install $(VENV)/.tools
	@mkdir -p build
	$(VENV)/tools/bin/cyclonedx-py environment --output-file build/sbom.json $(BIN)/python

audit: $(VENV)/.tools
	$(VENV)/tools/bin/python tools/audit.py

models: install
	$(BIN)/transcription-assets models pull

fmt: install-dev
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

check: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/subjects.py
	$(MAKE) validate

validate: install
	$(BIN)/python -W ignore -m dagster definitions validate --workspace workspace.yaml

# A third process on two cores: the slowest tests wait for daemons and pods most of the time.
TESTERS ?= 3
test: install-dev models
	$(BIN)/pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

demo: models
	$(BIN)/transcription-assets put --into demo demo/recordings
	$(BIN)/transcription-assets process
	$(BIN)/transcription-assets search --limit 2 "what the wizard hid behind the curtain"
	$(BIN)/transcription-assets search --limit 1 "insects that stopped the traffic"

# Both in one terminal: Ctrl-C or SIGTERM ends both, because make passes it on to each.
dev: models
	@echo "Dagster on http://localhost:$(GRAPH_PORT) - put recordings into $(STORE)/video or $(STORE)/audio"
	@$(MAKE) --no-print-directory --jobs=2 page graph

page: install
	@$(BIN)/transcription-assets serve --port $(PAGE_PORT)

graph: install
	@$(BIN)/python -W ignore -m transcription_assets.defs.dev --port $(GRAPH_PORT)

# A few hours on two cores; docs/ holds the last results. A missed bar does not hide the others.
bench: install-dev models
	@missed=; for figure in load pipeline memory speech search neighbours word_forms retrieval sensor partitions ranges \
	    library serving asr feeds uploads events fuzz kills; do \
	  echo; echo "== $$figure"; $(BIN)/python -W ignore -m benchmarks.$$figure || missed="$$missed $$figure"; \
	done; test -z "$$missed" || { echo "missed:$$missed"; exit 1; }

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
