# Each target is one line of real work; the README gives them without make.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
COMPILE = uv pip compile --quiet $(UPGRADE) --config-file requirements/uv.toml
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book zip pdf epub test slow sweep serve lessons lint bench publish-as pins clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

book: .venv/book-installed ## build the HTML book into _build/html, warnings as errors
	@$(BIN)/python -m tools.book

zip: book ## the whole book in one file, for a USB stick
	@$(BIN)/python -m tools.stick

pdf: .venv/installed book ## the whole book in one PDF, printed by Chromium (some minutes)
	@$(BIN)/python -m tools.pdf

epub: .venv/installed book ## the whole book as an EPUB, formulas in MathML
	@$(BIN)/python -m tools.epub

test: .venv/installed ## re-run every lesson, compare every output, run the quick tests
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder --durations 10 --nbval lessons book tests

slow: .venv/installed ## the tests that take seconds each: every page, other processes, JupyterLab; in CI
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile \
		-m "slow and not sweep" --durations 10 tests

sweep: .venv/installed ## the tests that are too long for make test; weekly in CI
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 -m sweep --durations 10 tests

serve: book ## serve the built book on localhost
	@echo "http://localhost:$(PORT)  (Ctrl-C ends)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

lessons: .venv/installed ## re-run every lesson and store it, normalised
	@$(BIN)/python -m tools.store

lint: .venv/installed ## ruff: what it finds, and what it would format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

bench: .venv/installed ## the course against the tutorials, one more round (15 to 25 minutes)
	@$(BIN)/python -m benchmarks.race

publish-as: .venv/installed ## URL=https://…: write the address into book and lessons
	@$(BIN)/python -m tools.publish "$(URL)"

pins: ## compile requirements/*.in; UPGRADE=--upgrade for newer versions (pip install uv)
	@$(COMPILE) requirements/book.in -o requirements/book.txt
	@$(COMPILE) requirements/all.in -o requirements.txt

clean: ## remove what was built and installed
	rm -rf .venv _build _vendor node_modules

# The environment grows in two steps, each taken once, and again when its list changes.
# $(1): the list; $(2): how long it takes; $(3): the disk space needed; $(4): options.
define install
	@echo "Installing $(1) into .venv ($(2)) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(4) -r $(1) || \
		{ echo "Installing failed (see above). Check the network and the free disk space" \
			"($(3)), then run the same command again."; exit 1; }
	@touch $@
endef

# Not compiled beforehand: of the files installed, the book imports few.
.venv/book-installed: requirements/book.txt | $(BIN)/pip
	$(call install,requirements/book.txt,less than a minute,1 GB,--no-compile)

.venv/installed: requirements.txt pyproject.toml | $(BIN)/pip
	$(call install,requirements.txt,some minutes the first time,8 GB)
	@touch .venv/book-installed # whose list is part of this one

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "This needs Python 3.11 or newer as '$(PYTHON)'. Install it, or name one:" \
			"make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ echo "Making .venv failed. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
