# Every command of fraudlake. Bare `make` prints this help.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
PACKAGES := audit lakehouse simulator expectations bronze silver features decisions training gold serving deploy benchmarks

##@ Start here
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## environment, jars and compiled kernels; what is there is left alone
	@deploy/setup.sh

keys: setup ## local keys where there are none: master key, author's and approver's pair, API keys
	@$(PYTHON) -m lakehouse.keys

demo: setup ## the whole way on one machine: history, training, live payments, figures (SEED, RATE, LIVE_SECONDS, DATA, CONTINUE, WITH)
	@$(PYTHON) -m deploy.demo.job $(if $(SEED),--seed $(SEED)) $(if $(RATE),--rate $(RATE)) $(if $(LIVE_SECONDS),--seconds $(LIVE_SECONDS)) \
	  $(if $(DATA),--data "$(DATA)") $(if $(CONTINUE),--continue) $(if $(WITH),--with $(WITH))

##@ Services
up: setup ## start the local Kafka broker and MLflow server; WITH=redis,postgres,cassandra adds any of these
	@$(PYTHON) -m deploy.local.job up $(if $(WITH),--with $(WITH))

down: setup ## end everything that `make up` and `make demo` started
	@$(PYTHON) -m deploy.local.job down

status: setup ## what runs
	@$(PYTHON) -m deploy.local.job status

wipe: setup ## delete every world and the services' data, after asking
	@$(PYTHON) -m deploy.local.job wipe

topics: setup ## create the topics of the configured world, or say how they differ
	@$(PYTHON) -m lakehouse.topics

audit: setup ## look at topics and tables: what is lost, doubled, altered or moved, and its repair (exit code 1)
	@$(PYTHON) -m audit

config: setup ## every setting in force and where its value comes from
	@$(PYTHON) -m lakehouse.settings

##@ Develop
test: setup ## all tests, on a real broker, Delta and MLflow
	@$(PYTHON) -m pytest -n 3

test-crash: setup ## kill real processes under load and count every record afterwards (KILLS, EVENTS, SEED, ONLY, REPORT)
	@$(PYTHON) -m tests.campaign.job $(if $(KILLS),--kills $(KILLS)) $(if $(EVENTS),--events $(EVENTS)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) $(if $(REPORT),--report "$(REPORT)")

test-api: setup ## ask the API 10,000 requests (or CASES) made of its own document
	@$(PYTHON) -m pytest tests/serving/test_conformance.py --api-cases $(or $(CASES),10000)

check: setup ## format, lint, types, import contracts
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy $(PACKAGES)
	@PYTHONPATH=. .venv/bin/lint-imports

fix: setup ## format and mend what the linter can mend
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .

generate: setup ## write suites, predicates, the feature reference and the API's OpenAPI file from their definitions
	@$(PYTHON) -m expectations.suites
	@$(PYTHON) -m features.reference
	@$(PYTHON) -m serving.openapi

bench: setup ## every benchmark, and their table (minutes)
	@$(PYTHON) -m benchmarks.all

wheel: setup ## the product as one wheel, in dist/
	@$(PYTHON) -m deploy.wheel

lock: setup ## resolve pyproject.toml into requirements.lock again
	@$(PYTHON) -m uv pip compile --quiet --generate-hashes --all-extras --no-header --no-annotate pyproject.toml -o requirements.lock

.PHONY: help setup keys demo up down status wipe topics audit config test test-crash test-api check fix generate bench wheel lock
