"""Manifests: strictly by Kubernetes' own schemas, and by what they say of one another."""

import re
import shutil
import tomllib

import jsonschema
import kubernetes_validate
import prometheus
import settings
import yaml
from compose import ROLES
from report import DEPLOY

FOLDER = DEPLOY / "kubernetes"
# The oldest and the newest that manifests are written for.
VERSIONS = ["1.29", "1.37"]
WORKLOADS = ("StatefulSet", "Deployment")


def check(report, known):
    kustomization = load(FOLDER / "kustomization.yaml")[0]
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    report.that(set(kustomization["resources"]) == files, "kustomization.yaml does not list what is there")
    documents = []
    for name in sorted(files):
        for document in load(FOLDER / name):
            documents.append(document)
            strictly(report, name, document)
    maps = {}
    for made in kustomization.get("configMapGenerator", []):
        maps[made["name"]] = {}
        for file in made["files"]:
            key, _, path = file.rpartition("=")
            report.that((FOLDER / path).exists(), f"kustomization.yaml: {path} is not there")
            maps[made["name"]][key] = FOLDER / path
    together(report, documents, kustomization, maps)
    monitoring(report, documents, known)
    if shutil.which("kubectl"):
        report.run(["kubectl", "kustomize", FOLDER], "kustomize refuses the folder")
    else:
        report.not_checked("kustomize's own build, as kubectl is not here; its files were one by one")


def load(path):
    return [it for it in yaml.safe_load_all(path.read_text()) if it]


def strictly(report, name, document):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
            report.that(True, "")
        except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
            place = "/".join(str(it) for it in getattr(error, "path", []))
            message = str(getattr(error, "message", error)).splitlines()[0]
            report.that(False, f"{name}: {document['kind']} {place}, for {version}: {message[:300]}")
        except Exception as error:  # A kind or version that there is no schema of.
            report.that(False, f"{name}: {document.get('kind')}, for {version}: {error!r}")


def together(report, documents, kustomization, maps):
    workloads = {it["metadata"]["name"]: it for it in documents if it["kind"] in WORKLOADS}
    roles = []
    for name, workload in workloads.items():
        roles += of_workload(report, name, workload, documents, maps)
    report.that(set(roles) == ROLES, f"the roles are {sorted(set(roles))}")
    ingest = [it for it in workloads.values() if "ingest" in variables(it)["BAKEN_SERVER__ROLES"].split(",")]
    nodes = sum(it["spec"]["replicas"] for it in ingest)
    report.that(nodes >= 2, f"{nodes} nodes take routers in: nobody is there for those of a node that stops")
    labels = [it["spec"]["template"]["metadata"]["labels"] for it in workloads.values()]
    of_kind = lambda kind: [it for it in documents if it["kind"] == kind]
    for it in of_kind("Service"):
        where = f"Service {it['metadata']['name']}"
        behind = [w for w in workloads.values() if matches(it["spec"]["selector"], pod_labels(w))]
        report.that(len(behind) == 1, f"{where} leads to {len(behind)} workloads")
        for port in it["spec"]["ports"]:
            named = [p for w in behind for p in ports(w) if p["name"] == port["targetPort"]]
            report.that(named, f"{where}: nothing listens at {port['targetPort']}")
    for it in of_kind("PodDisruptionBudget"):
        found = [one for one in labels if matches(it["spec"]["selector"]["matchLabels"], one)]
        report.that(len(found) == 1, f"PodDisruptionBudget {it['metadata']['name']} is about {len(found)}")
    report.that(len(of_kind("PodDisruptionBudget")) == len(workloads), "not each workload has a budget")
    for it in of_kind("HorizontalPodAutoscaler"):
        target = it["spec"]["scaleTargetRef"]
        found = workloads.get(target["name"])
        where = f"HorizontalPodAutoscaler {it['metadata']['name']}"
        if report.that(found and found["kind"] == target["kind"], f"{where}: {target['name']} is not there"):
            report.that("replicas" not in found["spec"], f"{where}: each apply would undo what it does")
    listen = {p["name"] for w in workloads.values() for p in ports(w)}
    for it in of_kind("NetworkPolicy"):
        where = f"NetworkPolicy {it['metadata']['name']}"
        report.that(any(selects(it["spec"]["podSelector"], one) for one in labels), f"{where} is about nobody")
        for rule in it["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                report.that(port["port"] in listen, f"{where}: nothing listens at {port['port']}")
    images = {it["name"]: it for it in kustomization["images"]}
    for it in images.values():
        report.that(it.get("newTag") not in (None, "latest"), f"the image {it['name']} may be any")
    for workload in workloads.values():
        report.that(container(workload)["image"] in images, "an image is not kustomization's")


def of_workload(report, name, workload, documents, maps):
    spec = workload["spec"]["template"]["spec"]
    one = container(workload)
    report.that(matches(workload["spec"]["selector"]["matchLabels"], pod_labels(workload)), f"{name} does not select its pods")
    accounts = [it["metadata"]["name"] for it in documents if it["kind"] == "ServiceAccount"]
    report.that(spec["serviceAccountName"] in accounts, f"{name}: there is no such service account")
    # BAKEN_API_PORT, of a service baken-api, would be taken for a setting that is misspelt.
    report.that(spec.get("enableServiceLinks") is False, f"{name}: services would set variables of ours")
    secure = spec["securityContext"]
    report.that(secure["runAsNonRoot"] and secure["seccompProfile"]["type"] == "RuntimeDefault", f"{name} is not restricted")
    own = one["securityContext"]
    is_bare = not own["allowPrivilegeEscalation"] and own["readOnlyRootFilesystem"] and own["capabilities"]["drop"] == ["ALL"]
    report.that(is_bare, f"{name}: its container may more than it must")
    for probe, path in (("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        asked = one[probe]["httpGet"]
        report.that(asked["path"] == f"/health/{path}", f"{name}: {probe} asks {asked['path']}")
        report.that(asked["port"] in [p["name"] for p in one["ports"]], f"{name}: {probe} asks nobody")
    report.that(one["resources"]["requests"] and one["resources"]["limits"]["memory"], f"{name} may take all")
    volumes = {it["name"]: it for it in spec["volumes"]}
    for mount in one["volumeMounts"]:
        report.that(mount["name"] in volumes, f"{name}: there is no volume {mount['name']}")
    config = volumes["config"]["configMap"]["name"]
    if report.that(config in maps, f"{name}: there is no ConfigMap {config}"):
        file = maps[config]["baken.toml"]
        report.that(one["args"] == ["serve", "--config", "/etc/baken/baken.toml"], f"{name}: starts otherwise")
        values = variables(workload)
        settings.check(report, file, {**values, "BAKEN_SERVER__NODE": "a"})
        text = file.read_text()
        seconds = tomllib.loads(text)["server"]["shutdown_timeout_ms"] / 1000
        wait = int(one["lifecycle"]["preStop"]["exec"]["command"][1])
        grace = spec["terminationGracePeriodSeconds"]
        is_ingest = "ingest" in values["BAKEN_SERVER__ROLES"].split(",")
        # Routers are sent away within some minutes.
        report.that(grace >= wait + seconds + (240 if is_ingest else 10), f"{name} is killed before it has stopped")
        mounted = [it["mountPath"] for it in one["volumeMounts"]]
        for secret in re.findall(r"(/run/secrets/[\w-]+)/", text):
            needed = secret in mounted or (secret.endswith("-tls") and not is_ingest)
            report.that(needed, f"{name}: {secret} is not mounted")
    return variables(workload)["BAKEN_SERVER__ROLES"].split(",")


def monitoring(report, documents, known):
    rules = load(FOLDER / "monitoring/prometheus-adapter.yaml")[0]["rules"]
    made = {it["name"]["as"] for it in rules}
    for it in documents:
        if it["kind"] == "HorizontalPodAutoscaler":
            for metric in it["spec"]["metrics"]:
                if metric["type"] == "Pods":
                    name = metric["pods"]["metric"]["name"]
                    report.that(name in made, f"the prometheus-adapter makes no {name}")
    asked = []
    for rule in rules:
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'pod="a"')
        asked += [query, rule["seriesQuery"]]
    prometheus.expressions(report, asked, known, "prometheus-adapter.yaml")
    scrape = load(FOLDER / "monitoring/scrape.yaml")[0]["scrape_configs"]
    labels = {it.get("target_label") for job in scrape for it in job["relabel_configs"]}
    report.that({"namespace", "pod", "instance"} <= labels, "scrape.yaml makes no namespace, pod, instance")
    report.that([job["job_name"] for job in scrape] == ["baken"], "scrape.yaml: rules look for the job baken")
    # Debian's promtool knows no Kubernetes, so the rest is checked without it.
    for job in scrape:
        job.pop("kubernetes_sd_configs")
        job["static_configs"] = [{"targets": ["a:8080"]}]
    text = yaml.safe_dump({"scrape_configs": scrape})
    report.run(["promtool", "check", "config", "/dev/stdin"], "promtool refuses scrape.yaml", input=text)


def container(workload):
    return workload["spec"]["template"]["spec"]["containers"][0]


def ports(workload):
    return container(workload)["ports"]


def variables(workload):
    return {it["name"]: it["value"] for it in container(workload)["env"] if "value" in it}


def pod_labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def matches(selector, labels):
    return selector.items() <= labels.items()


def selects(selector, labels):
    expressions = selector.get("matchExpressions", [])
    is_in = all(labels.get(it["key"]) in it["values"] for it in expressions if it["operator"] == "In")
    return is_in and matches(selector.get("matchLabels", {}), labels)
