# The work pattern and the loop below reach all modules of go.work. What checks
# is in .ci/run; what changes files is here.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

BENCH ?= .
COUNT ?= 6

.DEFAULT_GOAL := help
.PHONY: help fmt lint generate test race fuzz bench examples tidy ci

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

fmt: ## format all files, and modernize them
	go fix work
	gofmt -w .

lint: ## look for mistakes: gofmt, vet, fix, staticcheck
	.ci/run format vet lint

generate: ## write the generated files again
	go generate work

test: ## run all tests
	go test work

race: ## run all tests with the race detector, shuffled, none from the cache
	.ci/run race

fuzz: ## run each fuzz test on FUZZTIME inputs, by default 1000x
	.ci/run fuzz

bench: ## measure the benchmarks named by BENCH, by default all; COUNT times, by default 6
	go test -run='^$$' -bench='$(BENCH)' -benchmem -count=$(COUNT) -timeout=0 work | tee bench.txt
	GOWORK=off go tool -modfile=tools.mod benchstat bench.txt

examples: ## run the examples and compare what they print
	.ci/run examples

tidy: ## tidy every go.mod, and tools.mod
	for dir in $$(go list -m -f '{{.Dir}}'); do go mod tidy -C "$$dir" || exit 1; done
	go mod tidy -modfile=tools.mod

ci: ## check everything
	.ci/run
