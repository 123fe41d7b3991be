"""What is written down of one batch while it is worked on: times and plain facts, no span yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, Self, TypeVar

from streamfaas.flow import trace
from streamfaas.flow.batch import Batch
from streamfaas.flow.letters import Attribute as LetterAttribute
from streamfaas.flow.letters import Letter
from streamfaas.flow.outcome import Failure, Outcome
from streamfaas.flow.trace import NO_LINKS, Context, Links
from streamfaas.flow.verdict import deliveries
from streamfaas.telemetry import names, signals
from streamfaas.telemetry.signals import Signal
from streamfaas.telemetry.spans import Attribute

T = TypeVar("T")

ATTEMPTS_MAX = 16
EVENTS_MAX = 16
SENDINGS_MAX = 8
SETTLEMENTS_MAX = 4
"""So many of each from the beginning of a batch, and as many from its end: a lane that is blocked
for hours does not fill the memory with what it tries."""

_ERROR_CHARACTERS_MAX = 200
_LOW_64 = (1 << 64) - 1
_STRIDE = 0x9E3779B97F4A7C15  # odd, so that the ids of one trace all differ


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the batches of a mapping come from: the `kind` of its source, what is read (`place`;
    empty: what the lane is named after) as whom (`group`), and whose function it is for."""

    function: str = ""
    function_arn: str = ""
    kind: str = ""
    place: str = ""
    group: str = ""


NOWHERE = Origin()


class Ends(Generic[T]):
    """The first of a series and its last, and how many were between."""

    __slots__ = ("_first", "_last", "_most", "left_out")

    def __init__(self, most: int) -> None:
        self._most = most
        self._first: list[T] = []
        self._last: deque[T] | None = None
        self.left_out = 0

    def __iter__(self) -> Iterator[T]:
        yield from self._first
        yield from self._last or ()

    def __len__(self) -> int:
        """Of all there were."""
        return len(self._first) + len(self._last or ()) + self.left_out

    def add(self, item: T) -> None:
        if len(self._first) < self._most:
            self._first.append(item)
            return
        if self._last is None:
            self._last = deque(maxlen=self._most)
        self.left_out += len(self._last) == self._most
        self._last.append(item)


class Attempt:
    """One attempt at a batch, or at a part of it. `ended` None: it has not. `error` is a type and
    never a message, which may hold what was in the records."""

    __slots__ = (
        "bisected", "cold", "count", "ended", "error", "first", "last", "number", "outcome",
        "request_id", "span_id", "started", "worker",
    )  # fmt: skip

    def __init__(self, span_id: int, started: int, request_id: str) -> None:
        self.span_id = span_id
        self.started = started
        self.request_id = request_id
        self.ended: int | None = None
        self.first = self.last = self.count = self.number = 0
        self.cold = self.bisected = False
        self.worker = self.outcome = self.error = ""


@dataclass(slots=True)
class Sending:
    """Letters on their way to a destination. `ended` None: they are not there yet."""

    context: Context
    started: int
    now: Callable[[], int]
    kind: str
    to: str
    letters: int = 0
    ended: int | None = None

    def stamped(self, letters: tuple[Letter, ...]) -> tuple[Letter, ...]:
        """The letters, with the context that whoever gets them goes on from."""
        stamp = LetterAttribute(trace.TRACEPARENT, "String", self.context.traceparent)
        return tuple(replace(each, attributes=(*each.attributes, stamp)) for each in letters)

    def done(self, letters: int) -> None:
        self.letters, self.ended = letters, self.now()


Event = tuple[int, str, Mapping[str, Attribute]]
Settlement = tuple[int, int, int]  # begun, ended, position


class Recording:
    """One batch from its hand-over to a strand until all of it is finished with (or, without a
    batch, one call). A context manager: its end is when the decision falls whether it is kept."""

    __slots__ = (
        "_attempt", "_end", "_given", "_now", "_seen", "attempts", "batch", "ended", "epoch",
        "events", "failed", "given_up", "last_error", "links", "links_max", "origin", "parent",
        "process_id", "sampled", "sendings", "settlements", "started", "trace_id", "waited",
    )  # fmt: skip

    def __init__(
        self,
        origin: Origin,
        batch: Batch | None,
        *,
        parent: Context | None,
        ids: int,
        sampled: bool,
        waited: int,
        links_max: int,
        now: Callable[[], int],
        epoch: int,
        end: Callable[[Recording], None],
    ) -> None:
        self.origin = origin
        self.batch = batch
        self.parent = parent
        self.trace_id = parent.trace_id if parent is not None else ids >> 64 or 1
        self.process_id = ids & _LOW_64 or 1
        self.sampled = sampled
        self.started = now()
        self.epoch = epoch
        self.waited = waited
        self.ended: int | None = None
        self.failed = False
        self.given_up = ""
        self.last_error = ""
        self.links_max = links_max
        self.links: Links = NO_LINKS
        self.attempts: Ends[Attempt] = Ends(ATTEMPTS_MAX)
        self.events: Ends[Event] | None = None
        self.sendings: Ends[Sending] | None = None
        self.settlements: Ends[Settlement] = Ends(SETTLEMENTS_MAX)
        self._attempt: Attempt | None = None
        self._given = 0
        self._seen = -1
        self._now = now
        self._end = end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended = self._now()
        self._end(self)

    def now(self) -> int:
        return self._now()

    @property
    def is_kept(self) -> bool:
        """Whether it is already known that it will be. It may also turn out to be slow."""
        return self.sampled or self.failed

    @property
    def error(self) -> str:
        """What is wrong with the batch as a whole: it was given up, or it goes back unfinished."""
        return self.given_up or self.last_error

    # -- attempts

    def attempt(self, request_id: str) -> Context:
        """One begins; the context is what its function goes on from."""
        attempt = self._attempt = Attempt(self.span_id(), self._now(), request_id)
        self.attempts.add(attempt)
        return Context(self.trace_id, attempt.span_id, self.is_kept)

    def tried(self, batch: Batch | None, outcome: Outcome) -> Context | None:
        """The attempt has ended so, and those records took part. Its context, if it is kept."""
        attempt, report = self._attempt, outcome.report
        assert attempt is not None
        attempt.ended = self._now()
        attempt.worker = report.worker
        attempt.cold = report.init_seconds is not None
        attempt.outcome = "success"
        if isinstance(outcome, Failure):
            self.failed = True
            self.last_error = attempt.error = _plain(outcome.type)
            attempt.outcome = outcome.fault.value
        else:
            self.last_error = ""
        if batch is not None:
            attempt.first, attempt.last, attempt.count = batch.first, batch.last, batch.count
            attempt.number = max(batch.attempt, deliveries(batch)) + 1
            attempt.bisected = batch.splits > 0
            if self.is_kept and batch.last > self._seen and self.parent is None:
                self._link(batch, report.producers)
        return Context(self.trace_id, attempt.span_id, sampled=True) if self.is_kept else None

    def _link(self, batch: Batch, section: bytes) -> None:
        """To the contexts of the records, by whoever has looked at them: us, or the worker."""
        self._seen = batch.last
        told, known = trace.handed_back(section), self.links
        found = (*known.contexts, *trace.producers(batch), *told.contexts)
        self.links = trace.linked(found, self.links_max, known.dropped + told.dropped)

    # -- what else happens to it

    def hear(self, signal: Signal) -> None:
        """Something that was told of the lane concerns this batch. Only what goes wrong is."""
        self.failed = True
        match signal:
            case signals.LaneRetrying(_, first, last, attempt, wait, blocked, _):
                told: dict[str, Attribute] = {
                    **_offsets(first, last),
                    names.ATTEMPT: attempt,
                    names.WAIT_SECONDS: round(wait, 3),
                }
                self._event("blocked" if blocked else "retry", told)
            case signals.BatchSplit(_, first, last, records):
                parts = tuple(str(count) for count in records)
                self._event("split", {**_offsets(first, last), names.PART_RECORDS: parts})
            case signals.BatchSetAside(_, first, last, _, condition, destination):
                self.given_up = condition
                told = {names.CONDITION: condition, names.TO: destination}
                self._event("set aside", {**_offsets(first, last), **told})
            case signals.DestinationFailed(_, destination, _, wait):
                told = {names.TO: destination, names.WAIT_SECONDS: round(wait, 3)}
                self._event("destination failed", told)
            case _:
                raise AssertionError(f"{signal} is no signal of a batch")

    def sending(self, kind: str, to: str) -> Sending:
        """Letters about the batch are to go to a destination."""
        context = Context(self.trace_id, self.span_id(), self.is_kept)
        made = Sending(context, self._now(), self._now, kind, to)
        if self.sendings is None:
            self.sendings = Ends(SENDINGS_MAX)
        self.sendings.add(made)
        return made

    def settled(self, position: int, begun: int) -> None:
        """The source was told that all before a position is finished with."""
        self.settlements.add((begun, self._now(), position))

    def span_id(self) -> int:
        """One more: unlike all others of this trace, and without drawing it."""
        self._given += 1
        return (self.process_id + self._given * _STRIDE) & _LOW_64 or 1

    def _event(self, name: str, attributes: Mapping[str, Attribute]) -> None:
        if self.events is None:
            self.events = Ends(EVENTS_MAX)
        self.events.add((self._now(), name, attributes))


def _plain(error: str) -> str:
    """A function says what it likes."""
    return error[:_ERROR_CHARACTERS_MAX].encode("utf-8", "backslashreplace").decode()


def _offsets(first: int, last: int) -> dict[str, Attribute]:
    return {names.FIRST_OFFSET: first, names.LAST_OFFSET: last}
