# One command for each thing one does here. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

KUBERNETES := v1.36.3
TOOLS      := target/cluster/bin
CLUSTER    := target/debug/cluster
UP         := target/cluster/up
# Built together, so that what they depend on is built once.
PACKAGES   := --package signingkeyring-operator --package 'signingkeyring-e2e-*'
CRDGEN     := cargo run --quiet --package signingkeyring-crds --bin crdgen --

##@ Use

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {gsub(/\$$\$$/, "$$", $$2); printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: cluster-tools binaries ## See a ring's life on real components (KEEP=1 leaves them up)
	@target/debug/demo $(if $(KEEP),--keep)

.PHONY: test
test: ## Everything that is tested: verify, unit, e2e
	@failed=; summary=; \
	for step in cluster-tools verify unit e2e; do \
		start=$$SECONDS; \
		if $(MAKE) $$step; then result=passed; else result=FAILED; failed=1; fi; \
		summary+=$$(printf '  %-14s %s  %4d s' $$step $$result $$((SECONDS - start)))$$'\n'; \
		if [ "$$step$$result" = cluster-toolsFAILED ]; then break; fi; \
	done; \
	printf '\nSummary\n%s' "$$summary"; \
	if [ -n "$$failed" ]; then echo "FAILED; the logs of the clusters are in target/cluster/run/*/"; exit 1; fi; \
	echo "All passed."

.PHONY: chaos
chaos: cluster-tools binaries ## A hard hour in five minutes (SEED=N repeats one, MINUTES=5, RINGS=20)
	@target/debug/chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RINGS),--rings $(RINGS))

##@ A test cluster that stays

.PHONY: cluster-up
cluster-up: cluster-tools $(CLUSTER) ## Start it, or find it; use: eval "$$(make -s cluster-up)"
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: $(CLUSTER) ## End it
	@$(CLUSTER) down

.PHONY: run
run: cluster-tools binaries ## The operator against it, in the foreground, as its own ServiceAccount
	@$(CLUSTER) up >/dev/null
	@export KUBECONFIG="$(UP)/admin.kubeconfig"; \
	$(TOOLS)/kubectl apply --kustomize=manifests >/dev/null; \
	$(TOOLS)/kubectl wait --for=condition=Established crd/signingkeyrings.signing.odj.cloud crd/imageexclusionlists.signing.odj.cloud >/dev/null; \
	$(TOOLS)/kubectl apply --filename=manifests/exclusions.yaml >/dev/null; \
	token=$$($(TOOLS)/kubectl create token signingkeyring-operator --namespace=signing-system --duration=24h); \
	$(TOOLS)/kubectl config view --raw --flatten | sed "s/^\( *\)client-certificate-data:.*/\1token: $$token/; /client-key-data:/d" > $(UP)/operator.kubeconfig; \
	KUBECONFIG="$(UP)/operator.kubeconfig" exec target/debug/signingkeyring-operator --listen 127.0.0.1:8080 $(ARGS)

##@ Parts

.PHONY: generate
generate: ## Write the generated files: the CRDs
	@$(CRDGEN) --mode write

.PHONY: verify
verify: ## Generated files are current, the code is formatted and free of lints
	@echo "== verify"
	@$(CRDGEN) --mode check
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: unit
unit: cluster-tools ## Tests without a cluster
	@echo "== unit"
	@cargo test --workspace --exclude 'signingkeyring-e2e-*' --locked

.PHONY: fuzz
fuzz: target/fuzz-tools/bin/cargo-fuzz ## Fuzz what parses foreign input: make fuzz SECONDS_EACH=60
	@operator/fuzz/run "$(or $(SECONDS_EACH),60)" "$(CURDIR)/$<"

target/fuzz-tools/bin/cargo-fuzz:
	@cargo install cargo-fuzz --version 0.13.2 --locked --root target/fuzz-tools

.PHONY: e2e
e2e: cluster-tools binaries ## Tests on real clusters
	@echo "== e2e"
	@cargo test --package 'signingkeyring-e2e-*' --locked --no-fail-fast

.PHONY: faults
faults: cluster-tools binaries ## Every fault of every scenario, on one cluster (ARGS=--help says more; e2e tries a sample)
	@target/debug/faults $(ARGS)

.PHONY: binaries
binaries:
	@echo "building the operator and the harness (some minutes the first time)" >&2
	@cargo build --locked $(PACKAGES)

.PHONY: image
image: cluster-tools ## Build and push the operator's image: make image IMAGE=registry/name:tag
	@if [ -z "$(IMAGE)" ]; then echo "name the image: make image IMAGE=registry/name:tag" >&2; exit 2; fi
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --package signingkeyring-operator --target x86_64-unknown-linux-gnu
	@tar --create --file=target/image.tar --owner=0 --group=0 --mtime=@0 \
		--directory=target/x86_64-unknown-linux-gnu/release signingkeyring-operator
	@$(TOOLS)/crane append --oci-empty-base --platform=linux/amd64 --new_layer=target/image.tar --new_tag="$(IMAGE)" >/dev/null
	@$(TOOLS)/crane mutate --set-platform=linux/amd64 --entrypoint=/signingkeyring-operator --user=65532 "$(IMAGE)"

.PHONY: $(CLUSTER)
$(CLUSTER):
	@cargo build --quiet --locked $(PACKAGES) --bin cluster 1>&2

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
cluster-tools: target/cluster/.built ## Build etcd, kube-apiserver, Kyverno, cosign, ... (once)

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
