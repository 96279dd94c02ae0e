# make demo [DATA=FOLDER] [OUT=out/demo]    sample files, five builds, one training run, a report
# make test                                 everything the continuous integration runs
# make faults [KILLS=50]                    kill builds at random moments and compare what comes of them
# make fuzz                                 a million damaged inputs and more, for all parsers of ours
# make bench DATA=FOLDER                    the builders beside the bare codecs and other people's builders
# All make their own environment in .venv; they need Linux on x86-64, Python 3.11 or 3.12 with its venv, and the network.

PYTHON ?= python3
OUT ?= out/demo
KILLS ?= 50
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint faults fuzz bench lock clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/python -m examples.demo --output $(OUT) $(if $(DATA),--data $(DATA))

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports
	$(BIN)/mypy

faults: $(READY)
	$(BIN)/python tests/faults.py --kills $(KILLS)

fuzz: $(READY)
	$(BIN)/python -m fuzz

bench: $(READY)
	$(BIN)/python -m benchmarks.build --peers .cache/peers $(if $(DATA),--data $(DATA))

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 13) or sys.exit("mmmask needs Python 3.11 or 3.12, found " + sys.version.split()[0] + "; name one: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Write constraints.txt anew from the newest versions that pyproject.toml allows.
lock:
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt
	@touch $(READY)

clean:
	rm -rf .venv .cache out
