# Every target works in a fresh clone: it makes .venv first where there is none, and is quick the second time.
#
#   make demo       a whole run on generated speech, offline; says where the report is
#   make test       the fast suite and the linters
#   make test-all   the slow tests and those on real recordings too; test-pipecat: those of the extra pipecat alone
#   make lint       style, types and spelling alone
#   make docs       the generated tables of docs/ and the cards of bundled models, written anew
#
# Variables: PYTHON (3.11 or newer), VENV, TORCH_INDEX (a package index with CPU builds of torch, see README).

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := runs/demo
# One process more than there are cores, as some tests wait for a service or a process of their own.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(4, (os.cpu_count() or 1) + 1))")
PYTEST ?= $(BIN)/python -m pytest --quiet --numprocesses $(WORKERS) --dist worksteal

.PHONY: demo test test-all test-pipecat lint docs install dev everything clean help

help:
	@sed -n '3,9s/^# \{0,1\}//p' Makefile

demo: install
	$(BIN)/serkit predict example --timeline --transcript example
	@if [ $(DEMO)/recipe.yaml -ot src/serkit/recipes/toy.yaml ]; then rm -rf $(DEMO); fi
	$(BIN)/serkit run toy --corpus toy --out $(DEMO) --store .demo/store
	@echo "Open $(CURDIR)/$(DEMO)/report/report.html in a browser."

test: dev
	$(PYTEST)
	$(MAKE) --no-print-directory lint

# The slow tests in one process: of clusters, of memory and of time, which other tests would disturb.
test-all: everything
	@status=0; set -x; \
	$(PYTEST) --durations=10 || status=$$?; \
	$(BIN)/python -m pytest --quiet -m slow --durations=10 || status=$$?; \
	$(MAKE) --no-print-directory test-pipecat || status=$$?; \
	exit $$status
	$(MAKE) --no-print-directory lint

# Pipecat asks for an older protobuf than sentencepiece does, so it has an environment of its own.
test-pipecat: $(VENV)-pipecat/.ready
	@if [ -e $(VENV)-pipecat/.absent ]; then echo "extra 'pipecat' cannot be installed here; its tests are skipped"; \
	else $(VENV)-pipecat/bin/python -m pytest --quiet -m 'slow or not slow' tests/serving/test_pipecat.py; fi

lint: dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/mypy

# Writes the generated tables of docs/ anew, and the notes of bundled models into their cards.
docs: dev
	$(BIN)/python tests/doc_tables.py
	$(BIN)/python tests/bundle_notes.py

install: $(VENV)/.base
dev: $(VENV)/.dev
everything: $(VENV)/.everything

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "serkit needs Python 3.11 or newer with the venv module" \
		"(Debian and Ubuntu: apt install python3-venv), or say which: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone, so that nothing else decides which build of it comes.
$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@$(PIP) --editable .
	@touch $@

# transformers is light and most tests of encoders need it.
$(VENV)/.dev: $(VENV)/.base
	@$(PIP) --editable '.[dev,foundation]'
	@touch $@

# Extras that not every machine can have: without them their tests skip and say so.
$(VENV)/.everything: $(VENV)/.dev
	@for extra in opensmile audformat ray finetune; do $(PIP) --editable ".[$$extra]" \
		|| echo "extra '$$extra' cannot be installed here; its tests will skip"; done
	@$(PIP) --no-deps 'pipecat-ai>=1.0,<2' \
		|| echo "the weights of smart_turn cannot be installed here; their tests will skip"
	@touch $@

$(VENV)-pipecat/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(VENV)-pipecat
	@$(VENV)-pipecat/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@$(VENV)-pipecat/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[dev,pipecat]' && rm -f $(VENV)-pipecat/.absent || touch $(VENV)-pipecat/.absent
	@touch $@

clean:
	rm -rf $(DEMO) .demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
