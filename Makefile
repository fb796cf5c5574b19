# Every target sets up what it needs in .venv; all it takes is make and a Python 3.10 to 3.13 with its venv module.
# `make PYTHON=/path/to/python` names the interpreter; `make test ARGS="-k name"` hands ARGS on to demo, test, bench and soak.

.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help
.PHONY: help demo test install check bench soak clean

# Plain python3 comes first: it is the one that people and machines prepare (a CPU wheel of torch may lie ready for it).
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10
IN_RANGE := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	"$$python" -c '$(IN_RANGE)' 2>/dev/null && { command -v "$$python"; break; }; done)

INSTALL = .venv/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed  ## train the built-in quick start under the terminal UI
	@.venv/bin/plt-tui run $(ARGS)

# Hundreds of processes that tests start find the package compiled, whatever the environment says.
test: .venv/installed-dev  ## run the whole test suite
	@OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest --numprocesses 3 --dist loadgroup --no-loadscope-reorder $(ARGS)

install: .venv/installed  ## make the environment alone: .venv/bin/plt-tui is the tool
	@echo ".venv/bin/plt-tui is ready"

check: .venv/installed-dev  ## format, lint, types, architecture
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/python -m pytest tests/test_architecture.py tests/test_import_hygiene.py

bench: .venv/installed  ## measure against the budgets and print the table
	@.venv/bin/python -m benchmarks $(ARGS)

soak: .venv/installed  ## hurt real runs at random for ten minutes and print what they made of it
	@.venv/bin/python -m benchmarks.soak $(ARGS)

clean:  ## remove the environment and the tools' caches; runs/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

.venv/installed: .venv/pyvenv.cfg pyproject.toml constraints.txt
	@$(INSTALL) .
	@touch $@

.venv/installed-dev: .venv/pyvenv.cfg pyproject.toml constraints.txt
	@$(INSTALL) '.[dev]'
	@touch .venv/installed $@

# An environment whose interpreter was upgraded away is made anew.
ifeq ($(realpath .venv/bin/python),)
.PHONY: .venv/pyvenv.cfg
endif
.venv/pyvenv.cfg:
	@python="$(PYTHON)"; "$$python" -c '$(IN_RANGE)' 2>/dev/null || { \
		echo "$${python:-no python on the PATH} is no Python 3.10 to 3.13 with the module venv: install one (Debian, Ubuntu:" \
			"apt-get install python3-venv) or name another: make PYTHON=/path/to/python" >&2; exit 1; }; \
	rm -rf .venv; "$$python" -m venv .venv || { rm -rf .venv; exit 1; }
