# Two commands do all the set-up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What this machine needs of Dagster lies in one folder, out of the way of everything else.
export DAGSTER_HOME ?= $(CURDIR)/dagster_home
export DAGSTER_DISABLE_TELEMETRY := 1
STORE := $(or $(TRANSCRIPTION_STORE),store)

.PHONY: install models fmt check test demo dev page graph bench validate clean

install: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	$(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

models: install
	$(BIN)/transcription-assets models pull

fmt: install
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) validate

validate: install
	$(BIN)/python -W ignore -m dagster definitions validate --workspace workspace.yaml

test: models
	$(BIN)/pytest -n 2 --dist loadfile

demo: models
	$(BIN)/transcription-assets put --into demo demo/recordings
	$(BIN)/transcription-assets process
	$(BIN)/transcription-assets search --limit 2 "what the wizard hid behind the curtain"
	$(BIN)/transcription-assets search --limit 1 "insects that stopped the traffic"

# Both in one terminal: Ctrl-C or SIGTERM ends both, because make passes it on to each.
dev: models
	@echo "Dagster on http://localhost:3000 - put recordings into $(STORE)/video or $(STORE)/audio"
	@$(MAKE) --no-print-directory --jobs=2 page graph

page: install
	@$(BIN)/transcription-assets serve

graph: install
	@$(BIN)/python -W ignore -m transcription_assets.defs.dev

# A few hours on two cores; docs/ holds the last results. A missed bar does not hide the others.
bench: models
	@missed=; for figure in load pipeline memory speech search retrieval sensor partitions ranges library; do \
	  echo; echo "== $$figure"; $(BIN)/python -W ignore -m benchmarks.$$figure || missed="$$missed $$figure"; \
	done; test -z "$$missed" || { echo "missed:$$missed"; exit 1; }

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
