"""Dashboards: that Grafana can take them, and that each panel asks for something that there is."""

import json

import yaml
from prometheus import expressions
from report import DEPLOY

FOLDER = DEPLOY / "grafana"
# What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h", "$node": ".*"}


def check(report, known):
    uids = set()
    dashboards = sorted(FOLDER.glob("*.json"))
    report.that(dashboards, "there is no dashboard")
    for path in dashboards:
        try:
            board = json.loads(path.read_text())
        except ValueError as error:
            report.that(False, f"{path.name} is no JSON: {error}")
            continue
        report.that(board.get("uid") and board["uid"] not in uids, f"{path.name}: its uid is not its own")
        uids.add(board.get("uid"))
        of_board(report, path.name, board, known)
    source = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yaml").read_text())
    report.that(source["datasources"][0]["type"] == "prometheus", "no Prometheus is provisioned")
    path = yaml.safe_load((FOLDER / "provisioning/dashboards/baken.yaml").read_text())
    report.that(path["providers"][0]["options"]["path"], "no dashboards are provisioned")


def of_board(report, name, board, known):
    variables = {it["name"]: it for it in board["templating"]["list"]}
    report.that({"datasource", "node"} <= set(variables), f"{name} has no variables datasource and node")
    given, cells = [], set()
    for panel in board["panels"]:
        title = f"{name}: {panel['title']}"
        place = panel["gridPos"]
        area = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        report.that(place["x"] + place["w"] <= 24 and not area & cells, f"{title}: lies over another")
        cells |= area
        if panel["type"] == "row":
            continue
        report.that(panel.get("targets"), f"{title}: asks for nothing")
        if panel["type"] in ("timeseries", "stat", "bargauge"):
            report.that(panel["fieldConfig"]["defaults"].get("unit"), f"{title}: has no unit")
        for target in panel.get("targets", []):
            text = target["expr"]
            report.that("$node" in text, f"{title}: is not by node")
            report.that(target["datasource"]["uid"] == "${datasource}", f"{title}: asks another source")
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            report.that("$" not in text, f"{title}: an unknown variable in {text}")
            given.append(text)
    given += [it["expr"] for it in board["annotations"]["list"]]
    expressions(report, given, known, name)
