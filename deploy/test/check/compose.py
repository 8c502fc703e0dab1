"""Compose files: by the schema of their specification, by what they refer to, and by compose where it is."""

import json
import shutil
import subprocess

import jsonschema
import settings
import yaml
from report import DEPLOY

FOLDER = DEPLOY / "compose"
SCHEMA = DEPLOY / "test/compose-spec.json"
ROLES = {"ingest", "recorder", "alarms", "notifier", "forwarders", "api"}


def check(report):
    schema = json.loads(SCHEMA.read_text())
    for name in ("single.yaml", "cluster.yaml", "monitoring.yaml"):
        document = yaml.safe_load((FOLDER / name).read_text())
        for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
            report.that(False, f"{name}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
        references(report, name, document)
    settings.check(report, FOLDER / "config/single.toml")
    nodes = baken_services("cluster.yaml")
    roles = []
    for name, service in nodes.items():
        variables = service["environment"]
        report.that(variables.get("BAKEN_SERVER__NODE") == name, f"cluster.yaml: {name} is called otherwise")
        roles += variables["BAKEN_SERVER__ROLES"].split(",")
        settings.check(report, FOLDER / "config/cluster.toml", variables)
    report.that(set(roles) == ROLES, f"cluster.yaml: the roles are {sorted(set(roles))}")
    report.that(roles.count("ingest") >= 2, "cluster.yaml: fewer than two nodes take routers in")
    for file, services in (("single", baken_services("single.yaml")), ("cluster", nodes)):
        targets = yaml.safe_load((FOLDER / f"config/targets-{file}.yaml").read_text())
        watched = {it["labels"]["instance"] for it in targets}
        report.that(watched == set(services), f"targets-{file}.yaml names others than {sorted(services)}")
        for it in targets:
            report.that(it["targets"] == [f"{it['labels']['instance']}:8080"], f"targets-{file}.yaml: {it}")
    ask_compose(report)


def baken_services(name):
    services = yaml.safe_load((FOLDER / name).read_text())["services"]
    return {key: it for key, it in services.items() if it.get("image", "").startswith("${BAKEN_IMAGE")}


def references(report, name, document):
    services = document["services"]
    for key, service in services.items():
        where = f"{name}: {key}"
        base = service.get("extends")
        if base:
            other = yaml.safe_load((FOLDER / base["file"]).read_text())["services"]
            if not report.that(base["service"] in other, f"{where}: extends {base}, which is not there"):
                continue
            service = {**other[base["service"]], **service}
        report.that(service.get("image"), f"{where}: has no image")
        report.that(":latest" not in service.get("image", ""), f"{where}: its image may be any")
        report.that(service.get("healthcheck"), f"{where}: nobody looks whether it is well")
        for needed in service.get("depends_on", {}):
            report.that(needed in services, f"{where}: waits for {needed}, which is not there")
        for network in service.get("networks", []):
            report.that(network in document.get("networks", {}), f"{where}: there is no network {network}")
        for secret in service.get("secrets", []):
            secret = secret if isinstance(secret, str) else secret["source"]
            report.that(secret in document.get("secrets", {}), f"{where}: there is no secret {secret}")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                report.that((FOLDER / source).exists(), f"{where}: {source} is not there")
            else:
                report.that(source in document.get("volumes", {}), f"{where}: there is no volume {source}")
    for secret in document.get("secrets", {}).values():
        made = (FOLDER / "secrets").read_text()
        file = secret["file"].removeprefix("./secrets.d/")
        report.that(file in made, f"{name}: deploy/compose/secrets does not make {secret['file']}")


def ask_compose(report):
    """The same by compose itself, which needs no engine for it."""
    command = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*command, "version"], capture_output=True).returncode:
        report.not_checked("compose's own `config`, as compose is not here; its schema and references were")
        return
    for name in ("single.yaml", "cluster.yaml"):
        report.run([*command, "-f", FOLDER / name, "config", "--quiet"], f"compose refuses {name}")
