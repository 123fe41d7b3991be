"""The last lines of a run: what was done, where it stands, and what is blocked."""

from __future__ import annotations

from typing import Any

import orjson

from streamfaas.telemetry.console import BLOCKED_HELP, iso_now, printable


def summary_lines(view: dict[str, Any]) -> list[str]:
    """A table of the triggers, and a line for each lane that is blocked."""
    rows = [("TRIGGER", "RECORDS", "BATCHES", "FAILURES", "SET ASIDE", "CHECKPOINT")]
    rows += [
        (
            name,
            str(trigger["records"]),
            str(trigger["batches"]),
            str(trigger["failures"]),
            str(trigger["set_aside"]),
            _checkpoints(trigger),
        )
        for name, trigger in sorted(view["triggers"].items())
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows
    ]
    for name, trigger in sorted(view["triggers"].items()):
        lines += [
            f"BLOCKED {name} {printable(lane)}: {printable(reason)}; {BLOCKED_HELP}"
            for lane, reason in sorted(trigger["left_blocked"].items())
        ]
    return lines


def json_summary(view: dict[str, Any]) -> list[str]:
    """The same in one line, for a collector of logs."""
    triggers = {
        name: {key: trigger[key] for key in _TOLD}
        for name, trigger in sorted(view["triggers"].items())
    }
    return [orjson.dumps({"time": iso_now(), "event": "RunSummed", "triggers": triggers}).decode()]


_TOLD = ("records", "batches", "failures", "set_aside", "checkpoints", "left_blocked")


def _checkpoints(trigger: dict[str, Any]) -> str:
    checkpoints = sorted(trigger["checkpoints"].items())
    shown = ", ".join(f"{printable(lane)}@{position}" for lane, position in checkpoints[:4])
    return f"{shown}, …" if len(checkpoints) > 4 else shown or "-"
