# The commands of this repository. Each is a line here and a script in tests/lab; `make help` lists them.
SHELL := /bin/bash
SCRIPTS := tests/lab
SLURM ?= 24.11
ONCE ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-down test lab-up lab-down image fmt clippy deny unit chart-test compliance e2e bench

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: ## build, start the lab, create alice, log in, run a job (ONCE=1: and take it all down)
	@export LAB_STARTED=$$(date +%s); \
	if [ -z "$(ONCE)" ]; then $(SCRIPTS)/lab up --slurm $(SLURM) && SLURM_VERSION=$(SLURM) $(SCRIPTS)/demo.sh; \
	else code=0; { $(SCRIPTS)/lab up --slurm $(SLURM) && SLURM_VERSION=$(SLURM) $(SCRIPTS)/demo.sh; } || code=$$?; $(SCRIPTS)/lab down; exit $$code; fi

demo-down: lab-down ## remove what `make demo` started

test: ## everything: format, clippy, cargo deny, unit, chart and end-to-end tests
	@LAB_STARTED=$$(date +%s) $(SCRIPTS)/apt.sh
	@LAB_STARTED=$$(date +%s) $(SCRIPTS)/suites.sh

lab-up: ## start the lab (SLURM=24.11 or 26.05)
	@$(SCRIPTS)/lab up --slurm $(SLURM)

lab-down: ## remove the lab
	@$(SCRIPTS)/lab down

image: ## build the login image from the programs of this workspace
	@$(SCRIPTS)/apt.sh && $(SCRIPTS)/base-images.sh && $(SCRIPTS)/images.sh login

fmt: ## format the sources
	cargo fmt --all

clippy: ## lints, warnings are errors
	cargo clippy --workspace --all-targets --locked -- -D warnings

deny: ## bans, licences, sources and, where the database can be had, advisories
	@$(SCRIPTS)/suites.sh deny

unit: ## unit tests
	@$(SCRIPTS)/suites.sh unit

chart-test: ## helm lint, kubernetes-validate and the chart's own tests
	@$(SCRIPTS)/apt.sh && $(SCRIPTS)/suites.sh chart

compliance: ## the same cases against sshd and ours, other clients, OpenSSH's own suite
	@$(SCRIPTS)/apt.sh && $(SCRIPTS)/suites.sh compliance clients regress

e2e: ## end-to-end tests on the lab
	@$(SCRIPTS)/suites.sh e2e

bench: ## timings beside the peers, raw runs kept
	@$(SCRIPTS)/lab up --slurm $(SLURM)
	@bench/run
