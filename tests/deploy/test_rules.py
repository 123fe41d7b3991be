"""Rules and dashboards name what there is: metrics, labels, their values, and commands."""

import json
import re

import pytest

import dashboards
from expressions import ALERTS, ALL, BOARDS, EXPRESSIONS, RULES, STORIES
from prometheus_server import promtool
from promql import Selector, named
from streamfaas.cli.main import COMMANDS
from streamfaas.docs import topics
from streamfaas.flow.outcome import Fault
from streamfaas.telemetry import metrics
from streamfaas.telemetry.instruments import Histogram

OF_PROMETHEUS = {"job", "instance"}
VALUES = {
    "outcome": {"succeeded", "failed", "filtered", "expired", "given_back"},
    "error_type": {fault.value for fault in Fault} - {fault.value for fault in metrics.NOT_RUN},
    "condition": set(metrics.CONDITIONS),
    "signal": {"traces", "metrics", "logs"},
    "streamfaas_workers state": {"starting", "idle", "busy", "draining", "spare"},
    "streamfaas_config_reloads_total state": set(metrics.RELOADS),
    "streamfaas_not_run_total reason": {fault.value for fault in metrics.NOT_RUN},
    "streamfaas_workers_ended_total reason": metrics.WORKER_REASONS,
}


def series():
    """Every name that a query may have, with its labels."""
    found = {"up": set(), "ALERTS": {"alertname", "alertstate", "function", "trigger"}}
    for each in metrics.Metrics(per_partition=True).registry:
        about, labels = each.about, set(each.about.labels)
        if isinstance(each, Histogram):
            found |= {f"{about.name}_{part}": labels for part in ("sum", "count")}
            found[f"{about.name}_bucket"] = labels | {"le"}
        else:
            found[about.shown] = labels
    for rule in ALL:
        if "record" in rule:
            found[rule["record"]] = set.union(*(found[s.metric] for s in named(rule["expr"])[0]))
    return found


SERIES = series()


def wrong(expression):
    """What it names that there is not."""
    selectors, groups = named(expression)
    for selector in selectors:
        labels = SERIES.get(selector.metric)
        if labels is None:
            yield f"there is no metric {selector.metric}"
            continue
        for label, (operator, text) in selector.asked.items():
            if label not in labels | OF_PROMETHEUS:
                yield f"{selector.metric} has no label {label}"
            values = VALUES.get(f"{selector.metric} {label}") or VALUES.get(label)
            if values and operator in "=~":
                yield from (
                    f"{label} is never {each}" for each in text.split("|") if each not in values
                )
    known = set.union(OF_PROMETHEUS, *(SERIES.get(each.metric, set()) for each in selectors))
    yield from (f"nothing here has a label {each}" for each in groups - known)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_metric_label_and_value_of_an_expression_exists(name):
    assert list(wrong(EXPRESSIONS[name])) == []


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("rate(faas_errors_total[5m])", []),
        ("rate(faas_error_total[5m])", ["there is no metric faas_error_total"]),
        ('faas_errors_total{reason="x"}', ["faas_errors_total has no label reason"]),
        ("sum by (lane) (streamfaas_lanes)", ["nothing here has a label lane"]),
        ('streamfaas_records_total{outcome="suceeded"}', ["outcome is never suceeded"]),
        ('streamfaas_not_run_total{reason=~"throttled|idle"}', ["reason is never idle"]),
        ('up{job="a"} == 0 and on (job) streamfaas_workers{state="busy"}', []),
    ],
)
def test_what_does_not_exist_is_found(expression, told):
    assert list(wrong(expression)) == told


def test_selectors_are_read_from_all_around_them():
    found = named(
        'sum by (a) (x{b="c, d", e!="f"}) / on (a) group_left () y_total offset 5m > bool 1 # z'
    )
    assert found == (
        [Selector("x", {"b": ("=", "c, d"), "e": ("!=", "f")}), Selector("y_total", {})],
        {"a"},
    )


# -- rules


def test_promtool_finds_nothing_wrong_with_the_rules():
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("check", "config", RULES.with_name("prometheus.yml"))


@pytest.mark.slow
def test_each_alert_fires_when_it_should_and_no_other_does():
    assert "SUCCESS" in promtool("test", "rules", STORIES)
    assert {name for name in ALERTS if f'"{name}"' in STORIES.read_text()} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_means_and_which_command_helps(name):
    told = ALERTS[name]["annotations"]
    assert set(told) == {"summary", "description", "command"}
    assert ALERTS[name]["labels"]["severity"] in {"critical", "warning", "info"}
    used = re.findall(r"(?<!-u )streamfaas ([a-z-]+)(?: ([a-z_-]+))?", told["command"])
    assert used
    for command, word in used:
        assert command in COMMANDS
        if command == "explain":
            assert word in topics() or _is_key(word)


def _is_key(word):
    from streamfaas.config import keys

    return any(key.path[-1] == word for key in keys.known())


# -- dashboards


def test_the_dashboards_are_what_their_script_writes():
    assert {board.stem for board in BOARDS} == set(dashboards.BOARDS)
    for board in BOARDS:
        assert board.read_text() == dashboards.text(board.stem), "python tests/dashboards.py"


def test_every_expression_parses(tmp_path):
    rules = [
        {"record": f"x{at}", "expr": plain(each)} for at, each in enumerate(EXPRESSIONS.values())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", path)


def plain(expression):
    return (
        expression.replace("$__rate_interval", "1m").replace("$job", "streamfaas").replace("$", "")
    )


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_a_dashboard_can_be_imported_and_leads_to_the_others(board):
    told = json.loads(board.read_text())
    assert told["uid"] == f"streamfaas-{board.stem}"
    assert told["schemaVersion"] >= 36
    names = {each["name"] for each in told["templating"]["list"]}
    ids = [panel["id"] for panel in told["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in told["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        used = set(re.findall(r"\$(?:\{)?(\w+)", json.dumps(panel))) - {
            "__rate_interval",
            "__field",
            "__url_time_range",
        }
        assert used <= names
        for link in panel["fieldConfig"]["defaults"].get("links", ()):
            assert re.match(r"/d/streamfaas-(\w+)", link["url"])[1] in dashboards.BOARDS
    assert any(target["exemplar"] for panel in told["panels"] for target in panel["targets"])
    assert told["links"][0]["tags"] == ["streamfaas"]
