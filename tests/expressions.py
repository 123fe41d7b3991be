"""Every expression of PromQL that we ship, by where it stands: rules and dashboards."""

import json
import re

import yaml

from parts import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
STORIES = DEPLOY / "prometheus" / "tests" / "rules.yml"
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALL = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
BOARDS = sorted((DEPLOY / "grafana").glob("*.json"))


def targets():
    for board in BOARDS:
        told = json.loads(board.read_text())
        for panel in told["panels"]:
            for target in panel["targets"]:
                yield f"{board.stem}: {panel['title']} {target['refId']}", target["expr"]
        yield f"{board.stem}: annotations", told["annotations"]["list"][0]["expr"]
        for variable in told["templating"]["list"]:
            if variable["type"] == "query":
                inside = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
                yield f"{board.stem}: ${variable['name']}", f"count by ({inside[2]}) ({inside[1]})"


EXPRESSIONS = dict(targets()) | {
    f"rules: {rule.get('alert') or rule['record']}": rule["expr"] for rule in ALL
}
