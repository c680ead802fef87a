# One command for each thing one does here. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

KUBERNETES := v1.36.3
TOOLS      := target/cluster/bin
CLUSTER    := target/debug/cluster
UP         := target/cluster/up
# Built together, so that what they depend on is built once: the programs, and for those
# who test everything else, too. Tests enable features of dependencies that programs do
# not, so each other choice of packages and targets would build most of them again.
PACKAGES   := --package signingkeyring-operator --package signingkeyring-plugin --package 'signingkeyring-e2e-*'
EVERYTHING := --workspace --all-targets
# The kind of policy that is not the default: what of the e2e suite depends on the kind,
# which of the test programs run for it, and where they name what they leave out.
OTHER_KIND    := ImageValidatingPolicy
KIND_TESTS    := requests exclusions references drift lifecycle revocation deletion unborn unknown neighbours::images
KIND_BINARIES := e2e gate faults faults_sample hostile storms memory uninstall demo
# The Kyverno of before, which is another program, and what runs on it: all that is not
# about the other kind of policy.
OLDER_KYVERNO  := 1.18
OLDER_BINARIES := e2e gate faults faults_sample hostile storms memory uninstall demo
# The cosign of before, which signs images of the corpus beside the present one.
OLDER_COSIGN   := 2.6
# What the tests print, by what they are about, and what each names as left out.
SUITE         := target/cluster/suite
LEFT_OUT      := target/cluster/left-out
# What each step of the last run printed.
STEP_LOGS     := target/steps
# The test programs. Those of two lanes run beside each other, each with a cluster of its
# own: they mostly wait, one test after the other. The rest measures, and runs alone.
E2E      := cargo test --workspace --locked --no-fail-fast
ALL      := $(shell sed -n '/^\[\[test\]\]/{n;s/^name = "\(.*\)"/\1/p}' e2e/tests/Cargo.toml)
LANE_1   := e2e faults elsewhere corpus demo plugin readme
LANE_2   := gate guard seen hostile frozen uninstall chart monitoring kinds faults_sample
ALONE    := $(filter-out $(LANE_1) $(LANE_2),$(ALL))
LANE_LOG := target/cluster/lane-2.log
CRDGEN     := target/debug/crdgen
CHART      := manifests/chart
DENY       := target/deny-tools/bin/cargo-deny
IMAGE_LAYOUT := target/image
# The test programs that need no cluster: those of all other packages.
UNIT       := $(basename $(notdir $(patsubst %/main.rs,%,$(wildcard $(foreach package,crds inspect operator operator/core,$(package)/tests/*.rs $(package)/tests/*/main.rs)))))

##@ Use

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {gsub(/\$$\$$/, "$$", $$2); printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(if $(NODE),node-tools image-layout) cluster-tools binaries ## See a ring's life on real components (KEEP=1 leaves them up, KIND=ImageValidatingPolicy, NODE=1 on a node, as root)
	@$(if $(KIND),SIGNING_POLICY_KIND=$(KIND)) $(if $(NODE),target/debug/node-demo --image $(IMAGE_LAYOUT),target/debug/demo $(if $(KEEP),--keep))

.PHONY: test
test: ## Everything that is tested: verify, unit, e2e, and for the other kind of policy what depends on it
	@$(MAKE) steps PACKAGES="$(EVERYTHING)" STEPS="cluster-tools older-cosign verify unit e2e e2e-kind"

.PHONY: test-all
test-all: ## The same with what takes long, all that there is for the other kind and on Kyverno 1.18, 60 rings that move, a node, an image built twice, and chaos
	@rm -rf $(LEFT_OUT) $(SUITE)
	@failed=; \
	MOVING_RINGS=60 LONG_TESTS=1 $(MAKE) steps PACKAGES="$(EVERYTHING)" STEPS="cluster-tools node-tools older-cosign older-kyverno image-layout deny verify unit e2e e2e-kind-all e2e-older-kyverno chaos chaos-kind bench-sample image-twice" || failed=1; \
	printf '\nLeft out\n'; sort -u $(LEFT_OUT) 2>/dev/null || true; \
	printf '\nTests by program: passed, and left out or failed\n'; awk -f e2e/table.awk $(SUITE)/*; \
	test -z "$$failed"

.PHONY: steps
steps:
	@rm -rf $(STEP_LOGS) && mkdir -p $(STEP_LOGS); \
	failed=; summary=; \
	for step in $(STEPS); do \
		start=$$SECONDS; \
		if $(MAKE) $$step 2>&1 | tee $(STEP_LOGS)/$$step; then result=passed; else result=FAILED; failed=1; fi; \
		summary+=$$(printf '  %-14s %s  %4d s' $$step $$result $$((SECONDS - start)))$$'\n'; \
		if [ "$$step$$result" = cluster-toolsFAILED ]; then break; fi; \
	done; \
	printf '\nSummary\n%s' "$$summary"; \
	if [ -n "$$failed" ]; then awk -f e2e/failures.awk $(STEP_LOGS)/*; echo "FAILED; the logs of the clusters are in target/cluster/run/*/"; exit 1; fi; \
	echo "All passed."

.PHONY: plugin
plugin: ## Build kubectl signing, and say how to have it on PATH
	@cargo build --locked $(PACKAGES) --bin kubectl-signing
	@printf '%s\n' "It is target/debug/kubectl-signing. To have kubectl find it:" "  install -m 755 target/debug/kubectl-signing ~/.local/bin/" "or, for this shell:" "  export PATH=\"$(CURDIR)/target/debug:\$$PATH\"" "To have kubectl complete it:" "  kubectl signing completion kubectl > ~/.local/bin/kubectl_complete-signing && chmod +x ~/.local/bin/kubectl_complete-signing"

.PHONY: chaos
chaos: cluster-tools binaries ## A hard hour in five minutes (SEED=N repeats one, MINUTES=5, RINGS=20, KIND=ImageValidatingPolicy)
	@$(if $(KIND),SIGNING_POLICY_KIND=$(KIND)) target/debug/chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RINGS),--rings $(RINGS))

.PHONY: chaos-kind
chaos-kind:
	@$(MAKE) chaos KIND=$(OTHER_KIND)

.PHONY: ha
ha: cluster-tools everything ## Kill the leader of two replicas 50 times, and ask it to end 20 times: some 20 minutes (KILLS=N, STOPS=N)
	@HA_KILLS="$(or $(KILLS),50)" HA_STOPS="$(or $(STOPS),20)" $(E2E) --test replicas -- survives_the_leader followed_at_once

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
generate: everything ## Write the generated files: the CRDs, their pages, the chart's copies and its README
	@$(CRDGEN) --mode write
	@$(CHART)/generate/run $(CHART)

.PHONY: verify
verify: everything ## Generated files are current, the code is formatted and free of lints, dependencies are allowed
	@echo "== verify"
	@$(CRDGEN) --mode check
	@$(MAKE) verify-chart
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@if [ -x $(DENY) ]; then $(MAKE) deny; else echo "not looked at: what dependencies are allowed (seconds, once cargo-deny is built: make deny)"; fi

# The same files of a copy of the chart, made anew.
.PHONY: verify-chart
verify-chart:
	@rm -rf target/chart && cp -r $(CHART) target/chart && $(CHART)/generate/run target/chart
	@diff --recursive $(CHART) target/chart || { echo "the chart is not what it is made from; write it anew: make generate" >&2; exit 1; }

.PHONY: unit
unit: cluster-tools everything ## Tests without a cluster
	@echo "== unit"
	@cargo test --workspace --locked --no-fail-fast --lib --bins $(addprefix --test ,$(UNIT))

# What pages link to outside of the book is where it is published: in the repository.
REPOSITORY := $(shell sed -n 's/^git-repository-url = "\(.*\)"/\1/p' book.toml)/blob/main

.PHONY: docs
docs: target/docs-tools/bin/mdbook ## Build the pages as a book: target/book
	@$< build
	@cd target/book && find . -name '*.html' -printf '%P\n' | while read -r page; do \
		up=$$(sed 's#[^/]##g; s#/#../#g' <<<"$$page")../; \
		sed -E -i "s#href=\"$$up([^\"\#]*)\.html#href=\"$(REPOSITORY)/\1.md#g; s#href=\"$$up#href=\"$(REPOSITORY)/#g" "$$page"; \
	done

target/docs-tools/bin/mdbook:
	@cargo install mdbook --version 0.5.4 --locked --no-default-features --features search --root target/docs-tools

.PHONY: deny
deny: $(DENY) ## Licences, sources and versions of dependencies are those that deny.toml allows
	@$< --locked check --deny warnings licenses bans sources

$(DENY):
	@cargo install cargo-deny --version 0.20.2 --locked --root target/deny-tools

.PHONY: fuzz
fuzz: target/fuzz-tools/bin/cargo-fuzz ## Fuzz what parses foreign input: make fuzz SECONDS_EACH=60
	@operator/fuzz/run "$(or $(SECONDS_EACH),60)" "$(CURDIR)/$<"

target/fuzz-tools/bin/cargo-fuzz:
	@cargo install cargo-fuzz --version 0.13.2 --locked --root target/fuzz-tools

.PHONY: e2e
e2e: cluster-tools older-cosign everything ## Tests on real clusters
	@echo "== e2e"
	@mkdir -p $(SUITE)
	@$(MAKE) lanes BINARIES="$(ALL)" 2>&1 | tee $(SUITE)/ClusterPolicy

# The test programs that are named by BINARIES, in lanes. What those that pass counted
# and measured is shown, too.
tested = $(if $(filter $(1),$(BINARIES)),$(E2E) $(addprefix --test ,$(filter $(1),$(BINARIES))) -- --show-output,true)

.PHONY: lanes
lanes:
	@$(E2E) $(addprefix --test ,$(BINARIES)) --no-run
	@failed=; \
	$(call tested,$(LANE_2)) >$(LANE_LOG) 2>&1 & second=$$!; \
	trap 'kill $$second 2>/dev/null || true' EXIT; \
	$(call tested,$(LANE_1)) || failed=1; \
	wait $$second || failed=1; \
	cat $(LANE_LOG); \
	$(call tested,$(ALONE)) || failed=1; \
	[ -z "$$failed" ]

.PHONY: e2e-kind
e2e-kind: cluster-tools everything ## What depends on the kind of policy, for ImageValidatingPolicy
	@echo "== e2e-kind"
	@SIGNING_POLICY_KIND=$(OTHER_KIND) $(E2E) --test e2e -- $(KIND_TESTS)

.PHONY: e2e-kind-all
e2e-kind-all: cluster-tools everything ## All that runs for both kinds, for ImageValidatingPolicy
	@echo "== e2e-kind-all"
	@mkdir -p $(SUITE)
	@SIGNING_POLICY_KIND=$(OTHER_KIND) $(MAKE) lanes BINARIES="$(KIND_BINARIES)" 2>&1 | tee $(SUITE)/$(OTHER_KIND)

.PHONY: e2e-older-kyverno
e2e-older-kyverno: cluster-tools older-kyverno everything ## All that runs for both kinds, for ClusterPolicy on Kyverno 1.18
	@echo "== e2e-older-kyverno"
	@mkdir -p $(SUITE)
	@SIGNING_KYVERNO=$(OLDER_KYVERNO) $(MAKE) lanes BINARIES="$(OLDER_BINARIES)" 2>&1 | tee $(SUITE)/Kyverno-$(OLDER_KYVERNO)

.PHONY: faults
faults: cluster-tools binaries ## Every fault of every scenario, on one cluster (KIND=ImageValidatingPolicy, ARGS=--help says more; e2e tries a sample)
	@$(if $(KIND),SIGNING_POLICY_KIND=$(KIND)) target/debug/faults $(ARGS)

.PHONY: bench
bench: cluster-tools ## What many rings take, at rest and at once: hours (ARGS="--rings 10,100 --waves 300", ARGS=--help says more)
	@cargo build --locked --release $(PACKAGES)
	@target/release/bench $(ARGS)

.PHONY: bench-kinds
bench-kinds: cluster-tools binaries ## What each kind of policy costs a pod: some 20 minutes (ARGS=--help says more)
	@target/debug/bench-kinds $(ARGS)

.PHONY: bench-flat
bench-flat: ## What the operator weighs and does at 100 and 10,000 rings: some minutes (ARGS=--help says more)
	@cargo bench --quiet --profile dist --package signingkeyring-operator --bench flat -- $(ARGS)

.PHONY: bench-sample
bench-sample: cluster-tools binaries # Whether the benches still work, in some minutes
	@echo "== bench-sample"
	@target/debug/bench --rings 3 --naive 0 --waves 3 --revoked 1 --rounds 2
	@target/debug/bench-kinds --rings 3 --packs --keys --rounds 2

.PHONY: binaries
binaries:
	@echo "building the operator and the harness (some minutes the first time)" >&2
	@cargo build --locked $(PACKAGES)

.PHONY: everything
everything:
	@echo "building everything (some minutes the first time)" >&2
	@cargo build --locked $(EVERYTHING)

.PHONY: image
image: ## Build and push the operator's image: make image IMAGE=registry/name:tag
	@if [ -z "$(IMAGE)" ]; then echo "name the image: make image IMAGE=registry/name:tag" >&2; exit 2; fi
	@$(MAKE) image-layout
	@$(TOOLS)/crane push $(IMAGE_LAYOUT) "$(IMAGE)"

.PHONY: image-layout
image-layout: cluster-tools ## Build the operator's image as a folder, target/image, and print its digest
	@operator/image/build $(IMAGE_LAYOUT) $(TOOLS)/crane

.PHONY: image-twice
image-twice: image-layout ## Build it again from a clone in another folder: it has to have the same digest
	@echo "== image-twice"
	@operator/image/again $(IMAGE_LAYOUT) $(TOOLS)/crane

.PHONY: release
release: ## Build what a release has: target/release-files
	@release/check
	@$(MAKE) image-layout target/release-tools/bin/cargo-cyclonedx
	@release/build $(IMAGE_LAYOUT) target/release-files

target/release-tools/bin/cargo-cyclonedx:
	@cargo install cargo-cyclonedx --version 0.5.9 --locked --root target/release-tools

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

# Other programs that the tests use: what their Go module is called, and what is built of
# it. Each module is one of its own, since one has one version of each of its dependencies.
HELM       := helm.sh/helm/v4/cmd/helm
PROMETHEUS := github.com/prometheus/prometheus/cmd/prometheus github.com/prometheus/prometheus/cmd/promtool

# What runs pods, for the tests on a node: from the module of kube-apiserver, and from one
# of its own. runc is built with C, and so not from here.
NODE_PROGRAMS := k8s.io/kubernetes/cmd/kubelet k8s.io/kubernetes/cmd/kube-scheduler
NODE_MODULE   := github.com/containerd/containerd/v2/cmd/containerd \
	github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 \
	github.com/containernetworking/plugins/plugins/ipam/host-local \
	github.com/containernetworking/plugins/plugins/main/bridge \
	github.com/containernetworking/plugins/plugins/main/loopback \
	./pause

.PHONY: cluster-tools
cluster-tools: target/cluster/.built target/cluster/.built-helm target/cluster/.built-prometheus ## Build etcd, kube-apiserver, Kyverno, cosign, Helm, Prometheus, ... (once)

target/cluster/.built: e2e/cluster/go.mod e2e/cluster/go.sum
	@mkdir -p $(TOOLS)
	@for program in $(PROGRAMS); do \
		echo "building $${program%%=*} (the whole set takes some 6 minutes on 2 cores, once)" >&2; \
		go -C e2e/cluster build -trimpath -ldflags "-s -w $(VERSION_FLAGS)" \
			-o "$(CURDIR)/$(TOOLS)/$${program%%=*}" "$${program#*=}"; \
	done
	@$(call kyverno-crds,e2e/cluster,target/cluster/kyverno-crds)
	@touch $@

target/cluster/.built-helm: e2e/cluster/helm/go.mod e2e/cluster/helm/go.sum
	@$(call tools-of,helm,$(HELM))
	@touch $@

.PHONY: node-tools
node-tools: target/cluster/.built-node ## Build kubelet, containerd, ..., for a node that runs pods (once; Linux)

target/cluster/.built-node: e2e/cluster/go.mod e2e/cluster/go.sum e2e/cluster/node/go.mod e2e/cluster/node/go.sum e2e/cluster/node/pause/main.go e2e/cluster/node/runc.sh
	@mkdir -p $(TOOLS)
	@e2e/cluster/node/runc.sh "$(CURDIR)/$(TOOLS)"
	@echo "building kubelet and kube-scheduler (a minute on 2 cores, once)" >&2
	@go -C e2e/cluster build -trimpath -ldflags "-s -w $(VERSION_FLAGS)" -o "$(CURDIR)/$(TOOLS)/" $(NODE_PROGRAMS)
	@export CGO_ENABLED=0; $(call tools-of,node,$(NODE_MODULE))
	@touch $@

target/cluster/.built-prometheus: e2e/cluster/prometheus/go.mod e2e/cluster/prometheus/go.sum
	@$(call tools-of,prometheus,$(PROMETHEUS))
	@touch $@

# Prometheus without ways to find targets in clouds, which are most of it.
tools-of = mkdir -p $(TOOLS); \
	echo "building $(1) (some 90 seconds on 2 cores, once)" >&2; \
	go -C e2e/cluster/$(1) build -trimpath -tags remove_all_sd -ldflags "-s -w" -o "$(CURDIR)/$(TOOLS)/" $(2)

# The CRDs of the Kyverno that a Go module pins, in a folder.
kyverno-crds = rm -rf $(2) && mkdir -p $(2) && \
	kyverno=$$(go -C $(1) list -m -f '{{.Dir}}' github.com/kyverno/kyverno) && \
	install -m 644 "$$kyverno"/config/crds/kyverno/*.yaml "$$kyverno"/config/crds/policies.kyverno.io/*.yaml $(2)/

.PHONY: older-kyverno
older-kyverno: target/cluster/.built-$(OLDER_KYVERNO) ## Build the Kyverno of before, for test-all (once)

target/cluster/.built-$(OLDER_KYVERNO): e2e/cluster/kyverno-$(OLDER_KYVERNO)/go.mod e2e/cluster/kyverno-$(OLDER_KYVERNO)/go.sum
	@mkdir -p $(TOOLS)
	@echo "building Kyverno $(OLDER_KYVERNO) (some 4 minutes on 2 cores, once)" >&2
	@go -C e2e/cluster/kyverno-$(OLDER_KYVERNO) build -trimpath -ldflags "-s -w" \
		-o "$(CURDIR)/$(TOOLS)/kyverno-$(OLDER_KYVERNO)" github.com/kyverno/kyverno/cmd/kyverno
	@$(call kyverno-crds,e2e/cluster/kyverno-$(OLDER_KYVERNO),target/cluster/kyverno-$(OLDER_KYVERNO)-crds)
	@touch $@

.PHONY: older-cosign
older-cosign: target/cluster/.built-cosign-$(OLDER_COSIGN) ## Build the cosign of before, for the corpus of signatures (once)

target/cluster/.built-cosign-$(OLDER_COSIGN): e2e/cluster/cosign-$(OLDER_COSIGN)/go.mod e2e/cluster/cosign-$(OLDER_COSIGN)/go.sum
	@mkdir -p $(TOOLS)
	@echo "building cosign $(OLDER_COSIGN) (some 2 minutes on 2 cores, once)" >&2
	@go -C e2e/cluster/cosign-$(OLDER_COSIGN) build -trimpath -ldflags "-s -w" \
		-o "$(CURDIR)/$(TOOLS)/cosign-$(OLDER_COSIGN)" github.com/sigstore/cosign/v2/cmd/cosign
	@touch $@
