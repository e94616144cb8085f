# The only entry, CI's too. Each target checks first what it needs, says what it does on standard error, is
# quick when there is nothing to do, and takes options by ARGS="…".
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

ROOT     := $(CURDIR)
CACHE    := $(ROOT)/.cache
KAFKA    := $(CACHE)/kafka-4.4.0
# A release that keeps transaction markers for partitions without a leader: the fault schedules' control.
CONTROL  := $(CACHE)/kafka-4.2.2
REGISTRY := $(CACHE)/apicurio-3.3.3
FAKETIME := $(CACHE)/faketime
CARGO_FUZZ := $(CACHE)/cargo-fuzz-0.13.2
# The runner is as old as the library of the same name in Cargo.toml.
GUNGRAUN := $(CACHE)/gungraun-0.20.0
VALGRIND := $(CACHE)/valgrind
HOSTILE  := $(CACHE)/hostile
VENV     := $(CACHE)/venv
PROMETHEUS := $(CACHE)/prometheus-2.42
COLLECTOR  := $(CACHE)/otelcol-0.161.0
# The packages that check dashboards, those that draw them, and Grafana's types.
TELEMETRY  := $(CACHE)/telemetry
DRAW       := $(CACHE)/draw
TYPES      := $(CACHE)/dashboard-types
# The tools that check the chart, its API server, the schemas of objects, and the checks' packages.
CHART_BIN     := $(CACHE)/chart-bin
CHART_SERVER  := $(CACHE)/chart-server
CHART_SCHEMAS := $(CACHE)/chart-schemas
CHART_VENV    := $(CACHE)/chart-venv
# The packages of the trial of the image.
POD        := $(CACHE)/pod
# What looks at our dependencies.
DENY       := $(CACHE)/deny
JAVA     := $(if $(JAVA_HOME),$(JAVA_HOME)/bin/java,java)
MAVEN    := mvn -B -q
ARGS     ?=
# The end-to-end tests wait more than they compute.
export RUST_TEST_THREADS ?= $(shell expr 2 \* $$(nproc))
CARGO    := cargo --locked
# The first release of format version 1: what an upgrade comes from.
OLD_COMMIT := 9898d81
OLD        := $(CACHE)/old-$(OLD_COMMIT)

# $(call need,command,what to run when it is missing)
need = command -v $(1) > /dev/null || { echo "$(1) is missing: $(2)" >&2; exit 1; }

.PHONY: help
help: ## lists the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

.PHONY: run dev test check chart audit replay faults outage forbidden observe roll rotate hostile upgrade mutants bench \
  bench-scale bench-dedup instructions fuzz dashboards dashboards-json image pod deny clean
run: rust ## the playground on an embedded broker; ARGS="--once --json" ends with the account as JSON
	@$(CARGO) build --quiet --workspace --bins
	@target/debug/sluice-tests playground $(ARGS)

dev: rust kafka prometheus ## a real one-node Kafka, both services and Prometheus, for trials by hand
	@$(CARGO) build --quiet --workspace --bins
	@target/debug/sluice-tests dev $(ARGS)

test: rust kafka registry python collector chart-tools ## all tests: unit, contract, end-to-end on real Kafka, and make chart
	@$(CARGO) build --workspace --bins
	@$(CARGO) test --workspace $(ARGS)
	@test -n "$(ARGS)" || INGEST_TEST_THREADS=4 $(CARGO) test --package sluice-ingest --test contract
	@test -n "$(ARGS)" || $(CHART_VENV)/bin/python -B tests/chart/run.py

chart: rust chart-tools ## the chart: schemas, snapshots, unit tests, bad values; 1 minute; a real API server by ARGS="--server"
	@$(call need,openssl,apt-get install openssl)
	@$(CARGO) build --quiet --bin sluice-ingest --bin sluice-processor --bin sluicectl
	@$(if $(findstring --server,$(ARGS)),$(MAKE) --no-print-directory chart-server)
	@$(CHART_VENV)/bin/python -B tests/chart/run.py $(ARGS)

check: rust ## format, lints, what tests/tidy asks of the tree, that the mutants' patches fit, make dashboards, make deny and make instructions
	@cargo fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@$(CARGO) test --quiet -p sluice-tests --test tidy
	@for patch in tests/mutants/*.patch; do git apply --check $$patch || exit 1; done
	@$(MAKE) --no-print-directory dashboards
	@$(MAKE) --no-print-directory deny ARGS=
	@$(MAKE) --no-print-directory instructions ARGS=

audit: rust kafka ## 100,000 requests through real Kafka while the processor is killed, and the audit; at most 5 minutes; sluicectl's over 1,000,000 by ARGS="--ctl"
	@$(CARGO) build --release --workspace --bins
	@target/release/sluice-tests audit $(ARGS)

replay: rust kafka ## sluicectl replay over 100,000 raw records: nothing differs, and what one option decides; some 5 minutes
	@$(CARGO) build --release --workspace --bins
	@target/release/sluice-tests replay $(ARGS)

upgrade: rust kafka faketime old ## a rolling upgrade from an older build and back, under load, and the check; at most 15 minutes with the build
	@$(CARGO) build --workspace --bins
	@target/debug/sluice-tests faults --kind upgrade --old $(OLD) $(ARGS)

mutants: rust ## breaks the engine on purpose, patch by patch, and asks whether its tests notice; at most 20 minutes
	@tests/mutants/run.sh $(ARGS)

faults: rust kafka kafka-control faketime ## faults of every kind on three brokers under load, and the check; some 17 minutes, needs root
	@$(CARGO) build --workspace --bins
	@target/debug/sluice-tests faults $(ARGS)

outage: rust kafka ## all brokers gone for 5 minutes under load, and the check; at most 15 minutes, with ingest killed by ARGS="--kill-ingest-every 5"
	@$(CARGO) build --release --workspace --bins
	@target/release/sluice-tests outage $(ARGS)

forbidden: rust kafka ## one event topic may not be written for 10 minutes under load, and the check; some 14 minutes
	@$(CARGO) build --release --workspace --bins
	@target/release/sluice-tests forbidden $(ARGS)

observe: rust kafka prometheus collector $(TELEMETRY)/.done ## every panel, the alerts and the sums on live services; some 8 minutes, pictures by ARGS="--draw DIR"
	@$(CARGO) build --workspace --bins
	@target/debug/sluice-tests observe $(ARGS)

roll: rust kafka ## two processes of ingest restarted in turn under load, none of which is refused; at most 5 minutes
	@$(CARGO) build --release --workspace --bins
	@target/release/sluice-tests roll $(ARGS)

rotate: rust kafka ## certificate and URL token changed every 5 s under load, which must not notice; at most 5 minutes
	@$(CARGO) build --workspace --bins
	@target/debug/sluice-tests rotate $(ARGS)

hostile: rust kafka hostile-tools ## slow, huge, flooding, smuggling and replaying clients under good traffic; at most 12 minutes, over TLS by ARGS=--tls
	@$(CARGO) build --release --workspace --bins
	@target/release/sluice-tests hostile $(ARGS)

fuzz: rust $(CARGO_FUZZ)/bin/cargo-fuzz ## functions of bytes against their oracles under libFuzzer, 60 s each or ARGS="--seconds 300 --target NAME --jobs 2"; needs a nightly Rust
	@python3 -B tests/fuzz/run.py --cargo-fuzz $(CARGO_FUZZ)/bin/cargo-fuzz $(ARGS)

bench: rust kafka ## CPU, rates, times and memory of both services next to their floors, pinned; at most 25 minutes, a part by ARGS="--part ingest"
	@$(call need,taskset,apt-get install util-linux)
	@$(CARGO) build --release --workspace --bins
	@target/release/sluice-tests bench $(ARGS)

bench-scale: rust kafka $(VALGRIND)/valgrind ## how the cost of a request and a record grows on six axes; some 25 minutes, ARGS="--axis NAME --quick"; ARGS=--update writes the tables and plots of docs/
	@$(CARGO) build --release --workspace --bins
	@target/release/sluice-tests scale --valgrind $(VALGRIND)/package/usr $(ARGS)

bench-dedup: rust ## a dedup index of 20 million identities from their dedup-log records: seconds, and bytes a key
	@$(CARGO) bench --quiet -p sluice-processor --bench dedup

instructions: rust $(GUNGRAUN)/bin/gungraun-runner $(VALGRIND)/valgrind ## instructions of a record and a request, stage by stage, against the committed table; ARGS=--update writes it
	@python3 -B tests/instructions/run.py --runner $(GUNGRAUN)/bin/gungraun-runner --valgrind $(VALGRIND)/valgrind $(ARGS)

dashboards: $(PROMETHEUS)/.done $(TELEMETRY)/.done $(TYPES)/.done ## dashboards, alerts and runbooks against each other, Grafana's types and the metrics; 20 s
	@$(TELEMETRY)/bin/python -B tests/telemetry/check.py $(PROMETHEUS)/promtool $(TYPES)

dashboards-json: $(TELEMETRY)/.done ## the JSON of the dashboards, from tests/telemetry/dashboards
	@$(TELEMETRY)/bin/python -B tests/telemetry/dashboards.py

image: ## the image by buildah, without a daemon, as an OCI archive with its bill of materials in target/image; needs root
	@$(call need,buildah,apt-get install buildah)
	@$(call need,rustup,install Rust by rustup)
	@$(call need,mmdebstrap,apt-get install mmdebstrap)
	@nice -n 5 python3 -B tests/image/build.py $(ARGS)

pod: kafka $(POD)/.done chart-tools ## the image run by podman as the chart renders it, on a broker with SCRAM and the chart's ACLs; needs root
	@$(call need,podman,apt-get install podman runc)
	@$(POD)/bin/python -B tests/image/pod.py --helm $(CHART_BIN)/helm4 $(ARGS)

deny: rust $(DENY)/.done ## licences, sources, duplicates and advisories of what we depend on; ADVISORY_DB=FILE names a copy of RustSec's database
	@ADVISORY_DB='$(ADVISORY_DB)' tests/supply/deny.sh $(DENY)/bin/cargo-deny $(DENY)/advisories $(ARGS)

clean: ## what was built and fetched
	@rm -rf target $(CACHE)

.PHONY: rust
rust:
	@$(call need,cargo,install Rust by rustup; the version is $(shell sed -n 's/^channel = //p' rust-toolchain.toml))
	@$(call need,cc,apt-get install build-essential)
	@$(call need,perl,apt-get install perl)

.PHONY: old
old: $(OLD)/sluice-processor ## the services of an older build, into .cache

$(CARGO_FUZZ)/bin/cargo-fuzz:
	@echo "building cargo-fuzz into $(CARGO_FUZZ)" >&2
	@cargo install --quiet --locked --root $(CARGO_FUZZ) cargo-fuzz@0.13.2

$(GUNGRAUN)/bin/gungraun-runner:
	@echo "building gungraun-runner into $(GUNGRAUN)" >&2
	@cargo install --quiet --locked --debug --root $(GUNGRAUN) gungraun-runner@0.20.0

$(OLD)/sluice-processor: tests/old.sh
	@echo "building the services of $(OLD_COMMIT)" >&2
	@tests/old.sh $(OLD_COMMIT) $(OLD)

.PHONY: kafka kafka-control registry faketime hostile-tools python prometheus collector draw chart-tools chart-server
kafka: $(KAFKA)/kafka.jsa ## Apache Kafka for the tests, into .cache
kafka-control: $(CONTROL)/kafka.jsa ## an earlier Apache Kafka, for make faults, into .cache
registry: $(REGISTRY)/.done ## the Apicurio schema registry for the readers' tests, into .cache
faketime: $(FAKETIME)/.done ## the library behind wrong clocks, for tests with root, into .cache
hostile-tools: $(HOSTILE)/.done $(CACHE)/bin/h2spec ## clients that attack, for make hostile, into .cache
python: $(VENV)/.done ## the Python readers' packages, into .cache
prometheus: $(PROMETHEUS)/.done ## Prometheus and promtool, into .cache
collector: $(COLLECTOR)/otelcol ## the OpenTelemetry Collector with span metrics, into .cache; 3 minutes
draw: $(DRAW)/.done ## the packages of tests/telemetry/draw.py, into .cache
chart-tools: prometheus $(CHART_VENV)/.done $(CHART_SCHEMAS)/.done ## what make chart runs, into .cache; 5 minutes
chart-server: $(CHART_SERVER)/.done ## Kubernetes' API server and etcd, into .cache; 4 minutes

$(KAFKA)/.done $(CONTROL)/.done: $(CACHE)/kafka-%/.done: tests/kafka/pom.xml tests/kafka/SHA256SUMS-%
	@$(call need,$(JAVA),apt-get install openjdk-17-jdk-headless)
	@$(call need,mvn,apt-get install maven)
	@echo "fetching Apache Kafka into $(@D)" >&2
	@rm -rf $(@D) && mkdir -p $(@D)
	@$(MAVEN) -f tests/kafka/pom.xml -Dkafka.version=$* dependency:copy-dependencies -DoutputDirectory=$(@D)/libs >&2
	@cd $(@D)/libs && sha256sum --quiet --check --strict $(ROOT)/tests/kafka/SHA256SUMS-$*
	@test "$$(ls $(@D)/libs | wc -l)" = "$$(wc -l < tests/kafka/SHA256SUMS-$*)" || \
	  { echo "Maven brought jars that tests/kafka/SHA256SUMS-$* does not name" >&2; exit 1; }
	@touch $@

# An archive is good for one Java and one place of the jars; a node that cannot use it starts slower, and
# starts.
$(KAFKA)/kafka.jsa $(CONTROL)/kafka.jsa: $(CACHE)/kafka-%/kafka.jsa: $(CACHE)/kafka-%/.done tests/kafka/archive.sh
	@$(call need,perl,apt-get install perl)
	@echo "making the class archive of Kafka $*" >&2
	@rm -f $@
	@tests/kafka/archive.sh $(JAVA) $(@D)/libs $@

$(REGISTRY)/.done: tests/registry/pom.xml tests/registry/SHA256SUMS tests/registry/java.sh
	@$(call need,mvn,apt-get install maven)
	@tests/registry/java.sh > /dev/null
	@echo "fetching the schema registry into $(REGISTRY)" >&2
	@rm -rf $(REGISTRY) && mkdir -p $(REGISTRY)
	@$(MAVEN) -f tests/registry/pom.xml dependency:copy-dependencies -DoutputDirectory=$(REGISTRY)/download >&2
	@cd $(REGISTRY)/download && sha256sum --quiet --check --strict $(ROOT)/tests/registry/SHA256SUMS
	@tar -xzf $(REGISTRY)/download/*.tar.gz -C $(REGISTRY)
	@rm -rf $(REGISTRY)/download
	@touch $@

# Whatever version the system's release has: it is a tool of the tests, and every libfaketime since 0.9.8
# serves.
$(FAKETIME)/.done:
	@$(call need,apt-get,put your system's libfaketimeMT.so.1 into $(FAKETIME) and run: touch $@)
	@echo "fetching libfaketime into $(FAKETIME)" >&2
	@rm -rf $(FAKETIME)
	@tests/debian.sh $(FAKETIME)/package libfaketime
	@cp $(FAKETIME)/package/usr/lib/*/faketime/libfaketimeMT.so.1 $(FAKETIME)/ || \
	  { echo "the package libfaketime has no libfaketimeMT.so.1" >&2; exit 1; }
	@rm -rf $(FAKETIME)/package
	@touch $@

# Whatever version the system's release has, which the table of the counts names. A script calls it that says
# where its parts are, and makes random bytes and the time the same in each run.
$(VALGRIND)/valgrind: tests/instructions/fixed.c
	@$(call need,apt-get,put a script that runs your system's valgrind at $@)
	@echo "fetching valgrind into $(VALGRIND)" >&2
	@rm -rf $(VALGRIND)
	@tests/debian.sh $(VALGRIND)/package valgrind
	@cc -O2 -shared -fPIC -o $(VALGRIND)/fixed.so $<
	@printf '%s\n' '#!/bin/sh' 'here=$${0%/*}' 'export VALGRIND_LIB="$$here/package/usr/libexec/valgrind"' \
	  'LD_PRELOAD="$$here/fixed.so" exec "$$here/package/usr/bin/valgrind.bin" "$$@"' > $@
	@chmod +x $@

# Whatever versions the system's release has, with the two libraries that nothing else here brings.
$(HOSTILE)/.done:
	@$(call need,apt-get,put your system's slowhttptest and h2load into $(HOSTILE)/bin and run: touch $@)
	@echo "fetching slowhttptest and h2load into $(HOSTILE)" >&2
	@rm -rf $(HOSTILE) && mkdir -p $(HOSTILE)/bin $(HOSTILE)/lib
	@tests/debian.sh $(HOSTILE)/package slowhttptest nghttp2-client libev4 libjemalloc2
	@cp $(HOSTILE)/package/usr/bin/slowhttptest $(HOSTILE)/package/usr/bin/h2load $(HOSTILE)/bin/
	@cp $(HOSTILE)/package/usr/lib/*/*.so.* $(HOSTILE)/lib/
	@! LD_LIBRARY_PATH=$(HOSTILE)/lib ldd $(HOSTILE)/bin/* | grep "not found" >&2 || \
	  { echo "install what is not found: apt-get install nghttp2-client slowhttptest brings it" >&2; exit 1; }
	@rm -rf $(HOSTILE)/package
	@touch $@

$(CACHE)/bin/h2spec: tests/h2spec/go.mod tests/h2spec/go.sum
	@$(call need,go,install Go; the version is in tests/h2spec/go.mod)
	@echo "building h2spec into $(CACHE)/bin" >&2
	@cd tests/h2spec && go build -trimpath -ldflags='-s -w' -o $@ github.com/summerwind/h2spec/cmd/h2spec
	@touch $@

# The version is a part of the name: the rules are tested by the release that evaluates them. Its pages, at
# /classic/graph and /classic/alerts, need what its package names as dependencies.
PAGES := $(addprefix libjs-,bootstrap4 d3 eonasdan-bootstrap-datetimepicker jquery jquery-hotkeys moment \
  moment-timezone mustache popper.js rickshaw)
$(PROMETHEUS)/.done:
	@$(call need,apt-get,put prometheus and promtool 2.42 into $(PROMETHEUS) and run: touch $@)
	@echo "fetching Prometheus into $(PROMETHEUS)" >&2
	@rm -rf $(PROMETHEUS)
	@tests/debian.sh $(PROMETHEUS)/package 'prometheus=2.42*' $(PAGES)
	@cp $(PROMETHEUS)/package/usr/bin/prometheus $(PROMETHEUS)/package/usr/bin/promtool $(PROMETHEUS)/
	@find $(PROMETHEUS)/package/usr/share/prometheus -xtype l -delete
	@cp -rL $(PROMETHEUS)/package/usr/share/prometheus/web $(PROMETHEUS)/web
	@rm -rf $(PROMETHEUS)/package
	@touch $@

$(COLLECTOR)/otelcol: tests/telemetry/collector/builder.yaml
	@$(call need,go,install Go 1.25 or newer)
	@echo "building the OpenTelemetry Collector into $(COLLECTOR)" >&2
	@rm -rf $(COLLECTOR) && mkdir -p $(COLLECTOR)/source
	@sed 's|^dist:|dist:\n  output_path: $(COLLECTOR)/source|' $< > $(COLLECTOR)/builder.yaml
	@CGO_ENABLED=0 go run go.opentelemetry.io/collector/cmd/builder@v0.161.0 \
	  --config $(COLLECTOR)/builder.yaml --ldflags='-s -w' > $(COLLECTOR)/log 2>&1 || \
	  { tail -20 $(COLLECTOR)/log >&2; exit 1; }
	@cp $(COLLECTOR)/source/otelcol $@
	@rm -rf $(COLLECTOR)/source

$(TELEMETRY)/.done: tests/telemetry/requirements.txt
$(DRAW)/.done: tests/telemetry/requirements-draw.txt
$(POD)/.done: tests/image/requirements.txt
$(CHART_VENV)/.done: tests/chart/requirements.txt
$(DENY)/.done: tests/supply/requirements.txt
$(VENV)/.done: tests/python/requirements.txt
$(TELEMETRY)/.done $(DRAW)/.done $(POD)/.done $(CHART_VENV)/.done $(DENY)/.done $(VENV)/.done:
	@$(call need,python3,apt-get install python3 python3-venv)
	@echo "fetching the packages of $< into $(@D)" >&2
	@rm -rf $(@D)
	@python3 -m venv $(@D) || { echo "the module venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(TYPES)/.done: tests/telemetry/types/package.json tests/telemetry/types/package-lock.json
	@$(call need,npm,apt-get install nodejs npm)
	@echo "fetching Grafana's types into $(TYPES)" >&2
	@rm -rf $(TYPES) && mkdir -p $(TYPES)
	@cp $^ $(TYPES)/
	@cd $(TYPES) && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# $(call chart-tool,name,module,package,the folder of its go.mod,the variable that holds its version): a
# binary of CHART_BIN, by a marker with the version that the go.mod requires. One go.mod serves for most, so
# that what they share is built once.
version = $(shell sed -n 's|^\(require \)\?[[:space:]]*$(1) \(v[^ ]*\).*|\2|p' tests/chart/$(2)/go.mod)
define chart-tool
chart-tools: $$(CHART_BIN)/.$(1)-$$(call version,$(2),$(4))
$$(CHART_BIN)/.$(1)-$$(call version,$(2),$(4)): tests/chart/$(4)/go.mod tests/chart/$(4)/go.sum
	@$$(call need,go,install Go 1.26 or newer)
	@echo "building $(1) into $$(CHART_BIN)" >&2
	@mkdir -p $$(CHART_BIN)
	@cd tests/chart/$(4) && CGO_ENABLED=0 go build -trimpath \
	  -ldflags='-s -w $$(if $(5),-X $(5)=$$(call version,$(2),$(4)))' -o $$(CHART_BIN)/$(1) $(2)$(3)
	@touch $$@
endef
$(eval $(call chart-tool,helm4,helm.sh/helm/v4,/cmd/helm,tools,helm.sh/helm/v4/internal/version.version))
$(eval $(call chart-tool,helm3,helm.sh/helm/v3,/cmd/helm,tools,helm.sh/helm/v3/internal/version.version))
$(eval $(call chart-tool,helm-unittest,github.com/helm-unittest/helm-unittest,/cmd/helm-unittest,tools))
$(eval $(call chart-tool,kubeconform,github.com/yannh/kubeconform,/cmd/kubeconform,tools))
$(eval $(call chart-tool,helm-docs,github.com/norwoodj/helm-docs,/cmd/helm-docs,tools))
$(eval $(call chart-tool,kube-score,github.com/zegl/kube-score,/cmd/kube-score,kube-score))

$(CHART_SERVER)/.done: tests/chart/apiserver/go.mod tests/chart/apiserver/go.sum tests/chart/apiserver/main.go
	@$(call need,go,install Go 1.26 or newer)
	@echo "building Kubernetes' API server and etcd into $(CHART_SERVER)" >&2
	@mkdir -p $(CHART_SERVER)
	@cd tests/chart/apiserver && CGO_ENABLED=0 go build -trimpath \
	  -ldflags='-s -w -X k8s.io/component-base/version.gitVersion=$(call version,k8s.io/kubernetes,apiserver)' \
	  -o $(CHART_SERVER)/kube-apiserver .
	@cd tests/chart/apiserver && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o $(CHART_SERVER)/etcd \
	  go.etcd.io/etcd/server/v3
	@touch $@

$(CHART_SCHEMAS)/.done: tests/chart/schemas.py tests/chart/crds.txt tests/chart/requirements-schemas.txt \
  $(wildcard tests/chart/crds/*.yaml) $(CHART_VENV)/.done
	@$(call need,go,install Go 1.26 or newer)
	@echo "fetching the schemas of objects into $(@D)" >&2
	@rm -rf $(@D)-package
	@$(CHART_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes \
	  --target $(@D)-package -r tests/chart/requirements-schemas.txt
	@$(CHART_VENV)/bin/python -B tests/chart/schemas.py $(@D) $(@D)-package
	@rm -rf $(@D)-package
	@touch $@
