# One command for each thing one does here. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

KUBERNETES := v1.36.3
TOOLS      := target/cluster/bin
CLUSTER    := target/debug/cluster

##@ Use

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ A test cluster that stays

.PHONY: cluster-up
cluster-up: cluster-tools $(CLUSTER) ## Start it, or find it; use: eval "$$(make -s cluster-up)"
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: $(CLUSTER) ## End it
	@$(CLUSTER) down

.PHONY: $(CLUSTER)
$(CLUSTER):
	@cargo build --quiet --package signingkeyring-e2e --bin cluster 1>&2

##@ Parts

# Every program of the test cluster comes from one Go module and is built
# again only when the module changes.
PROGRAMS := etcd=go.etcd.io/etcd/server/v3 \
	crane=github.com/google/go-containerregistry/cmd/crane \
	kubectl=k8s.io/kubernetes/cmd/kubectl \
	kube-apiserver=k8s.io/kubernetes/cmd/kube-apiserver \
	kube-controller-manager=k8s.io/kubernetes/cmd/kube-controller-manager \
	kyverno=github.com/kyverno/kyverno/cmd/kyverno \
	cosign=github.com/sigstore/cosign/v3/cmd/cosign
VERSION_FLAGS := -X k8s.io/component-base/version.gitVersion=$(KUBERNETES) \
	-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36

.PHONY: cluster-tools
cluster-tools: target/cluster/.built ## Build etcd, kube-apiserver, Kyverno, cosign, ... (once, some minutes)

target/cluster/.built: e2e/cluster/go.mod e2e/cluster/go.sum
	@mkdir -p $(TOOLS)
	@for program in $(PROGRAMS); do \
		echo "building $${program%%=*} (the whole set takes some 6 minutes on 2 cores, once)" >&2; \
		go -C e2e/cluster build -trimpath -ldflags "-s -w $(VERSION_FLAGS)" \
			-o "$(CURDIR)/$(TOOLS)/$${program%%=*}" "$${program#*=}"; \
	done
	@rm -rf target/cluster/kyverno-crds && mkdir -p target/cluster/kyverno-crds
	@kyverno=$$(go -C e2e/cluster list -m -f '{{.Dir}}' github.com/kyverno/kyverno); \
		install -m 644 "$$kyverno"/config/crds/kyverno/*.yaml \
			"$$kyverno"/config/crds/policies.kyverno.io/*.yaml target/cluster/kyverno-crds/
	@touch $@
