# Each target builds what it needs from nothing and can be run again at once.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check clean .venv

.venv: .venv/ready

.venv/ready: pyproject.toml $(wildcard src/dualstream/flow/_kernel/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

demo: .venv/ready
	$(BIN)/dualstream demo --out demo

test: .venv/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

check: test

clean:
	rm -rf .venv demo
