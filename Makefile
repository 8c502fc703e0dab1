# `make run` and `make test` are the two commands of the README; the rest is
# what they are made of.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where a tool is found, and the Debian package that brings it.
# A name with .pc is a library that pkg-config knows.
BUILD_TOOLS := cc:build-essential make:build-essential pkg-config:pkg-config openssl.pc:libssl-dev
TEST_TOOLS := $(BUILD_TOOLS) curl:curl mosquitto:mosquitto mosquitto_pub:mosquitto-clients node:nodejs npm:npm python3:python3-venv victoria-metrics:victoria-metrics \
    java:default-jre-headless mvn:maven pg_ctlcluster:postgresql psql:postgresql-client \
    postfix:postfix saslpasswd2:sasl2-bin,libsasl2-modules,libsasl2-modules-db \
    promtool:prometheus systemd-analyze:systemd

CARGO_DENY_VERSION := 0.20.2
TOOLS := target/tools

.PHONY: help run test packages-run packages-test fmt-check lint deny unit release clients platforms demo-check crash-check storm-check forwarders-check cluster-check upgrade-check deploy-check bench bench-peers docs

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

run: packages-run ## build Baken and run the demo; Ctrl-C ends it
	cargo build --release --locked -p server
	exec target/release/baken demo

test: packages-test fmt-check lint deny unit release clients platforms demo-check crash-check storm-check forwarders-check cluster-check deploy-check ## everything that must pass

packages-run:
	@deploy/packages $(BUILD_TOOLS)

packages-test:
	@deploy/packages $(TEST_TOOLS)

fmt-check:
	cargo fmt --all -- --check

lint:
	cargo clippy --workspace --all-targets --locked -- -D warnings

deny: $(TOOLS)/bin/cargo-deny
	$(TOOLS)/bin/cargo-deny check bans licenses sources

$(TOOLS)/bin/cargo-deny:
	cargo install --debug --locked --root $(TOOLS) cargo-deny@$(CARGO_DENY_VERSION) # runs for a second: quick to build counts

unit: ## the Rust tests
	cargo test --workspace --locked

release: # what the checks below start; the benches' peers build by themselves
	cargo build --release --locked -p server -p loadtest

clients: release ## real MQTT clients against the release binary
	server/tests/clients/run

platforms: release ## forwarders against counterparts and the vendors' libraries
	server/tests/platforms/run

demo-check: release ## the demo must raise and clear its alarm
	target/release/baken demo --data target/demo-data --until-alarm --json target/demo.json

crash-check: release ## a few SIGKILLs under load with alarms, then the audit
	target/release/loadtest crash --kills 4 --seconds 16 --rate 100000 --alarms-share 2 --json target/crash.json

storm-check: release ## 10,000 routers that reconnect at once, then the audit
	target/release/loadtest run --connections 10000 --rate 5000 --keys 3 --storm-every-s 4 --seconds 10 --json target/storm.json

forwarders-check: release ## forwarders by MQTT over TLS under load, then the audit that all arrived
	target/release/loadtest forwarders --forwarders 200 --readings-per-s 50000 --seconds 4 --rounds 1 --warm-up-s 2 --json target/forwarders.json

cluster-check: release ## nodes, brokers and the database killed under load, and nodes rolled, then the audits
	target/release/loadtest cluster --nodes 3 --kill nodes,brokers,postgres --fault-every-s 6 --seconds 30 --alarms-share 1 --json target/cluster.json
	target/release/loadtest cluster --nodes 3 --brokers 1 --upgrade-to target/release/baken --seconds 16 --alarms-share 1 --no-replay --json target/rolled.json

# FROM is the older commit; its history has to be there.
upgrade-check: release ## nodes of an older commit (FROM=…) replaced by these under load, then the audit
	deploy/test/older $(FROM)
	target/release/loadtest cluster --nodes 3 --baken target/older/baken --upgrade-to target/release/baken --seconds 60 --alarms-share 1 --json target/upgrade.json

deploy-check: release ## units, images, manifests, alerts and dashboards, as far as that goes without running them
	deploy/check

bench: ## the benches of the hot paths
	cargo bench --workspace --locked

bench-peers: release ## Baken, rumqttd and mosquitto under the same load
	cargo run --release --locked -p benches --bin peers -- --json target/bench-peers.json

docs: ## write the generated references anew
	cargo run --locked -p server -- config reference > docs/reference/configuration.md
	cargo run --locked -p server -- openapi > docs/reference/openapi.json
