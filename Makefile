# The tasks of the project; each is a script in hack/ that can be called by itself.
.DEFAULT_GOAL := help
.PHONY: help format lint test bench demo cluster-up cluster-down images deploy crds

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

format: ## format the sources
	cargo fmt --all

lint: ## formats, lints, direction of dependencies, licences, advisories
	hack/lint

test: ## everything: lints, unit tests, a cluster, the tests in it
	hack/test

bench: ## measure the sidecars beside Envoy's
	hack/bench

demo: ## a cluster, the mesh and the bookshop, and the proof on the terminal
	hack/demo

cluster-up: ## start the local cluster
	hack/cluster up

cluster-down: ## stop it and remove every trace
	hack/cluster down

images: ## build the images, and load them into the local cluster if it runs
	hack/image

deploy: ## install or upgrade the chart in the cluster
	hack/deploy

crds: ## write the chart's CRDs from the types
	cargo run --quiet --package mesh-api --bin crds -- charts/pinnace/files/crds
