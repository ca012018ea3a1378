# The commands of this repository. Each is a line here and a script in tests/lab; `make help` lists them.
SHELL := /bin/bash
LAB := tests/lab
SLURM ?= 24.11
ONCE ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-down test lab-up lab-down image fmt clippy deny unit chart-test e2e bench

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: ## build, start the lab, create alice, log in, run a job (ONCE=1: and take it all down)
	@export LAB_STARTED=$$(date +%s); \
	if [ -z "$(ONCE)" ]; then $(LAB)/lab up --slurm $(SLURM) && SLURM_VERSION=$(SLURM) $(LAB)/demo.sh; \
	else code=0; { $(LAB)/lab up --slurm $(SLURM) && SLURM_VERSION=$(SLURM) $(LAB)/demo.sh; } || code=$$?; $(LAB)/lab down; exit $$code; fi

demo-down: lab-down ## remove what `make demo` started

test: ## everything: format, clippy, cargo deny, unit, chart and end-to-end tests
	@LAB_STARTED=$$(date +%s) $(LAB)/apt.sh
	@LAB_STARTED=$$(date +%s) $(LAB)/suites.sh

lab-up: ## start the lab (SLURM=24.11 or 26.05)
	@$(LAB)/lab up --slurm $(SLURM)

lab-down: ## remove the lab
	@$(LAB)/lab down

image: ## build the login image from the programs of this workspace
	@$(LAB)/apt.sh && $(LAB)/base-images.sh && $(LAB)/images.sh login

fmt: ## format the sources
	cargo fmt --all

clippy: ## lints, warnings are errors
	cargo clippy --workspace --all-targets --locked -- -D warnings

deny: ## bans, licences, sources and, where the database can be had, advisories
	@$(LAB)/suites.sh deny

unit: ## unit tests
	@$(LAB)/suites.sh unit

chart-test: ## helm lint, kubernetes-validate and the chart's own tests
	@$(LAB)/apt.sh && $(LAB)/suites.sh chart

e2e: ## end-to-end tests on the lab
	@$(LAB)/suites.sh e2e

bench: ## timings beside the peers, raw runs kept
	@$(LAB)/lab up --slurm $(SLURM)
	@bench/run
