# Each target builds what it needs from nothing and can be run again at once.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo docs test check clean chromium .venv

.venv: .venv/ready

.venv/ready: pyproject.toml $(wildcard src/dualstream/flow/_kernel/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

demo: .venv/ready
	$(BIN)/dualstream demo --out demo

docs: .venv/ready
	$(BIN)/python docs/figures/draw.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The page is tested in a real browser. Where it cannot be installed, those tests are skipped and say
# so. About half a minute on two cores, once.
chromium:
	@if ! command -v chromium > /dev/null && command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
	  start=$$(date +%s); \
	  (timeout 300 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install \
	    -qq -y --no-install-recommends chromium) > /dev/null 2>&1 || true; \
	  echo "chromium: $$(command -v chromium || echo none), $$(( $$(date +%s) - start )) s"; \
	fi

test: .venv/ready chromium
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

check: test

clean:
	rm -rf .venv demo site
