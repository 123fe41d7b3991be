"""The tables that several commands show: functions, triggers, lanes, and what needs attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from streamfaas.cli import output
from streamfaas.cli.output import count

if TYPE_CHECKING:
    from rich.table import Table

LANES_MAX = 20
"""Lanes in a table; the worst come first."""

COLOURS = {
    "blocked": "bold red", "degraded": "yellow", "retrying": "yellow", "draining": "yellow",
    "connecting": "yellow", "closing": "yellow", "running": "green", "paused": "cyan",
}  # fmt: skip

_WORST_FIRST = ("blocked", "degraded", "retrying", "connecting", "paused", "running", "closing")


def header(view: Mapping[str, Any]) -> list[str]:
    """What the daemon is, in parts of one line."""
    config = view.get("configuration", {})
    loaded = str(config.get("loaded", ""))
    at = datetime.fromisoformat(loaded).astimezone().strftime("%H:%M") if loaded else "?"
    clean = "file differs" if config.get("differs") else "clean"
    clean = "reloading" if config.get("reloading") else clean
    return [
        f"streamfaas {view.get('version', '?')}",
        f"up {span(float(view.get('uptime_seconds', 0)))}",
        f"config {str(config.get('digest', '?'))[:6]} (loaded {at}, {clean})",
        f"RSS {int(view.get('rss_bytes', 0)) >> 20} MB",
        f"cpu {float(view.get('cpu', 0)):.2f}",
    ]


# -- functions


def functions(named: Iterable[tuple[str, Mapping[str, Any]]], *, width: int) -> Table:
    """By name, with their workers and how they have done lately."""
    heads = (
        "!FUNCTION", "!WARM", ">BUSY", "!>INV/s", "!>ERR%", ">p50", ">p99", "?>COLD/h", "NOTE",
    )  # fmt: skip
    return _table(heads, [_function(name, each) for name, each in named], width=width)


def _function(name: str, each: Mapping[str, Any]) -> Sequence[object]:
    workers, recent = each.get("workers", {}), each.get("recent", {})
    alive = sum(workers.get(state, 0) for state in ("starting", "idle", "reserved", "busy"))
    most = each.get("max")
    return (
        name,
        f"{alive}/{most}" if most else alive,
        count(workers.get("busy", 0)),
        rate(recent.get("invocations_per_second")),
        rate(recent.get("errors_percent")),
        seconds(recent.get("p50_seconds")),
        seconds(recent.get("p99_seconds")),
        count(recent.get("cold_starts_per_hour")),
        "; ".join(_notes(each)),
    )


def _notes(each: Mapping[str, Any]) -> Iterator[str]:
    if waiting := each.get("waiting"):
        yield f"{count(waiting)} calls wait"
    if throttled := each.get("throttled"):
        yield f"throttled {count(throttled)}"
    if missing := each.get("missing"):
        yield f"without {', '.join(map(str, missing))}"
    if error := each.get("last_error"):
        yield str(error)


# -- triggers


def triggers(named: Iterable[tuple[str, Mapping[str, Any]]], *, width: int) -> Table:
    """By name, with where they stand."""
    heads = (
        "!TRIGGER", "?SOURCE", "!STATE", "!>LAG", ">AGE", ">REC/s", "?>BATCH", "?ON_FAILURE",
        "NOTE",
    )  # fmt: skip
    return _table(heads, [_trigger(name, each) for name, each in named], width=width)


def _trigger(name: str, each: Mapping[str, Any]) -> Sequence[object]:
    recent = each.get("recent", {})
    batch = recent.get("batch_records")
    return (
        name,
        f"{each.get('kind', '?')} {each.get('reads', '')}".rstrip(),
        each.get("state", "?"),
        lag(each),
        seconds(age(each)),
        rate(recent.get("records_per_second")),
        "-" if batch is None else f"{batch:,.0f}",
        destination(name, each),
        note(each),
    )


def lag(trigger: Mapping[str, Any]) -> str:
    """Of all its lanes together; `+` where that of some is not known."""
    lanes = [lane for lane in trigger.get("lanes", ()) if not lane.get("by_key")]
    known = [lane["lag"] for lane in lanes if lane.get("lag") is not None]
    return f"{count(sum(known))}{'+' if len(known) < len(lanes) else ''}" if known else "-"


def age(trigger: Mapping[str, Any]) -> float | None:
    """Of its oldest record in hand."""
    ages = [lane.get("age_seconds") for lane in trigger.get("lanes", ())]
    return max((each for each in ages if each), default=None)


def destination(name: str, trigger: Mapping[str, Any]) -> str:
    """Where failures go, in short, and how many records have gone there."""
    full, elsewhere = str(trigger.get("on_failure") or ""), trigger.get("elsewhere", 0)
    aside = trigger.get("set_aside", 0) - elsewhere
    if full.endswith(f"/set-aside/{name.replace('/', '.')}.jsonl"):
        return f"set-aside ({count(aside)})" if aside else "-"
    short = full.rpartition("/")[2] if full.startswith("/") else full.partition(" on ")[0]
    more = f", set-aside ({count(elsewhere)})" if elsewhere else ""
    return f"{short} ({count(aside)}){more}" if short else "-"


def note(trigger: Mapping[str, Any]) -> str:
    """What is to be said of a trigger in a few words: who paused it, or how its worst lane is."""
    if paused := trigger.get("paused"):
        return f"by {paused['by']}, since {_clock(paused['since_ms'])}"
    if trigger.get("reason"):
        return str(trigger["reason"])
    worst: Mapping[str, Any] = min(trigger.get("lanes", ()), key=badness, default={})
    if worst.get("state") not in {"blocked", "retrying"}:
        return ""
    wait = worst.get("next_in_seconds")
    again = "" if wait is None else f", next in {span(float(wait))}"
    tried = worst.get("attempt")  # 0: it is not the function that fails, but its destination
    failing = f" attempt {tried}{again}:" if tried else ""
    return f"{worst.get('name')}:{failing} {worst.get('reason', '')}"


# -- lanes


def lanes(named: Iterable[tuple[str, Mapping[str, Any]]], *, width: int) -> Table:
    """Of several triggers, the worst first."""
    heads = (
        "!LANE", "!STATE", ">POSITION", "!>LAG", "?>HELD", "?>IN FLIGHT", ">ATTEMPT", "NEXT",
        "NOTE",
    )  # fmt: skip
    found = [(name, lane) for name, each in named for lane in each.get("lanes", ())]
    found.sort(key=lambda item: badness(item[1]))
    made = _table(heads, [_lane(*each) for each in found[:LANES_MAX]], width=width)
    if len(found) > LANES_MAX:
        made.caption = f"… and {len(found) - LANES_MAX:,} more (all: -o json)"
        made.caption_justify = "left"
        made.caption_style = ""
    return made


def _lane(name: str, lane: Mapping[str, Any]) -> Sequence[object]:
    wait = lane.get("next_in_seconds")
    return (
        f"{name} {lane.get('name', '?')}".lstrip(),
        lane.get("state", "?"),
        "-" if lane.get("position") is None else lane["position"],
        count(lane.get("lag")),
        count(lane.get("held_records")),
        count(lane.get("in_flight")),
        count(lane.get("attempt")),
        "" if wait is None else f"in {span(float(wait))}",
        lane.get("reason") or _window(lane.get("window")),
    )


def _window(window: Mapping[str, Any] | None) -> str:
    """The tumbling window that is open."""
    if window is None:
        return ""
    end = datetime.fromtimestamp(window["end_ms"] / 1000).astimezone()
    return f"window until {end:%H:%M:%S}, state of {count(window['state_bytes'])} bytes"


def badness(lane: Mapping[str, Any]) -> tuple[int, int, int, str]:
    """What a person should see first sorts first."""
    state = lane.get("state")
    order = _WORST_FIRST.index(state) if state in _WORST_FIRST else len(_WORST_FIRST)
    return order, -(lane.get("attempt") or 0), -(lane.get("lag") or 0), str(lane.get("name"))


# -- what needs attention


def remedies(name: str, trigger: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Commands that help a trigger, and what each does."""
    function = name.partition("/")[0]
    blocked = [lane for lane in trigger.get("lanes", ()) if lane.get("state") == "blocked"]
    if trigger.get("paused"):
        yield f"streamfaas resume {name}", "let it go on"
    elif any(lane.get("held_up_by") for lane in blocked):
        yield f"streamfaas skip {name}", "keep what is to be sent in a file, and go on"
        yield "streamfaas explain blocked", "what it means, and what helps"
    elif blocked:
        if any(lane.get("attempt") for lane in blocked):  # it is the function that fails
            yield f"streamfaas invoke {function} -e event.json", "try the function by hand"
            if not all(lane.get("by_key") for lane in blocked):  # these hold up nobody
                yield f"streamfaas skip {name}", "give up what fails, and go on"
        yield "streamfaas explain blocked", "what it means, and what helps"
    elif trigger.get("state") == "degraded":
        yield "streamfaas explain degraded", "what it means, and what helps"
    elif trigger.get("state") == "retrying":
        yield f"streamfaas triggers show {name}", "its last errors"


def trouble(trigger: Mapping[str, Any]) -> tuple[str, str]:
    """In a word what is wrong with a trigger, and why; nothing if nothing is."""
    blocked = [lane for lane in trigger.get("lanes", ()) if lane.get("state") == "blocked"]
    if trigger.get("paused"):
        return "paused", note(trigger)
    if blocked or trigger.get("state") == "blocked":
        held_up = next((lane["held_up_by"] for lane in blocked if lane.get("held_up_by")), "")
        why = next((lane["reason"] for lane in blocked if lane.get("reason")), "")
        said = why or str(trigger.get("reason", ""))
        if held_up:
            said = (
                f"{held_up} does not take what is to be sent: {said.removeprefix('destination: ')}"
            )
        return "blocked", said
    if trigger.get("state") == "degraded":
        return "degraded", str(trigger.get("reason", ""))
    return "", ""


# -- numbers


def rate(number: float | None) -> str:
    """Three digits are enough."""
    if number is None:
        return "-"
    if number >= 10 or number == 0:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def seconds(number: float | None) -> str:
    """A time that may be short: 3.1ms, 18ms, 1.9s, 4m 12s."""
    if number is None:
        return "-"
    if number >= 1:
        return span(number)
    return f"{number * 1000:.0f}ms" if number >= 0.01 else f"{number * 1000:.1f}ms"


def span(length: float) -> str:
    """A length of time in its two largest units."""
    if length < 60:
        return f"{length:.1f}s" if length < 10 else f"{length:.0f}s"
    whole = int(length)
    parts = ((whole // 86_400, "d"), (whole // 3_600 % 24, "h"), (whole // 60 % 60, "m"),
             (whole % 60, "s"))  # fmt: skip
    first = next(at for at, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number)


def _clock(milliseconds: int) -> str:
    """By the clock on the wall here, with the day if it is another."""
    moment = datetime.fromtimestamp(milliseconds / 1000).astimezone()
    today = datetime.now().astimezone().date()  # noqa: TID251 - for display
    return moment.strftime("%H:%M" if moment.date() == today else "%Y-%m-%d %H:%M")


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, width: int) -> Table:
    return output.table(heads, rows, width=width, colours=COLOURS)
