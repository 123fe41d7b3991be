"""Partial batch answers (`ReportBatchItemFailures`): which records a function says it failed at."""

from __future__ import annotations

import enum
import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Success

REPORT_BYTES_MAX = 4 * 1024 * 1024
"""The largest answer that is read as a report: 10,000 identifiers have ample room."""

ERROR_TYPE = "ReportBatchItemFailures"


class Style(enum.Enum):
    """What a report means to a source (Lambda's rules differ by source family)."""

    LOWEST = "lowest"  # streams: the lowest position is where to begin again
    LISTED = "listed"  # queues and Kafka: exactly the records listed have failed


@dataclass(frozen=True, slots=True)
class Partial:
    """The function answered, and failed at `rest`; `done` (None: nothing) is finished with."""

    done: Batch | None
    rest: Batch
    style: Style
    failure: Failure


Locate: TypeAlias = Callable[[Batch, object], int | None]
"""A source's reading of an item identifier: the position of the record in the batch that it names;
None where it names none of them."""


def read(
    answer: Success, batch: Batch, style: Style, locate: Locate
) -> Success | Partial | Failure:
    """What an answer says of its batch. An empty report is a success; one that cannot be read, or
    names anything that is not of the batch, is a failure of all of it: to guess could lose
    records. Table 1.8 of the contract, a test for each cell."""
    if answer.answer in _NOTHING_FAILED:
        return answer
    try:
        positions = _positions(answer.answer, batch, locate)
    except _MalformedError as error:
        return Failure(
            Fault.REPORT, ERROR_TYPE, str(error), until=answer.until, report=answer.report
        )
    if not positions:
        return answer
    done, rest = _divided(batch, positions, style)
    assert rest is not None
    count = "1 record" if len(positions) == 1 else f"{len(positions)} records"
    message = f"the function reported {count} as failed, the first at position {positions[0]}"
    failure = Failure(Fault.REPORT, ERROR_TYPE, message, until=answer.until, report=answer.report)
    return Partial(done, rest, style, failure)


def stretches(positions: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Rising positions as stretches of neighbours."""
    if not positions:
        return ()
    ends = [first for first, second in pairwise(positions) if second != first + 1]
    firsts = [positions[0], *(positions[bisect_right(positions, end)] for end in ends)]
    return tuple(zip(firsts, [*ends, positions[-1]], strict=True))


_NOTHING_FAILED = frozenset(
    [b"", b"null", b'""', b"{}", b"[]", b'{"batchItemFailures":[]}', b'{"batchItemFailures":null}']
)
"""What is said most often, in the way it is written by our workers."""

_KEY = "batchItemFailures"
_ITEM_KEY = "itemIdentifier"


class _MalformedError(Exception):
    """An answer that is no report."""


def _positions(answer: bytes, batch: Batch, locate: Locate) -> list[int]:
    found: set[int] = set()
    for item in _items(answer):
        if not isinstance(item, dict) or _ITEM_KEY not in item:
            raise _MalformedError(f"an item of {_KEY} has no {_ITEM_KEY}: {_shown(item)}")
        position = locate(batch, item[_ITEM_KEY])
        if position is None:
            shown = _shown(item[_ITEM_KEY])
            raise _MalformedError(f"{_ITEM_KEY} {shown} names no record of the batch")
        found.add(position)
    return sorted(found)


def _items(answer: bytes) -> list[object]:
    if len(answer) > REPORT_BYTES_MAX:
        raise _MalformedError(f"the answer is too large for a report ({len(answer)} bytes)")
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise _MalformedError(f"the answer cannot be read as a report: {error}") from error
    if said is None or said in ("", [], {}):
        return []
    if not isinstance(said, dict) or _KEY not in said:
        raise _MalformedError(f"the answer is no report: {_KEY} is missing")
    items = said[_KEY]
    if items is None:
        return []
    if not isinstance(items, list):
        raise _MalformedError(f"{_KEY} is no list")
    return items


def _divided(
    batch: Batch, positions: Sequence[int], style: Style
) -> tuple[Batch | None, Batch | None]:
    if style is Style.LOWEST:
        return batch.cut(positions[0])
    rest, done = batch.pick(stretches(positions))
    return done, rest


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
