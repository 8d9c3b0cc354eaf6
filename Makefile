# Everything a person runs. `make demo` and `make test` need Python 3.11 to 3.13 and nothing else of ours.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := .venv-tools
TARGET := cpu
IMAGE := cxrgaze:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILDER := $(firstword $(foreach one,podman buildah docker,$(shell command -v $(one))))
PYTHONS := python3 python3.13 python3.12 python3.11
SOUND := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))


.PHONY: docs image

help:
	@echo "make demo       the whole line on phantom radiographs: train, host, score, report (about 5 minutes)"
	@echo "make test       all tests but the long ones"
	@echo "make test-long  faults and whole loops, about 90 minutes; make test-sixth COMMITS=0 to 5 runs a sixth of them"
	@echo "make fuzz       100,000 broken and hostile files through the decoder; COUNT=1000 SEED=7 for others"
	@echo "make bench      how fast it decodes, scores and serves, and in how much memory; let nothing else run meanwhile"
	@echo "make docs       the pages of docs/ into build/site; make docs-reference writes those again that come from code"
	@echo "make check      ruff, mypy, import-linter"
	@echo "make sbom       what is installed, with licences: sbom.json (CycloneDX) and licences.csv"
	@echo "make audit      known vulnerabilities of what is pinned; fails where their data can't be reached"
	@echo "make image      a container image by podman, buildah or docker; TARGET=cuda for NVIDIA GPUs, IMAGE=name:tag"
	@echo "make install    only make $(VENV); demo and test do it too"

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@set -e; chosen=; for one in $(PYTHON) $(PYTHONS); do \
	  if $$one -c '$(SOUND)' >/dev/null 2>&1; then chosen=$$one; break; fi; done; \
	if [ -z "$$chosen" ]; then \
	  echo "cxrgaze needs Python 3.11, 3.12 or 3.13 with its venv module; install one (on Debian: python3 python3-venv), or name it: make PYTHON=/path/to/python." >&2; \
	  exit 2; fi; \
	[ -x $(BIN)/python ] || $$chosen -m venv $(VENV); \
	echo "Installing into $(VENV), 8 GB (2 to 5 minutes the first time, longer on a busy machine)."; \
	PIP_CONSTRAINT=requirements.lock $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock; \
	PIP_CONSTRAINT= $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .; \
	touch $@

demo: $(STAMP)
	@$(BIN)/cxrgaze demo --dir demo-out

test: $(STAMP)
	$(BIN)/python -m pytest -m "not long" -n 2 tests/test_check.py tests/unit tests/fuzz tests/storage
	$(BIN)/python -m pytest -m "not long" tests/integration tests/e2e

test-long: $(STAMP)
	$(BIN)/python -m pytest -m long --durations=5

# one sixth of the long tests: make test-sixth COMMITS=8 takes the eighth commit's
test-sixth: $(STAMP)
	$(BIN)/python -m pytest -m long --durations=5 $$($(BIN)/python -m tests.long_tests $(COMMITS))

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz

bench: $(STAMP)
	$(BIN)/cxrgaze bench model --images 1 --check
	$(BIN)/cxrgaze bench decode
	$(BIN)/cxrgaze bench pipeline
	$(BIN)/cxrgaze bench memory
	$(BIN)/cxrgaze bench streams
	$(BIN)/cxrgaze bench serve

# tools of their own environment, so that what they list is what runs
$(TOOLS)/.installed: requirements-tools.txt $(STAMP)
	[ -x $(TOOLS)/bin/python ] || $(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-tools.txt
	@touch $@

sbom: $(TOOLS)/.installed
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.json $(BIN)/python
	$(TOOLS)/bin/pip-licenses --python $(BIN)/python --order license --format csv --output-file licences.csv

audit: $(TOOLS)/.installed
	$(TOOLS)/bin/pip-audit --strict --requirement requirements.lock --no-deps --disable-pip

# the format that has health checks; IMAGE_FLAGS are further options of the builder
image:
	@if [ -z "$(BUILDER)" ]; then echo "An image is built by podman, buildah or docker; install one (on Debian: podman)." >&2; exit 2; fi
	BUILDAH_FORMAT=docker $(BUILDER) build --file infra/image/Containerfile --target $(TARGET) --tag $(IMAGE) \
	  --build-arg COMMIT="$$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)" $(IMAGE_FLAGS) .

docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "The pages are in build/site/index.html; for their search: $(BIN)/python -m http.server --directory build/site"

# after a change of options, settings, columns or routes
docs-reference: $(STAMP)
	$(BIN)/python -m docs.generate

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(TOOLS) sbom.json licences.csv demo-out fuzz-out build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
