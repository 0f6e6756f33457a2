# make        everything, to results/report/thesis.pdf
# make test   the whole test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: all test check requirements clean
all: $(VENV)/requirements.done
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all

test: $(VENV)/requirements-test.done
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest

check: $(VENV)/requirements-test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

requirements: $(BIN)/python
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-header --no-emit-index-url --no-emit-find-links --output-file requirements.txt requirements.in
	sed -i "s/+cpu$$//" requirements.txt
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-header --no-emit-index-url --no-emit-find-links --output-file requirements-test.txt requirements-test.in

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "netreduce needs Python 3.11 or newer, found " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/requirements.done: requirements.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/requirements-test.done: requirements-test.txt $(VENV)/requirements.done
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-test.txt
	touch $@

clean:
	rm -rf results logs .snakemake
