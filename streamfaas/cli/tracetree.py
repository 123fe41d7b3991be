"""A trace drawn as a tree: what was done for what, when, and for how long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from streamfaas.cli.exits import printable
from streamfaas.telemetry import names

Span: TypeAlias = Mapping[str, Any]

LABEL_MAX = 44
BAR_MIN, BAR_MAX = 10, 40
LINKS_SHOWN = 3

_RED, _YELLOW, _DIM = "red", "yellow", "bright_black"


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and its colour (empty: none)."""

    text: str
    colour: str = ""


@dataclass(frozen=True, slots=True)
class _Item:
    """A span in its place, or something that happened there."""

    branch: str
    label: str
    note: str
    start_ns: int
    end_ns: int | None
    colour: str


def drawn(trace: Mapping[str, Any], width: int) -> Iterator[Line]:
    """The tree of a trace as the daemon tells it, in lines of at most so many characters."""
    spans: Sequence[Span] = trace["spans"]
    start = min(span["start_ns"] for span in spans)
    end = max(span["end_ns"] for span in spans)
    state = ", goes on" if trace["going"] else ""
    yield Line(f"trace {trace['trace_id']}")
    yield Line(f"{moment(start)}  {took((end - start) / 1e9)}  kept: {trace['kept']}{state}")
    yield Line("")
    items = list(_items(spans))
    label = min(max(len(item.branch + item.label) for item in items), LABEL_MAX, width * 3 // 8)
    bar = max(BAR_MIN, min(BAR_MAX, (width - label) // 4))
    for item in items:
        left = _cut(item.branch + item.label, label).ljust(label)
        shown = _bar(item, start, end, bar)
        seconds = "" if item.end_ns is None else took((item.end_ns - item.start_ns) / 1e9)
        yield Line(_cut(f"{left} {shown} {seconds:>7}  {item.note}".rstrip(), width), item.colour)
    yield from (Line(_cut(line, width), _DIM) for line in _links(spans))


def moment(at_ns: int) -> str:
    """When, by the clock of whoever looks."""
    seconds, rest = divmod(at_ns, 10**9)
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{rest // 10**6:03d}"


def took(seconds: float) -> str:
    """A length of time in three digits or so."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 100:
        return f"{seconds:.2f}s"
    return f"{int(seconds) // 60}m {int(seconds) % 60:02d}s"


def _items(spans: Sequence[Span]) -> Iterator[_Item]:
    known = {span["span_id"] for span in spans}
    below: dict[str, list[Span]] = {}
    for span in spans:
        parent = span["parent_id"] if span["parent_id"] in known else ""
        below.setdefault(parent, []).append(span)
    for root in below.get("", ()):
        yield from _branch(root, below, "", "")


def _branch(
    span: Span, below: Mapping[str, Sequence[Span]], first: str, rest: str
) -> Iterator[_Item]:
    error = printable(span["error"])
    colour = _RED if error else ""
    yield _Item(first, _label(span), _note(span), span["start_ns"], span["end_ns"], colour)
    parts: list[tuple[int, Span | None, _Item | None]] = [
        (each["start_ns"], each, None) for each in below.get(span["span_id"], ())
    ]
    parts += [(event["at_ns"], None, _event(event)) for event in span["events"]]
    parts += [(at, None, told) for at, told in _left_out(span, below)]
    parts.sort(key=lambda part: part[0])
    for number, (_, child, happened) in enumerate(parts):
        last = number == len(parts) - 1
        if child is not None:
            turn, along = ("└─ ", "   ") if last else ("├─ ", "│  ")
            yield from _branch(child, below, rest + turn, rest + along)
        elif happened is not None:
            branch = rest + ("   " if last else "│  ")
            yield _Item(
                branch, happened.label, happened.note, happened.start_ns, None, happened.colour
            )


def _label(span: Span) -> str:
    number = span["attributes"].get(names.ATTEMPT, 1)
    again = f" (try {number})" if span["kind"] == "server" and number > 1 else ""
    return printable(span["name"]) + again


def _note(span: Span) -> str:
    told = span["attributes"]
    fine = "✓" if told.get(names.OUTCOME) == "success" else ""
    parts = [f"✗ {printable(span['error'])}" if span["error"] else fine]
    if names.FIRST_OFFSET in told:
        parts += [_at(told).strip(), _count(told[names.BATCH_MESSAGES], "record")]
    elif names.BATCH_MESSAGES in told:
        parts.append(_count(told[names.BATCH_MESSAGES], "letter"))
    if span["kind"] == "server":
        parts += [
            "part" if told.get(names.BISECTED) else "",
            printable(str(told.get(names.INSTANCE, ""))),
            "cold start" if told.get(names.COLDSTART) else "",
        ]
    if names.ATTEMPTS in told:
        parts.append("1 try" if told[names.ATTEMPTS] == 1 else f"{told[names.ATTEMPTS]:,} tries")
    if told.get(names.REPLAYS):
        parts.append(f"replay {told[names.REPLAYS]}")
    if names.KAFKA_OFFSET in told:
        parts.append(f"up to {told[names.KAFKA_OFFSET]}")
    elif names.POSITION in told:
        parts.append(f"at {told[names.POSITION]}")
    return "  ".join(part for part in parts if part)


def _event(event: Mapping[str, Any]) -> _Item:
    told = event["attributes"]
    parts = []
    if names.PART_RECORDS in told:
        parts.append(f"into {' + '.join(map(str, told[names.PART_RECORDS]))} records")
    if names.CONDITION in told:
        parts.append(printable(str(told[names.CONDITION])))
    if names.TO in told:
        parts.append(f"→ {printable(str(told[names.TO]))}")
    if names.ATTEMPT in told:
        parts.append(f"after failure {told[names.ATTEMPT]}")
    if names.WAIT_SECONDS in told:
        parts.append(f"again in {took(told[names.WAIT_SECONDS])}")
    note = "  ".join(parts) + (_at(told) if names.FIRST_OFFSET in told else "")
    return _Item("", f"· {event['name']}", note, event["at_ns"], None, _YELLOW)


def _left_out(span: Span, below: Mapping[str, Sequence[Span]]) -> Iterator[tuple[int, _Item]]:
    """What was between the first tries and the last ones, in its place."""
    count = span["attributes"].get(names.ATTEMPTS_LEFT_OUT, 0)
    tries = [each for each in below.get(span["span_id"], ()) if each["kind"] == "server"]
    if count and tries:
        at = tries[len(tries) // 2]["start_ns"] - 1
        yield at, _Item("", f"… {count:,} tries", "counted, not kept", at, None, _DIM)


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def _at(told: Mapping[str, Any]) -> str:
    first, last = told[names.FIRST_OFFSET], told[names.LAST_OFFSET]
    return f" @{first}" if first == last else f" @{first}..{last}"


def _bar(item: _Item, start: int, end: int, width: int) -> str:
    """Where between the trace's beginning and its end it was."""
    whole = max(end - start, 1)
    left = min(width - 1, (item.start_ns - start) * width // whole)
    until = item.start_ns if item.end_ns is None else item.end_ns
    length = max(1, -(-(until - start) * width // whole) - left)
    mark = "·" if item.end_ns is None else "█" * min(length, width - left)
    return "▕" + (" " * left + mark).ljust(width) + "▏"


def _links(spans: Sequence[Span]) -> Iterator[str]:
    for span in spans:
        links, dropped = span["links"], span["attributes"].get(names.LINKS_DROPPED, 0)
        if links:
            more = f", {dropped:,} more were left out" if dropped else ""
            yield ""
            yield f"{printable(span['name'])} is linked to {len(links):,} traces of producers{more}"
            yield from (
                f"  {link['trace_id']}{'' if link['sampled'] else '  (not sampled)'}"
                for link in links[:LINKS_SHOWN]
            )
            if len(links) > LINKS_SHOWN:
                yield f"  … and {len(links) - LINKS_SHOWN:,} more (all: -o json)"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
