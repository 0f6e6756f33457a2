# make        everything, to results/report/thesis.pdf
# make test   the whole test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: all test slow mutants check docs rooms pipeline headline requirements clean
all: $(VENV)/requirements.done
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all

test: $(VENV)/requirements-test.done
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -n 2 --dist loadfile --cov --cov-report=term

# Searches that take an hour rather than minutes.
slow: $(VENV)/requirements-test.done
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -m slow

# Small changes to the code, and whether a test notices (mutation testing): all of them takes a day
# and more, `make mutants SAMPLE=300 SEED=1` hours.
mutants: $(VENV)/requirements-test.done
	PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/mutants.py $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

check: $(VENV)/requirements-test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/codespell
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs --quiet build

# The documentation as a site, to site/index.html.
docs: $(VENV)/requirements-test.done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# The picture of the library's rooms, from its imports.
rooms: $(VENV)/requirements-test.done
	PYTHONPATH=src $(BIN)/python docs/rooms.py

# The picture of the workflow, from Snakemake's graph of its rules.
pipeline: $(VENV)/requirements-test.done
	PATH="$(CURDIR)/$(BIN):$$PATH" python docs/pipeline.py

# README's figure and table, from the results of the default configuration.
RESULTS ?= results
headline: $(VENV)/requirements-test.done
	$(BIN)/python docs/headline.py $(RESULTS)

# Universal: one file for Linux and macOS and Python 3.11 to 3.13, with the hashes of every build; with
# extras, for which pip takes the newest version where only the package itself is pinned.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --no-strip-extras --universal --generate-hashes --python-version 3.11 --no-header
requirements: $(BIN)/python
	$(BIN)/pip install --quiet uv
	$(COMPILE) --output-file requirements.txt requirements.in
	$(COMPILE) --output-file requirements-test.txt requirements-test.in

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "netreduce needs Python 3.11 or newer, found " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/requirements.done: requirements.txt requirements-torch.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	touch $@

$(VENV)/requirements-test.done: requirements-test.txt $(VENV)/requirements.done
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-test.txt
	touch $@

clean:
	rm -rf results logs .snakemake
