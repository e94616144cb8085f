# The only entry, CI's too. Each target checks first what it needs, says what it does on standard error, is quick when
# there is nothing to do, and takes options by ARGS="…".
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

ROOT     := $(CURDIR)
CACHE    := $(ROOT)/.cache
KAFKA    := $(CACHE)/kafka-4.4.0
REGISTRY := $(CACHE)/apicurio-3.3.3
VENV     := $(CACHE)/venv
JAVA     := $(if $(JAVA_HOME),$(JAVA_HOME)/bin/java,java)
MAVEN    := mvn -B -q
ARGS     ?=

# $(call need,command,what to run when it is missing)
need = command -v $(1) > /dev/null || { echo "$(1) is missing: $(2)" >&2; exit 1; }

.PHONY: help
help: ## lists the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

.PHONY: kafka registry python
kafka: $(KAFKA)/kafka.jsa ## Apache Kafka for the tests, into .cache
registry: $(REGISTRY)/.done ## the Apicurio schema registry for the readers' tests, into .cache
python: $(VENV)/.done ## the Python readers' packages, into .cache

$(KAFKA)/.done: tests/kafka/pom.xml tests/kafka/SHA256SUMS
	@$(call need,$(JAVA),apt-get install openjdk-17-jdk-headless)
	@$(call need,mvn,apt-get install maven)
	@echo "fetching Apache Kafka into $(KAFKA)" >&2
	@rm -rf $(KAFKA) && mkdir -p $(KAFKA)
	@$(MAVEN) -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(KAFKA)/libs >&2
	@cd $(KAFKA)/libs && sha256sum --quiet --check --strict $(ROOT)/tests/kafka/SHA256SUMS
	@test "$$(ls $(KAFKA)/libs | wc -l)" = "$$(wc -l < tests/kafka/SHA256SUMS)" || \
	  { echo "Maven brought jars that tests/kafka/SHA256SUMS does not name" >&2; exit 1; }
	@touch $@

# An archive is good for one Java and one place of the jars; a node that cannot use it starts slower, and starts.
$(KAFKA)/kafka.jsa: $(KAFKA)/.done tests/kafka/archive.sh
	@$(call need,perl,apt-get install perl)
	@echo "making the class archive of Kafka" >&2
	@rm -f $@
	@tests/kafka/archive.sh $(JAVA) $(KAFKA)/libs $@

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

$(VENV)/.done: tests/python/requirements.txt
	@$(call need,python3,apt-get install python3 python3-venv)
	@echo "fetching the Python readers' packages into $(VENV)" >&2
	@rm -rf $(VENV)
	@python3 -m venv $(VENV) || { echo "the module venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/python/requirements.txt
	@touch $@
