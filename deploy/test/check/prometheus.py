"""Alert rules: that Prometheus takes them, that they do what they say, and that what they name is there."""

import re
import tempfile

import metrics
import yaml
from report import DEPLOY, ROOT

FOLDER = DEPLOY / "prometheus"
OPERATIONS = "docs/operations.md"


def check(report, known):
    if not report.needs("promtool", "prometheus"):
        return
    report.run(["promtool", "check", "rules", FOLDER / "rules.yaml"], "promtool refuses the rules")
    report.run(["promtool", "test", "rules", FOLDER / "rules_test.yaml"], "alerts do not do what they say")
    report.run(["promtool", "check", "config", FOLDER / "prometheus.yaml"], "promtool refuses the configuration")
    alerts = [rule for group in load("rules.yaml")["groups"] for rule in group["rules"]]
    tests = load("rules_test.yaml")
    anchors = headings()
    for rule in alerts:
        of_rule(report, rule, known, anchors)
    names = [rule["alert"] for rule in alerts]
    report.that(len(names) == len(set(names)), "two alerts have one name")
    for name in sorted(set(names)):
        raised = [it for it in asked(tests) if it["alertname"] == name]
        report.that(any(it.get("exp_alerts") for it in raised), f"{name} is raised in no test")
        report.that(any(not it.get("exp_alerts") for it in raised), f"{name} is quiet in no test")
    for anchor, text in anchors.items():
        if text.startswith("Baken"):
            report.that(text in names, f"{OPERATIONS} tells of {text}, which is no alert")
    for test in tests["tests"]:
        for series in test["input_series"]:
            name = re.match(r"[\w:]+", series["series"])[0]
            report.that(metrics.is_known(name, known), f"test of {test['name']}: there is no metric {name}")
    expressions(report, [rule["expr"] for rule in alerts], known, "rules.yaml")


def of_rule(report, rule, known, anchors):
    name, notes = rule["alert"], rule.get("annotations", {})
    report.that(rule.get("labels", {}).get("severity") in ("critical", "warning"), f"{name} has no severity")
    for note in ("summary", "description"):
        report.that(notes.get(note), f"{name} has no {note}")
    file, _, anchor = notes.get("runbook", "").partition("#")
    report.that(file == OPERATIONS, f"{name} has no runbook in {OPERATIONS}")
    report.that(anchor in anchors, f"{name}: {OPERATIONS} has no heading #{anchor}")
    report.that(anchor == name.lower(), f"{name}: its runbook is that of #{anchor}")


def asked(tests):
    return [it for test in tests["tests"] for it in test.get("alert_rule_test", [])]


def load(name):
    return yaml.safe_load((FOLDER / name).read_text())


def headings():
    """Anchors of the headings, as GitHub makes them, with their text."""
    path = ROOT / OPERATIONS
    found = {}
    fenced = False
    for line in path.read_text().splitlines() if path.exists() else []:
        fenced ^= line.startswith("```")
        heading = re.match(r"#{1,6} +(.*?) *#*$", line)
        if heading and not fenced:
            text = heading[1].replace("`", "")
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found[slug] = text
    return found


def expressions(report, given, known, where):
    """That expressions are PromQL, and name metrics of the binary."""
    for expression in given:
        for name in sorted(metrics.named(expression)):
            report.that(metrics.is_known(name, known), f"{where}: the sources register no metric {name}")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        rules = [{"record": f"it:{number}", "expr": text} for number, text in enumerate(given)]
        yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}, file)
        file.flush()
        report.run(["promtool", "check", "rules", "--lint=none", file.name], f"{where}: not PromQL")
