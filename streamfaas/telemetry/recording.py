"""What is written down of one batch while it is worked on: times and plain facts, no span yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

from streamfaas.flow import trace
from streamfaas.flow.batch import Batch
from streamfaas.flow.letters import Attribute as LetterAttribute
from streamfaas.flow.letters import Letter
from streamfaas.flow.outcome import Failure, Outcome
from streamfaas.flow.trace import NO_LINKS, Context, Links
from streamfaas.telemetry import names, signals
from streamfaas.telemetry.signals import Signal
from streamfaas.telemetry.spans import Attribute

T = TypeVar("T")

ATTEMPTS_MAX = 16
EVENTS_MAX = 16
SENDINGS_MAX = 8
SETTLEMENTS_MAX = 16
"""So many of each from the beginning of a batch, and as many from its end: a lane that is blocked
for hours does not fill the memory with what it tries."""

_ERROR_CHARACTERS_MAX = 200
_LOW_64 = (1 << 64) - 1
_STRIDE = 0x9E3779B97F4A7C15  # odd, so that the ids of one trace all differ


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the batches of a mapping come from: the `kind` of its source, what is read (`place`;
    empty: what the lane is named after) as whom (`group`), and whose function it is for, with
    how much memory (0: not known)."""

    function: str = ""
    function_arn: str = ""
    kind: str = ""
    place: str = ""
    group: str = ""
    memory_bytes: int = 0


NOWHERE = Origin()


class Ends(Generic[T]):
    """The first of a series and its last, and how many were between."""

    __slots__ = ("_kept", "_most", "left_out")

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[T] = []
        self.left_out = 0

    def __iter__(self) -> Iterator[T]:
        return iter(self._kept)

    def __len__(self) -> int:
        """Of all there were."""
        return len(self._kept) + self.left_out

    def add(self, item: T) -> None:
        if len(self._kept) == 2 * self._most:
            del self._kept[self._most]
            self.left_out += 1
        self._kept.append(item)


class Attempt(NamedTuple):
    """One attempt at a batch, or at a part of it. `ended` None: it has not. `error` is a type and
    never a message, which may hold what was in the records. `number` 0: it is no attempt at a
    batch."""

    span_id: int
    request_id: str
    started: int
    ended: int | None = None
    outcome: str = ""
    error: str = ""
    worker: str = ""
    cold: bool = False
    number: int = 0
    first: int = 0
    last: int = 0
    records: int = 0
    bisected: bool = False


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


class Means(NamedTuple):
    """What all recordings of a daemon are made with: clocks in nanoseconds, whom to tell of their
    ends, and how many links a span has."""

    now: Callable[[], int]
    wall: Callable[[], int]
    end: Callable[[Recording], None]
    links_max: int


class Recording:
    """One batch from its hand-over to a strand until all of it is finished with (or, without a
    batch, one call). A context manager: its end is when the decision falls whether it is kept.

    One is made for each batch, so that nothing is made for what seldom happens before it does.
    """

    __slots__ = (
        "_attempts", "_given", "_means", "_pending", "_seen", "batch", "ended", "epoch", "events",
        "failed", "given_up", "last_error", "links", "now", "origin", "parent", "process_id",
        "sampled", "sendings", "settlements", "started", "trace_id", "waited",
    )  # fmt: skip

    def __init__(
        self,
        means: Means,
        origin: Origin,
        batch: Batch | None,
        parent: Context | None,
        *,
        ids: int,
        sampled: bool,
        waited: int,
    ) -> None:
        self._means = means
        self.now = means.now
        self.origin = origin
        self.batch = batch
        self.parent = parent
        self.trace_id = parent.trace_id if parent is not None else ids >> 64 or 1
        self.process_id = ids & _LOW_64 or 1
        self.sampled = sampled
        self.started = means.now()
        self.epoch = means.wall()
        self.waited = waited
        self.ended: int | None = None
        self.failed = False
        self.given_up = self.last_error = ""
        self.links: Links = NO_LINKS
        self.events: Ends[Event] | None = None
        self.sendings: Ends[Sending] | None = None
        self.settlements: Ends[Settlement] | None = None
        self._attempts: Ends[Attempt] = Ends(ATTEMPTS_MAX)
        self._pending: tuple[int, str, int] | None = None  # begun: what an attempt begins with
        self._given = 0
        self._seen = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended = self.now()
        self._means.end(self)

    @property
    def is_kept(self) -> bool:
        """Whether it is already known that it will be. It may also turn out to be slow."""
        return self.sampled or self.failed

    @property
    def error(self) -> str:
        """What is wrong with the batch as a whole: it was given up, or it goes back unfinished."""
        return self.given_up or self.last_error

    # -- attempts

    @property
    def attempted(self) -> int:
        """How many there were, with the one that is in hand."""
        return len(self._attempts) + (self._pending is not None)

    @property
    def left_out(self) -> int:
        """How many of them are only counted."""
        return self._attempts.left_out

    def attempts(self) -> Iterator[Attempt]:
        yield from self._attempts
        if self._pending is not None:
            yield Attempt(*self._pending)

    def attempt(self, request_id: str) -> Context:
        """One begins; the context is what its function goes on from."""
        span_id = self.span_id()
        self._pending = span_id, request_id, self.now()
        return Context(self.trace_id, span_id, self.sampled or self.failed)

    def tried(self, batch: Batch | None, outcome: Outcome) -> Context | None:
        """The attempt has ended so, and those records took part. Its context, if it is kept."""
        assert self._pending is not None
        (span_id, request_id, started), self._pending = self._pending, None
        report, said, error = outcome.report, "success", ""
        if isinstance(outcome, Failure):
            self.failed = True
            said, error = outcome.fault.value, _plain(outcome.type)
        self.last_error = error
        cold = report.init_seconds is not None
        told = span_id, request_id, started, self.now(), said, error, report.worker, cold
        if batch is None:
            self._attempts.add(Attempt(*told))
        else:
            number, part = batch.attempt + 1, batch.splits > 0
            place = number, batch.first, batch.last, batch.count, part
            self._attempts.add(Attempt._make(told + place))
        if not (self.sampled or self.failed):
            return None
        if batch is not None and batch.last > self._seen and self.parent is None:
            self._link(batch, report.producers)
        return Context(self.trace_id, span_id, sampled=True)

    def _link(self, batch: Batch, section: bytes) -> None:
        """To the contexts of the records, by whoever has looked at them: us, or the worker."""
        self._seen = batch.last
        told, known = trace.handed_back(section), self.links
        found = (*known.contexts, *trace.producers(batch), *told.contexts)
        self.links = trace.linked(found, self._means.links_max, known.dropped + told.dropped)

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
        made = Sending(context, self.now(), self.now, kind, to)
        if self.sendings is None:
            self.sendings = Ends(SENDINGS_MAX)
        self.sendings.add(made)
        return made

    def settled(self, position: int, begun: int) -> None:
        """The source was told that all before a position is finished with."""
        if self.settlements is None:
            self.settlements = Ends(SETTLEMENTS_MAX)
        self.settlements.add((begun, self.now(), position))

    def span_id(self) -> int:
        """One more: unlike all others of this trace, and without drawing it."""
        self._given += 1
        return (self.process_id + self._given * _STRIDE) & _LOW_64 or 1

    def _event(self, name: str, attributes: Mapping[str, Attribute]) -> None:
        if self.events is None:
            self.events = Ends(EVENTS_MAX)
        self.events.add((self.now(), name, attributes))


def _plain(error: str) -> str:
    """A function says what it likes."""
    return error[:_ERROR_CHARACTERS_MAX].encode("utf-8", "backslashreplace").decode()


def _offsets(first: int, last: int) -> dict[str, Attribute]:
    return {names.FIRST_OFFSET: first, names.LAST_OFFSET: last}
