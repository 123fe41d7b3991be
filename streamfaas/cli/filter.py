"""`streamfaas filter`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamfaas.cli import exits

if TYPE_CHECKING:
    from streamfaas.flow.mismatch import Answer
    from streamfaas.flow.pattern import Data, Filter

SOURCES = {
    "kafka": ("value", "IGNORED"),
    "kinesis": ("data", "DROPPED"),
    "sqs": ("body", "COMPARED"),
    "dynamodb": ("dynamodb", "DROPPED"),
    "s3": (None, "DROPPED"),
    "none": (None, "DROPPED"),
}
"""Under which key a source's records have their data, and what becomes of data of another kind."""


@click.group()
def command() -> None:
    """Try the patterns of a filter."""


@command.command()
@click.argument("pattern")
@click.argument("event")
@click.option(
    "--source",
    type=click.Choice(list(SOURCES)),
    default="none",
    show_default=True,
    help="Whose record it is, for what its data is and what happens if that is not JSON.",
)
def test(pattern: str, event: str, source: str) -> None:
    """Tell whether a pattern matches an event, or which of its fields does not.

    Both are JSON texts, or @ and the name of a file. PATTERN is one pattern, a list of which any
    may match, or Lambda's FilterCriteria. EVENT is one record. With --source, give its data (value,
    data, body) as the JSON or as the text that it is, not in base64.

    Exits with 0 if a pattern matches, 1 if none does, 2 where something cannot be understood.

    \b
      streamfaas filter test '{"status": ["paid"]}' '{"status": "new"}'
      streamfaas filter test @pattern.json @record.json --source kafka
    """  # noqa: D301 - click wants a real backspace
    from streamfaas.flow.mismatch import answers

    judged = _compiled(_given(pattern, "the pattern"), source)
    found = answers(judged, *_record(_given(event, "the event"), judged.data_key))
    for line in _told(found, judged.data_key):
        click.echo(exits.printable(line))
    sys.exit(0 if _wanted(found) else exits.FAILED)


def _wanted(found: Sequence[Answer]) -> bool:
    return not found or any(answer.matches for answer in found)


def _given(argument: str, what: str) -> Any:
    from streamfaas.flow import json_text

    try:
        if not argument.startswith("@"):
            return json_text.read(argument)
        return json_text.read(Path(argument[1:]).read_text(encoding="utf-8"))
    except OSError as error:
        exits.end(exits.USAGE, f"{what}: {argument[1:]}: {error.strerror}")
    except ValueError as error:
        exits.end(exits.USAGE, f"{what} is not JSON: {error}")


def _compiled(given: Any, source: str) -> Filter:
    from streamfaas.flow.errors import BadPattern
    from streamfaas.flow.pattern import NonJson, compile_filter

    patterns = _patterns(given)
    data_key, non_json = SOURCES[source]
    try:
        return compile_filter(patterns, data_key, NonJson[non_json])
    except BadPattern as bad:
        of = f"pattern {int(bad.path[0]) + 1}" if len(patterns) > 1 and bad.path else "the pattern"
        where = BadPattern("", bad.path[1:]).where
        told = (
            f"{of}{': ' if where else ''}{where}: {bad.message}{'; ' if bad.hint else ''}{bad.hint}"
        )
        exits.end(exits.USAGE, exits.printable(told))


def _patterns(given: Any) -> list[Any]:
    """A list of patterns, from one, from several, or from Lambda's FilterCriteria."""
    match given:
        case {"Filters": [*filters], **others} if not others:
            return [each.get("Pattern") if isinstance(each, dict) else each for each in filters]
        case list():
            return given
    return [given]


def _record(event: Any, data_key: str | None) -> tuple[dict[str, Any], Data]:
    """What a source says of a record, and its data apart."""
    from streamfaas.flow.condition import said
    from streamfaas.flow.pattern import Data, Form, data_of

    if not isinstance(event, dict):
        exits.end(exits.USAGE, "the event is not an object")
    data = event.pop(data_key, None) if data_key else None
    if isinstance(data, dict | list):
        return event, Data(Form.JSON, data)
    text = data if data is None or type(data) is str else said(data)
    return event, data_of(None if text is None else text.encode(errors="surrogatepass"))


def _told(found: Sequence[Answer], data_key: str | None) -> Iterator[str]:
    several = len(found) > 1
    if not found:
        yield "matches: without a pattern every event is wanted"
    elif not _wanted(found):
        yield "no match"
    for answer in found:
        name = f"pattern {answer.number + 1}" if several else ""
        if answer.matches:
            ignored = f" ({data_key} is not what it expects, and is ignored)"
            yield f"{name} matches{ignored if answer.ignored else ''}".lstrip()
        for at, miss in enumerate(answer.misses, 1):
            choice = f"$or {at} of {len(answer.misses)}" if len(answer.misses) > 1 else ""
            of = ", ".join(filter(None, (name, choice, miss.field)))
            yield f"  {of}: wanted {miss.wanted}, found {miss.found}"
