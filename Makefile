# Each target is one line of real work; the README gives them without make.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book test serve lessons bench publish-as clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

book: .venv/installed ## build the HTML book into _build/html, warnings as errors
	@python -m tools.book

test: .venv/installed ## re-run every lesson, compare every output, run all tests
	@pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --nbval lessons book tests

serve: book ## serve the built book on localhost
	@echo "http://localhost:$(PORT)  (Ctrl-C ends)"; python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

lessons: .venv/installed ## re-run every lesson and store it, normalised
	@python -m tools.store

bench: .venv/installed ## the course against the tutorials, side by side (40 to 50 minutes)
	@python -m benchmarks.speed

publish-as: .venv/installed ## URL=https://github.com/you/repo: write the address into the book and every lesson
	@python -m tools.publish "$(URL)"

clean: ## remove what was built and installed
	rm -rf .venv _build _vendor node_modules

# Made once, and again when what it depends on changes.
.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "This needs Python 3.11 or newer as '$(PYTHON)'. Install it, or name one: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "Making .venv failed. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing requirements.txt into .venv (some minutes the first time) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt || \
		{ echo "Installing failed (see above). Check the network and the free disk space (8 GB), then run the same command again."; exit 1; }
	@touch $@
