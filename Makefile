# Everything here works from a fresh checkout with Go, git and make; what needs a
# cluster also needs root on Linux, or CLUSTER=existing and KUBECONFIG.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

STATE := $(CURDIR)/.cluster
BIN   := $(STATE)/bin
IMAGES := $(STATE)/images

# VERSION is stamped into the binaries.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# CLUSTER=existing uses the cluster that KUBECONFIG names, instead of the local one.
CLUSTER ?= local
# With CLUSTER=existing: images that this cluster can pull.
OPERATOR_IMAGE ?=
MEMBER_IMAGE ?=
LEADER_ELECTOR_IMAGE ?=
BACKUP_IMAGE ?=

# How many processes run end-to-end specs at once: they wait most of the time.
E2E_PROCS ?= 4
# How long a soak begins faults, and what decides which; 0 is a random seed.
DURATION ?= 10m
SEED ?= 0

ifneq ($(CLUSTER),existing)
export KUBECONFIG := $(STATE)/kubeconfig
endif
export KUBEBUILDER_ASSETS := $(BIN)

KUBECTL := $(if $(and $(filter existing,$(CLUSTER)),$(shell command -v kubectl)),kubectl,$(BIN)/kubectl)
CONTROLLER_GEN := go tool -modfile=tools.mod controller-gen
LDFLAGS := -s -w -X github.com/quorate/quorate/internal/version.Version=$(VERSION)
KUSTOMIZATIONS := crd rbac operator default namespaced samples $(addprefix leader-elector/,rbac sidecar native statefulset label legacy)
GENERATED := api config/crd/bases config/rbac/generated
# Packages whose tests need neither a cluster nor an API server.
UNIT = $(shell go list ./... | grep -vE '/test/(integration|e2e|demo|bench|soak)(/|$$)')
# What make test leaves to make test-deep, for it has ten minutes: by the tests' names, and
# by the label deep of the specs in test/e2e.
define DEEP_NAMES
TestMutants TestMutantsAreNoticed TestModel TestEveryStateOfTurningTLSOn
TestKilledAtAnyCallTheEndIsTheSame TestKilledTwiceTheEndIsTheSame TestFaultyCallsDoNotChangeTheEnd TestStaleCachesDoNotChangeTheEnd TestTwoOperatorsAtOnce
TestFaultsOfTheStoreWhileSaving TestFaultsOfTheStoreWhileDrilling TestFaultsOfACloudWhileSaving
TestASecretThatIsRenewedMeanwhile TestASecretOfACloudThatIsRenewedMeanwhile TestAPodsOwnIdentity
TestASurvivorHasEveryAcknowledgedWrite TestWhatWasJustAcknowledgedIsNotLost TestARecoveryThatIsKilledBeginsAgain
TestASaveThatIsKilled TestARestoreThatIsKilledAtAnyStep TestAnArchiverThatIsKilled TestAPruneThatIsKilledAtAnyRequest
TestARestoreOutlivesAPowerCut TestABackupOnAVolumeOutlivesAPowerCut
TestASaveThatIsKilledAtAnyRequest TestASaveIsNotTakenFromAMemberThatLags
TestAnUploadToACloudThatIsInterrupted TestAnArchiverWithABrokenStore TestACompactionAtTheEndOfAnArchive
TestAnyPointOfAnArchiveIsRestored TestAPointIsPutTogetherOnce TestASnapshotUnderWritesIsTheModels
TestDamageAtRest TestDamageAtRestInACloud TestDamageToAnArchive TestBadInputForACloud
TestThroughput TestOneKeyTwiceInARevision TestHistoryThatIsDeleted TestTurningAuthenticationOnTakesANewBase TestLargeRevisionsAreArchived
endef
empty :=
DEEP := $(subst $(empty) $(empty),|,$(strip $(DEEP_NAMES)))
DEEP_IN = $(shell grep -rlE '^func ($(DEEP)).t .testing' --include=*_test.go $(1) | xargs -n1 dirname | sort -u | sed 's|^|./|')

##@ Use it

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-z0-9-]*:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## From nothing to a real etcd cluster in a real Kubernetes; shows it at work.
	@CLUSTER=$(CLUSTER) go run ./test/demo

.PHONY: deploy
deploy: image-tag ## Install the operator: CRDs, RBAC, Deployment (see OPERATOR_IMAGE, MEMBER_IMAGE, BACKUP_IMAGE).
	@set -e; tag=$$(cat $(IMAGES)/tag); \
	operator="$(OPERATOR_IMAGE)"; member="$(MEMBER_IMAGE)"; backup="$(BACKUP_IMAGE)"; \
	$(KUBECTL) kustomize config/default \
	  | sed -e "s|ghcr.io/quorate/operator:.*|$${operator:-ghcr.io/quorate/operator:$$tag}|" \
	        -e "s|ghcr.io/quorate/member:.*|$${member:-ghcr.io/quorate/member:$$tag}|" \
	        -e "s|ghcr.io/quorate/backup:.*|$${backup:-ghcr.io/quorate/backup:$$(cat $(IMAGES)/backup.tag)}|" \
	  | $(KUBECTL) apply --server-side --force-conflicts -f -; \
	$(KUBECTL) -n quorate-system rollout status deployment/quorate-operator --timeout=180s

# Which of config/leader-elector the example is: sidecar, native, statefulset, label or
# legacy.
EXAMPLE ?= native
# Where; the namespace of the kubeconfig if empty.
NAMESPACE ?=
.PHONY: leader-example
leader-example: $(if $(filter existing,$(CLUSTER)),leader-image-named,image-tag) ## Three replicas with the leader-elector beside them (see EXAMPLE, NAMESPACE, LEADER_ELECTOR_IMAGE).
	@set -e; image="$(LEADER_ELECTOR_IMAGE)"; \
	$(KUBECTL) kustomize config/leader-elector/$(EXAMPLE) \
	  | sed -e "s|ghcr.io/quorate/leader-elector:.*|$${image:-ghcr.io/quorate/leader-elector:$$(cat $(IMAGES)/leader-elector.tag)}|" \
	  | $(KUBECTL) $(if $(NAMESPACE),-n $(NAMESPACE)) apply --server-side --force-conflicts -f -; \
	kind=$$(test $(EXAMPLE) = statefulset && echo statefulset || echo deployment); \
	$(KUBECTL) $(if $(NAMESPACE),-n $(NAMESPACE)) rollout status $$kind/leader-example --timeout=120s

.PHONY: leader-image-named
leader-image-named:
	@test -n "$(LEADER_ELECTOR_IMAGE)" || { \
	  echo "LEADER_ELECTOR_IMAGE is not set — the nodes of an existing cluster have to pull it — push it and name it"; exit 2; }

.PHONY: undeploy
undeploy: ## Remove the operator; clusters, their volumes and the CRD stay.
	$(KUBECTL) kustomize config/rbac | $(KUBECTL) delete --ignore-not-found -f -
	$(KUBECTL) kustomize config/operator | $(KUBECTL) delete --ignore-not-found -f -
	@echo "The CRD is still there; deleting it deletes every EtcdCluster: kubectl delete -k config/crd"

##@ The local Kubernetes

.PHONY: setup
setup: $(BIN)/cluster ## Install packages and build Kubernetes, etcd and CoreDNS from source (once).
	$(BIN)/cluster setup all

.PHONY: setup-assets
setup-assets: $(BIN)/cluster ## Only kube-apiserver, etcd, kubectl and an S3 server, for the integration tests.
	$(BIN)/cluster setup assets

.PHONY: cluster-up
cluster-up: $(if $(filter existing,$(CLUSTER)),,setup) ## Start three nodes on this machine; with CLUSTER=existing, see that it answers.
ifeq ($(CLUSTER),existing)
	@$(KUBECTL) version >/dev/null || { echo "no cluster answers (KUBECONFIG=$(KUBECONFIG)) — there is nothing to install into — set KUBECONFIG to a cluster of yours"; exit 2; }
else
	$(BIN)/cluster up
endif

.PHONY: cluster-down
cluster-down: $(BIN)/cluster ## Stop the nodes and leave nothing behind; what was built stays.
	$(BIN)/cluster down

# A program of a module of its own: go decides whether anything has changed.
.PHONY: $(BIN)/cluster
$(BIN)/cluster:
	@go build -C test/cluster -o $@ .

##@ Build

.PHONY: build
build: ## bin/operator, bin/member, bin/leader-elector and bin/backup, static.
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/operator ./cmd/operator
	CGO_ENABLED=0 go build -trimpath -tags nethttpomithttp2 -ldflags "-s -w -X main.version=$(VERSION)" -o bin/member ./cmd/member
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/leader-elector ./cmd/leader-elector
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/backup ./cmd/backup

.PHONY: images
images: build $(BIN)/cluster ## Image archives under .cluster/images, without docker.
	@mkdir -p $(IMAGES)
	@cat bin/operator bin/member | sha256sum | cut -c1-12 | sed 's/^/dev-/' > $(IMAGES)/tag
	@for name in leader-elector backup; do sha256sum < bin/$$name | cut -c1-12 | sed 's/^/dev-/' > $(IMAGES)/$$name.tag; done
	@set -e; \
	for name in operator member leader-elector backup; do \
	  tag=$$(cat $(IMAGES)/tag); test ! -e $(IMAGES)/$$name.tag || tag=$$(cat $(IMAGES)/$$name.tag); \
	  $(BIN)/cluster image -o $(IMAGES)/$$name.tar -t ghcr.io/quorate/$$name:$$tag --user 65532:65532 --entrypoint /$$name bin/$$name:/$$name; \
	  echo "$(IMAGES)/$$name.tar ghcr.io/quorate/$$name:$$tag"; \
	done
	@echo "With docker, for amd64 and arm64: docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=$(VERSION) --target operator -t REGISTRY/operator:TAG --push ."

# The tag is the content of the binaries, so that an unchanged operator is not
# restarted and a changed one always is.
.PHONY: image-tag
ifeq ($(CLUSTER),existing)
image-tag:
	@test -n "$(OPERATOR_IMAGE)" -a -n "$(MEMBER_IMAGE)" -a -n "$(BACKUP_IMAGE)" || { \
	  echo "OPERATOR_IMAGE, MEMBER_IMAGE and BACKUP_IMAGE are not set — the nodes of an existing cluster have to pull them — push them and name them"; exit 2; }
	@mkdir -p $(IMAGES); echo none > $(IMAGES)/tag; echo none > $(IMAGES)/backup.tag
else
image-tag: images
	$(BIN)/cluster load-image $(IMAGES)/operator.tar $(IMAGES)/member.tar $(IMAGES)/leader-elector.tar $(IMAGES)/backup.tar
endif

.PHONY: clean
clean: ## Remove bin and the images made from it; the local Kubernetes and its binaries stay.
	rm -rf bin dist $(IMAGES)/operator.tar $(IMAGES)/member.tar $(IMAGES)/leader-elector.tar $(IMAGES)/backup.tar $(IMAGES)/tag $(IMAGES)/leader-elector.tag $(IMAGES)/backup.tag

##@ Change it

.PHONY: generate
generate: ## Deep copies and apply configurations.
	$(CONTROLLER_GEN) object applyconfiguration paths=./api/...

.PHONY: manifests
manifests: ## CRD and RBAC.
	$(CONTROLLER_GEN) crd:maxDescLen=2000 paths=./api/... output:crd:artifacts:config=config/crd/bases
	$(CONTROLLER_GEN) rbac:roleName=quorate-operator paths=./controllers/... output:rbac:dir=config/rbac/generated

.PHONY: fmt
fmt: $(BIN)/golangci-lint ## Format the code.
	$(BIN)/golangci-lint fmt ./...

.PHONY: vet
vet: ## go vet, in every module.
	go vet ./...
	go vet -C test/cluster ./...

.PHONY: lint
lint: $(BIN)/golangci-lint ## Linters, the import arrows among them.
	$(BIN)/golangci-lint run --allow-parallel-runners ./...

# Minutes when cold, so it is kept; a module of its own keeps its many
# dependencies away from ours.
$(BIN)/golangci-lint: .ci/lint/go.mod .ci/lint/go.sum
	@echo "Building golangci-lint (once)"
	@mkdir -p $(BIN)
	@CGO_ENABLED=0 go build -C .ci/lint -trimpath -ldflags "-s -w" -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

##@ Check it

.PHONY: verify
verify: verify-generated verify-modules verify-config vet lint ## Generated code is fresh, modules are sound, config renders, linters are content.

.PHONY: verify-generated
verify-generated: ## Regenerate and compare.
	@set -e; before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; \
	cp -a --parents $(GENERATED) "$$before"; \
	$(MAKE) generate manifests >/dev/null; \
	for path in $(GENERATED); do \
	  diff -ru "$$before/$$path" "$$path" || { echo "$$path was not up to date — run: make generate manifests"; exit 1; }; \
	done; \
	if git rev-parse --git-dir >/dev/null 2>&1; then \
	  untracked=$$(git ls-files --others --exclude-standard -- $(GENERATED)); \
	  test -z "$$untracked" || { echo "generated but not added: $$untracked"; exit 1; }; \
	fi

.PHONY: verify-modules
verify-modules: ## go.mod is tidy, and the modules are what go.sum says.
	go mod tidy -diff
	go mod verify

.PHONY: verify-config
verify-config: ## Every kustomization renders.
	@for dir in $(KUSTOMIZATIONS); do \
	  $(BIN)/kubectl kustomize config/$$dir >/dev/null || { echo "config/$$dir does not render"; exit 1; }; \
	done

# Runs the targets one after the other, and says how long each took.
define steps
	@total=$$SECONDS; \
	for step in $(1); do \
	  start=$$SECONDS; printf '\n==> %s\n' "$$step"; \
	  $(MAKE) "$$step" || { printf '==> %s FAILED after %ds\n' "$$step" $$((SECONDS-start)); exit 1; }; \
	  printf '==> %s passed in %ds\n' "$$step" $$((SECONDS-start)); \
	done; \
	printf '\n==> everything passed in %ds\n' $$((SECONDS-total))
endef

.PHONY: test
test: ## Set everything up and run every check and the tests: 12 minutes, and as many for the first build.
	$(call steps,setup verify test-unit test-integration test-cluster test-e2e)

.PHONY: test-deep
test-deep: ## The other tests: mutants, the model, the whole simulator, faults of all kinds. 40 minutes.
	$(call steps,setup test-deep-unit test-deep-integration test-deep-e2e)

# Runs unit tests with the flags, and prints what the model and the simulator have tried.
define unit
	@mkdir -p $(STATE); \
	go test -v -timeout 30m $(1) 2>&1 | tee $(STATE)/unit.log \
	  | grep --line-buffered -E '^(ok|FAIL|panic:) |^ +[a-z_]+_test.go:[0-9]+: [0-9]+ (states|elections)|^sim: ' \
	  || { grep -vE '^=== |^ *--- (PASS|SKIP)' $(STATE)/unit.log; exit 1; }
endef

.PHONY: test-unit
test-unit: ## Unit tests.
	$(call unit,-skip '^($(DEEP))$$' $(UNIT))

.PHONY: test-deep-unit
test-deep-unit: ## Mutants, the model and the simulator, with what these have tried.
	$(call unit,-run '^($(DEEP))$$' $(call DEEP_IN,api cmd controllers internal leader test/sim))

.PHONY: model
model: ## The membership policy in many more worlds than test-unit tries: 20 minutes, up to 19 GiB.
	QUORATE_MODEL=full GOMEMLIMIT=17GiB nice -n 10 go test -count=1 -timeout 12h -v -run '^TestModel$$' ./internal/plan/

.PHONY: test-integration
test-integration: ## Against a real kube-apiserver and real etcd processes.
	@go test -count=1 -timeout 25m -skip '^($(DEEP))$$' ./test/integration/...

.PHONY: test-deep-integration
test-deep-integration: ## Faults of stores and of processes, each in turn.
	@go test -count=1 -timeout 25m -run '^($(DEEP))$$' $(call DEEP_IN,test/integration)

# Microsoft's emulator of Azure's stores, which needs node and npm.
AZURITE := $(STATE)/azurite/node_modules/azurite/dist/src/blob/main.js
AZURITE_VERSION := 3.37.0

$(AZURITE):
	@command -v npm >/dev/null || { echo "there is no npm — azurite cannot be installed — install node, or leave this to make test-integration, which has a fake"; exit 2; }
	npm install --prefix $(STATE)/azurite --no-audit --no-fund --ignore-scripts azurite@$(AZURITE_VERSION)

.PHONY: test-azure
test-azure: $(AZURITE) ## The tests of backups in Azure against azurite instead of our fake; needs node.
	QUORATE_AZURITE=$(AZURITE) go test -count=1 -timeout 15m -run Cloud ./test/integration/snapshot

.PHONY: test-cluster
test-cluster: ## Tests of the local Kubernetes itself.
	go test -C test/cluster -count=1 -timeout 15m ./...

# Runs the specs that the filter takes; without colours where there is no terminal.
define e2e
	@rm -f $(STATE)/e2e-failures.txt
	@[ -t 1 ] || export GINKGO_NO_COLOR=TRUE; \
	go run github.com/onsi/ginkgo/v2/ginkgo --procs=$(E2E_PROCS) --timeout=45m --label-filter='$(1)' --output-dir=$(STATE) --json-report=e2e.json ./test/e2e \
	  || { tail -n 100 $(STATE)/e2e-failures.txt; exit 1; }
endef

.PHONY: test-e2e
test-e2e: cluster-up deploy ## One of each user story on the real cluster.
	$(call e2e,!long && !deep)

.PHONY: test-deep-e2e
test-deep-e2e: cluster-up deploy ## The other stories on the real cluster, with the faults of its operator, nodes and API server.
	$(call e2e,deep && !long)

# Further flags for soak: "-rounds 2", "-operator-dies always", "-only 'cut a node off,lose a node'".
SOAK_FLAGS ?=
.PHONY: soak
soak: cluster-up deploy ## Random faults for DURATION, as SEED decides; the report is in .cluster/soak.
	go build -o $(BIN)/soak ./test/soak
	$(BIN)/soak -duration $(DURATION) -seed $(SEED) $(SOAK_FLAGS)

.PHONY: soak-certificates
soak-certificates: cluster-up deploy ## Certificates of five minutes through five renewals, under load: 20 minutes.
	go run github.com/onsi/ginkgo/v2/ginkgo --timeout=45m --label-filter=long -v ./test/e2e

# How often the leader is replaced under load, for bench; 40 for the record.
BENCH_GAPS ?= 40
# Further flags for bench: "-runs 1" for a quick look, "-only sizes,gaps" for some of the figures.
BENCH_FLAGS ?=
.PHONY: bench
bench: cluster-up deploy ## Figures, with ratios against a bare StatefulSet in the same run; then bench-backup and bench-scale.
	go run ./test/bench -gaps $(BENCH_GAPS) $(BENCH_FLAGS)
	@$(MAKE) bench-backup bench-scale

# How many clusters, for bench-scale; 50 for a quick look.
CLUSTERS ?= 500
.PHONY: bench-scale
bench-scale: setup-assets ## What CLUSTERS clusters (500) cost one operator, on a real API server with fake pods.
	go run ./test/bench/scale -clusters $(CLUSTERS)

# The size of the data for bench-backup, in MiB.
BACKUP_MIB ?= 1024
.PHONY: bench-backup
bench-backup: setup-assets ## A backup of BACKUP_MIB to a local S3 server, beside etcdctl and zstd in the same run; the lag of an archive.
	QUORATE_BENCH_MIB=$(BACKUP_MIB) go test -count=1 -timeout 30m -run '^(TestThroughput|TestArchiveLag)$$' -v ./test/integration/snapshot

# Further flags for bench-leader: "-runs 20 -kills 3 -peer-runs 5 -peer-kills 2" for a quick look.
.PHONY: bench-leader
bench-leader: cluster-up ## The leader-elector beside client-go's leaderelection: handovers, requests, memory.
	go run ./test/bench/leader $(BENCH_FLAGS)
