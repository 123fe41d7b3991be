"""Writes the dashboards of deploy/grafana: `python tests/dashboards.py`. They are kept as files, so
that who imports them needs nothing of this; a test sees that the files are what this writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "grafana"

RED, YELLOW, GREEN, BLUE = "#e02f44", "#ff9830", "#56a64b", "#3274d9"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24

RECORDS, CALLS, SECONDS, RATIO, BYTES, COUNT = "cps", "ops", "s", "percentunit", "bytes", "short"

OF_JOB = 'job="$job"'
OF_FUNCTION = 'job="$job", function=~"$function"'
OF_TRIGGER = 'job="$job", function="$function", trigger=~"$trigger"'


def query(expression: str, legend: str = "", *, exemplars: bool = False, now: bool = False) -> Any:
    """One target. `now` asks for the last value alone."""
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "exemplar": exemplars,
        "expr": expression,
        "instant": now,
        "legendFormat": legend or "__auto",
        "range": not now,
    }


def stat(
    title: str, text: str, expression: str, unit: str, steps: Sequence[tuple[float | None, str]]
) -> Any:
    """One number, whose colour says whether it is well."""
    thresholds = {"mode": "absolute", "steps": [{"color": c, "value": v} for v, c in steps]}
    return _panel("stat", title, text, [query(expression, now=True)]) | {
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": thresholds, "noValue": "-"},
            "overrides": [],
        },
        "options": {
            "colorMode": "value",
            "graphMode": "none",
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "textMode": "value",
        },
    }


def graph(
    title: str,
    text: str,
    targets: Sequence[Any],
    unit: str,
    *,
    stacked: bool = False,
    colours: Mapping[str, str] = {},
    most: float | None = None,
) -> Any:
    """Lines over time."""
    custom = {
        "drawStyle": "line",
        "fillOpacity": 60 if stacked else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none"},
    }
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in colours.items()
    ]
    defaults = {"unit": unit, "min": 0, "custom": custom} | ({"max": most} if most else {})
    return _panel("timeseries", title, text, targets) | {
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def leading(panel: Any, board: str, *variables: str) -> Any:
    """The panel, whose lines lead to another dashboard."""
    asked = "".join(f"&var-{name}=${{__field.labels.{name}}}" for name in variables)
    url = f"/d/streamfaas-{board}?var-datasource=${{datasource}}&var-job=${{job}}{asked}"
    link = {
        "title": f"{board} ${{__field.labels.{variables[-1]}}}",
        "url": f"{url}&${{__url_time_range}}",
    }
    panel["fieldConfig"]["defaults"]["links"] = [link]
    return panel


def variable(name: str, source: str, *, several: bool = False) -> Any:
    """A choice of the values of a label, or of `source` where it is a kind of data source."""
    if source == "prometheus":
        return {"name": name, "label": "data source", "type": "datasource", "query": source}
    made = {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": source, "refId": name},
        "definition": source,
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
    }
    return made | ({"current": {"text": "All", "value": "$__all"}} if several else {})


def dashboard(
    name: str, title: str, text: str, variables: Iterable[Any], rows: Iterable[Any]
) -> Any:
    """The rows hold a height and panels, which share the width; or a title alone."""
    panels, y = [], 0
    for height, *shared in rows:
        width = WIDTH // len(shared)
        for at, panel in enumerate(shared):
            place = {"x": at * width, "y": y, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": place} | panel)
        y += height
    others = {
        "type": "dashboards",
        "tags": ["streamfaas"],
        "title": "streamfaas",
        "asDropdown": True,
    }
    return {
        "uid": f"streamfaas-{name}",
        "title": title,
        "description": text,
        "tags": ["streamfaas"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        "links": [others | {"includeVars": True, "keepTime": True}],
        "templating": {"list": [variable("datasource", "prometheus"), *variables]},
        "annotations": {"list": [_alerts()]},
        "panels": panels,
    }


def _panel(kind: str, title: str, text: str, targets: Sequence[Any]) -> Any:
    named = [target | {"refId": chr(ord("A") + at)} for at, target in enumerate(targets)]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "targets": named,
    }


def _alerts() -> Any:
    return {
        "name": "alerts",
        "datasource": SOURCE,
        "enable": True,
        "expr": 'ALERTS{alertname=~"Streamfaas.+", alertstate="firing"}',
        "iconColor": RED,
        "titleFormat": "{{alertname}}",
        "textFormat": "{{function}} {{trigger}}",
    }


JOB = variable("job", "label_values(streamfaas_build_info, job)")


def rate(metric: str, labels: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(part: float, metric: str, labels: str, *by: str) -> str:
    return f"histogram_quantile({part}, {rate(f'{metric}_bucket', labels, *by, 'le')})"


def errors(labels: str, *by: str) -> str:
    """faas_invocations counts successes only."""
    failed, done = (rate(f"faas_{each}_total", labels, *by) for each in ("errors", "invocations"))
    return f"{failed} / ({failed} + {done})"


BALANCE = (
    "sum by (function, trigger) (messaging_client_consumed_messages_total{{{0}}})"
    " - sum by (function, trigger) (streamfaas_records_total{{{0}}})"
    " - sum by (function, trigger) (streamfaas_records_in_flight{{{0}}})"
)
OUTCOMES = {
    "succeeded": GREEN, "failed": RED, "filtered": BLUE, "expired": YELLOW, "given_back": "#8f3bb8",
}  # fmt: skip
WORKERS = {
    "busy": GREEN,
    "idle": BLUE,
    "starting": YELLOW,
    "draining": "#8f3bb8",
    "spare": "#8ab8ff",
}
NOTHING_WRONG = ((None, GREEN), (1, RED))
FINE_THEN_BAD = ((None, GREEN), (0.01, YELLOW), (0.05, RED))


def overview() -> Any:
    labels, place = OF_FUNCTION, "{{function}}/{{trigger}}"
    functions = variable(
        "function", f"label_values(streamfaas_workers{{{OF_JOB}}}, function)", several=True
    )
    return dashboard(
        "overview",
        "streamfaas: overview",
        "Whether all is well, and where it is not.",
        [JOB, functions],
        [
            (
                4,
                stat("Daemons", "That answer.", f"sum(up{{{OF_JOB}}})", COUNT, ((None, RED), (1, GREEN))),
                stat("Blocked lanes", "streamfaas status says why, streamfaas skip gives up what fails.",
                     f"sum(streamfaas_lane_blocked{{{labels}}})", COUNT, NOTHING_WRONG),
                stat("Degraded", "Triggers whose source does not answer: streamfaas doctor.",
                     f"count(streamfaas_trigger_up{{{labels}}} == 0) or vector(0)", COUNT, NOTHING_WRONG),
                stat("Errors", "Of all invocations.", f"sum({rate('faas_errors_total', labels, 'job')}) / (sum({rate('faas_errors_total', labels, 'job')}) + sum({rate('faas_invocations_total', labels, 'job')}))",
                     RATIO, FINE_THEN_BAD),
                stat("Records", "That came, each second.", f"sum(rate(messaging_client_consumed_messages_total{{{labels}}}[$__rate_interval]))",
                     RECORDS, ((None, BLUE),)),
                stat("Lag", "Records of all sources that are not finished with.", f"sum(streamfaas_source_lag{{{labels}}})",
                     COUNT, ((None, GREEN), (1_000, YELLOW), (100_000, RED))),
                stat("Oldest", "Age of the oldest record in flight.", f"max(streamfaas_source_age_seconds{{{labels}}})",
                     SECONDS, ((None, GREEN), (60, YELLOW), (300, RED))),
                stat("Set aside", "Records that were given up in the last hour: streamfaas dlq list.",
                     f"round(sum(increase(streamfaas_set_aside_total{{{labels}}}[1h]))) or vector(0)", COUNT, ((None, GREEN), (1, YELLOW))),
            ),
            (
                8,
                graph("Records", "What became of them.", [query(rate("streamfaas_records_total", labels, "outcome"), "{{outcome}}")],
                      RECORDS, stacked=True, colours=OUTCOMES),
                leading(graph("Lag", "Records that are not finished with.", [query(f"sum by (function, trigger) (streamfaas_source_lag{{{labels}}})", place)], COUNT),
                        "trigger", "function", "trigger"),
                leading(graph("Age", "Of the oldest record in flight.", [query(f"max by (function, trigger) (streamfaas_source_age_seconds{{{labels}}})", place)], SECONDS),
                        "trigger", "function", "trigger"),
            ),
            (
                8,
                leading(graph("Errors", "The part of all invocations that the function failed.", [query(errors(labels, "function"), "{{function}}")],
                              RATIO), "function", "function"),
                leading(graph("Duration", "Half of all are faster than p50, 99 of 100 than p99. Points are traces.",
                              [query(quantile(0.5, "faas_invoke_duration_seconds", labels, "function"), "{{function}} p50"),
                               query(quantile(0.99, "faas_invoke_duration_seconds", labels, "function"), "{{function}} p99", exemplars=True)],
                              SECONDS), "function", "function"),
                graph("Trouble", "Retries, batches that were split, records that were set aside, throttles, destinations that refuse.",
                      [query(rate("streamfaas_retries_total", labels, "job"), "retries"),
                       query(rate("streamfaas_batch_splits_total", labels, "job"), "splits"),
                       query(rate("streamfaas_set_aside_total", labels, "job"), "set aside"),
                       query(rate("streamfaas_not_run_total", f'{labels}, reason="throttled"', "job"), "throttled"),
                       query(rate("streamfaas_destination_failures_total", labels, "job"), "destination fails")],
                      CALLS, colours={"retries": YELLOW, "splits": BLUE, "set aside": RED, "throttled": "#8f3bb8"}),
            ),
            (
                8,
                graph("Workers", "By what they do.", [query(f"sum by (state) (streamfaas_workers{{{labels}}})", "{{state}}")],
                      COUNT, stacked=True, colours=WORKERS),
                graph("Batches", "Records of one attempt.", [query(quantile(0.5, "streamfaas_batch_size", labels, "function"), "{{function}} p50")], COUNT),
                graph("Daemon", "Its own process, without workers: memory and, of one core, time.",
                      [query(f"process_resident_memory_bytes{{{OF_JOB}}}", "{{instance}} RSS")], BYTES),
            ),
            (
                7,
                graph("CPU of the daemon", "Of one core.", [query(f"rate(process_cpu_seconds_total{{{OF_JOB}}}[$__rate_interval])", "{{instance}}")], RATIO),
                graph("Event loop", "How late the daemon's loop comes to what is due: 99 of 100 times less.",
                      [query(f"histogram_quantile(0.99, sum by (instance, le) (rate(streamfaas_loop_delay_seconds_bucket{{{OF_JOB}}}[$__rate_interval])))", "{{instance}} p99")], SECONDS),
                graph("Waiting", "Invocations that wait for a worker, and events that were accepted and are not over with.",
                      [query(f"sum by (function) (streamfaas_calls_waiting{{{labels}}})", "{{function}}"),
                       query(f"sum by (function) (streamfaas_backlog_events{{{labels}}})", "{{function}} backlog")], COUNT),
                graph("Balance", "What came, less what became of it and what is in flight: 0, always.", [query(BALANCE.format(labels), place)], COUNT),
            ),
        ],
    )  # fmt: skip


def function() -> Any:
    labels = 'job="$job", function="$function"'
    chosen = variable("function", f"label_values(streamfaas_workers{{{OF_JOB}}}, function)")
    duration = "faas_invoke_duration_seconds"
    return dashboard(
        "function",
        "streamfaas: one function",
        "How one function runs, and in which workers.",
        [JOB, chosen],
        [
            (
                4,
                stat("Invocations", "That succeeded, each second.", f"sum(rate(faas_invocations_total{{{labels}}}[$__rate_interval]))", CALLS, ((None, BLUE),)),
                stat("Errors", "Of all invocations.", errors(labels, "function"), RATIO, FINE_THEN_BAD),
                stat("p50", "Half of all are faster.", quantile(0.5, duration, labels, "function"), SECONDS, ((None, BLUE),)),
                stat("p99", "One of a hundred is slower.", quantile(0.99, duration, labels, "function"), SECONDS, ((None, BLUE),)),
                stat("Busy", "Workers that run an invocation now.", f'sum(streamfaas_workers{{{labels}, state="busy"}})', COUNT, ((None, BLUE),)),
                stat("Waiting", "Invocations that wait for a worker.", f"sum(streamfaas_calls_waiting{{{labels}}})", COUNT, ((None, GREEN), (1, YELLOW), (100, RED))),
            ),
            (
                8,
                leading(graph("Invocations", "That succeeded, by what asked for them; direct calls have no trigger.", [query(rate("faas_invocations_total", labels, "function", "trigger"), "{{trigger}}")],
                              CALLS, stacked=True), "trigger", "function", "trigger"),
                graph("Errors", "By their kind.", [query(rate("faas_errors_total", labels, "error_type"), "{{error_type}}", exemplars=True)], CALLS, stacked=True),
                graph("Not run", "Attempts that failed by no fault of the function.", [query(rate("streamfaas_not_run_total", labels, "reason"), "{{reason}}")], CALLS, stacked=True),
            ),
            (
                8,
                graph("Duration", "Points are traces.", [query(quantile(part, duration, labels, "function"), f"p{part * 100:.0f}", exemplars=part == 0.99) for part in (0.5, 0.9, 0.99)], SECONDS),
                graph("Batches", "Records of one attempt.", [query(quantile(part, "streamfaas_batch_size", labels, "function"), f"p{part * 100:.0f}") for part in (0.5, 0.99)], COUNT),
                graph("Memory", "The largest resident set of a worker, by invocation.", [query(quantile(part, "faas_mem_usage_bytes", labels, "function"), f"p{part * 100:.0f}") for part in (0.5, 0.99)], BYTES),
            ),
            (
                8,
                graph("Workers", "By what they do.", [query(f"sum by (state) (streamfaas_workers{{{labels}}})", "{{state}}")], COUNT, stacked=True, colours=WORKERS),
                graph("Workers that ended", "And why; idle and drained are as it should be.", [query(rate("streamfaas_workers_ended_total", labels, "reason"), "{{reason}}")], CALLS,
                      colours={"crash": RED, "timeout": YELLOW, "init": "#8f3bb8", "idle": BLUE}),
                graph("Starts", "Cold starts, and how long the handler's import took.",
                      [query(rate("faas_coldstarts_total", labels, "function"), "cold starts each second"),
                       query(quantile(0.5, "faas_init_duration_seconds", labels, "function"), "init p50, seconds")], COUNT),
            ),
            (
                7,
                graph("Timeouts", "Invocations that were ended at their timeout.", [query(rate("faas_timeouts_total", labels, "trigger"), "{{trigger}}")], CALLS),
                graph("Waiting", "Invocations that wait for a worker.", [query(f"sum by (function) (streamfaas_calls_waiting{{{labels}}})", "waiting")], COUNT),
                graph("Output cut", "Output that was thrown away: more than the function may write.",
                      [query(rate("streamfaas_output_cut_bytes_total", labels, "function"), "bytes each second")], BYTES),
                graph("Backlog", "Asynchronous invocations that were accepted and are not over with.", [query(f"sum by (function) (streamfaas_backlog_events{{{labels}}})", "events")], COUNT),
            ),
        ],
    )  # fmt: skip


def trigger() -> Any:
    labels = OF_TRIGGER
    functions = variable("function", f"label_values(streamfaas_trigger_up{{{OF_JOB}}}, function)")
    of_function = f'{OF_JOB}, function="$function"'
    triggers = variable(
        "trigger", f"label_values(streamfaas_trigger_up{{{of_function}}}, trigger)", several=True
    )
    lane = "{{trigger}} {{partition}}"
    return dashboard(
        "trigger",
        "streamfaas: one trigger",
        "What comes from a source, and what becomes of it.",
        [JOB, functions, triggers],
        [
            (
                4,
                stat("Source", "1 while it is read.", f"min(streamfaas_trigger_up{{{labels}}})", COUNT, ((None, RED), (1, GREEN))),
                stat("Paused", "streamfaas resume lets it go on.", f"max(streamfaas_trigger_paused{{{labels}}})", COUNT, ((None, GREEN), (1, YELLOW))),
                stat("Lanes", "That are held here.", f"sum(streamfaas_lanes{{{labels}}})", COUNT, ((None, BLUE),)),
                stat("Blocked", "streamfaas status says why.", f"sum(streamfaas_lane_blocked{{{labels}}})", COUNT, NOTHING_WRONG),
                stat("Lag", "Records that are not finished with.", f"sum(streamfaas_source_lag{{{labels}}})", COUNT, ((None, GREEN), (1_000, YELLOW), (100_000, RED))),
                stat("Oldest", "Age of the oldest record in flight.", f"max(streamfaas_source_age_seconds{{{labels}}})", SECONDS, ((None, GREEN), (60, YELLOW), (300, RED))),
            ),
            (
                8,
                graph("Came", "Records from the source.", [query(rate("messaging_client_consumed_messages_total", labels, "trigger"), "{{trigger}}")], RECORDS),
                graph("Became", "What became of them.", [query(rate("streamfaas_records_total", labels, "outcome"), "{{outcome}}")], RECORDS, stacked=True, colours=OUTCOMES),
                graph("In flight", "What nothing has become of yet.", [query(f"sum by (trigger) (streamfaas_records_in_flight{{{labels}}})", "{{trigger}}")], COUNT),
            ),
            (
                8,
                graph("Lag", "Of each partition, where `per_partition` is on.", [query(f"streamfaas_source_lag{{{labels}}}", lane)], COUNT),
                graph("Age", "Of the oldest record in flight.", [query(f"streamfaas_source_age_seconds{{{labels}}}", lane)], SECONDS),
                graph("Blocked", "Lanes that nothing after a failing batch is run of.", [query(f"streamfaas_lane_blocked{{{labels}}}", lane)], COUNT),
            ),
            (
                8,
                graph("Duration", "Points are traces.", [query(quantile(part, "faas_invoke_duration_seconds", labels, "function"), f"p{part * 100:.0f}", exemplars=part == 0.99) for part in (0.5, 0.99)], SECONDS),
                graph("Batches", "Records of one attempt.", [query(quantile(part, "streamfaas_batch_size", labels, "function"), f"p{part * 100:.0f}") for part in (0.5, 0.99)], COUNT),
                graph("Errors", "The part of its invocations that failed.", [query(errors(labels, "trigger"), "{{trigger}}")], RATIO),
            ),
            (
                8,
                graph("Retries", "Failed batches that run again, and those that go on in parts.",
                      [query(rate("streamfaas_retries_total", labels, "job"), "retries"), query(rate("streamfaas_batch_splits_total", labels, "job"), "splits")],
                      CALLS, colours={"retries": YELLOW, "splits": BLUE}),
                graph("Set aside", "Records that were given up, and why.", [query(rate("streamfaas_set_aside_total", labels, "condition"), "{{condition}}")], RECORDS, stacked=True),
                graph("Destination", "Times that it did not take what was sent.", [query(rate("streamfaas_destination_failures_total", labels, "trigger"), "{{trigger}}")], CALLS, colours={}),
            ),
            (7, graph("Balance", "What came, less what became of it and what is in flight: 0, always.", [query(BALANCE.format(labels), "{{trigger}}")], COUNT)),
        ],
    )  # fmt: skip


BOARDS = {"overview": overview, "function": function, "trigger": trigger}


def text(name: str) -> str:
    """A dashboard as its file holds it."""
    return json.dumps(BOARDS[name](), indent=1) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(text(name))
