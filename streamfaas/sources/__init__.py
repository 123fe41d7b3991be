"""Where records come from. One file a kind; the table below is the only list.

A record's way is four files: `next` of its source, `engine.mapping`, `engine.lane`,
`engine.strand`, and back by the lane to `settle` of its source.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from streamfaas.flow.batch import Batch
from streamfaas.flow.event import Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Ledger, Settlement
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Headers, Instant, Lane, Record, Run
from streamfaas.flow.verdict import Judge

KINDS: Mapping[str, str] = {
    "kafka": "streamfaas.sources.kafka:Kafka",
    "kinesis": "streamfaas.sources.sharded.kinesis:kinesis",
    "dynamodb": "streamfaas.sources.sharded.dynamodb:dynamodb",
    "sqs": "streamfaas.sources.sqs:Sqs",
    "directory": "streamfaas.sources.directory:Directory",
    "object-store": "streamfaas.sources.objects:Objects",
    "memory": "streamfaas.sources.memory:Memory",
    "backlog": "streamfaas.sources.backlog:AsyncInvocations",
}
"""What makes them, loaded only when a trigger of the kind is configured."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A lane is ours from now on."""

    lane: Lane


@dataclass(frozen=True, slots=True)
class Arrived:
    """Records of one lane that was ready."""

    run: Run


@dataclass(frozen=True, slots=True)
class Closing:
    """Finish or drop what is in hand of the lane within the grace, then call `closed`. `ended`:
    the lane is at its end, and all that was in it is settled; nobody else waits for it."""

    lane: Lane
    grace_seconds: float
    ended: bool = False


Arrival: TypeAlias = Opened | Arrived | Closing

Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]], str], None]
"""The engine's task group, for sources that need a task: a coroutine function and its name. The
task is cancelled by the engine after `close()`; its exceptions reach the mapping's supervisor."""


@dataclass(frozen=True, slots=True)
class LaneView:
    """What a source knows of a lane beside what the engine knows. `lag` counts records not yet
    finished with (None: unknown); `note` is for people."""

    position: int | None = None
    lag: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What a queue holds since it failed: how often it did, why the last time (empty where that
    was before a restart), and from when on it may go again (None: at once)."""

    attempt: int
    reason: str
    at: Instant | None


@dataclass(frozen=True, slots=True)
class SourceView:
    """How a source stands: `state` is `connecting`, `running` or `degraded`; `reason` says why in
    one line. `blocked` maps a lane to why the source itself holds it (a lost range, a batch that
    stays corrupt), with the commands that help. A queue holds by key and not by lane: `held` names
    its keys as lanes."""

    state: str
    reason: str = ""
    lanes: Mapping[Lane, LaneView] = field(default_factory=dict)
    blocked: Mapping[Lane, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    held: Mapping[Lane, Held] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a log: positions `first`..`last`, or from one time up to another (exclusive, epoch
    milliseconds); None: no bound on that side. `after`: what follows that position of it."""

    first: int | None = None
    last: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Reread:
    """What came of reading once more. `reached`: the last position that was looked at, if there was
    any; records that are older than the stretch count. `more`: it may have more after that."""

    records: tuple[Record, ...]
    reached: int | None
    more: bool


@runtime_checkable
class Rereadable(Protocol):
    """A log that can be read once more beside its reading. Errors are `WorldError`s."""

    @property
    def counted(self) -> bool:
        """Positions rise one by one: a stretch from one to another says how much there is in it."""

    async def stretches(
        self, lane_names: Collection[str], wanted: Stretch
    ) -> Mapping[Lane, Stretch]:
        """What to read of a stretch, bounded by now, in each of the lanes that may have any of it;
        of all that there are where none is named."""

    async def reread(self, lane: Lane, wanted: Stretch, records_max: int) -> Reread:
        """Records of such a stretch, so many at most; what was put together as one record comes
        whole."""


@runtime_checkable
class Windowed(Protocol):
    """A log that tumbling windows can be laid over."""

    @property
    def arn(self) -> str:
        """What its events call it by; empty where it has no such name."""

    def life(self, lane: Lane) -> str:
        """Says what positions of the lane mean: where the same one may be of another record, this
        is another text."""

    def seen_empty(self, lane: Lane) -> Instant | None:
        """When (by the event loop's clock) the log was last seen to hold nothing of the lane beyond
        what was handed over; None: not since the lane was opened."""


Place: TypeAlias = "Literal['earliest', 'latest'] | int"
"""Where a log may be read from: its ends, or a time (epoch milliseconds)."""


Spot: TypeAlias = int | str
"""Where a lane is read on: the position of the record that comes next, or, where that says nothing
to people, its log's words for it."""


@runtime_checkable
class Leased(Protocol):
    """A source whose lanes others take over once it does not answer for them."""

    @property
    def lease_seconds(self) -> float:
        """After it has failed: for so long what is in flight is surely ours still."""


@runtime_checkable
class Seekable(Protocol):
    """A log that can be read on from elsewhere. Errors are `WorldError`s."""

    def standing(self) -> Mapping[Lane, Spot]:
        """Of the lanes that are ours: what is read next after what is settled."""

    def elsewhere(self) -> tuple[str, ...]:
        """Lanes of the log that others read."""

    async def places(self, lanes: Collection[Lane], to: Place) -> Mapping[Lane, Spot]:
        """What a place stands for; of a time, the first record of then or later, or the end."""

    async def seek(self, spots: Mapping[Lane, Any], /) -> None:
        """Makes this what is read next, durable when this returns. The engine has let go of the
        lanes, as after `Closing`: they are opened anew once it calls `closed`, where they are to
        be read now, or, if this has failed, where they stood. A crash meanwhile leaves them at one
        of the two: those that were asked for together, all at the same one."""


@runtime_checkable
class Branching(Seekable, Protocol):
    """A seekable log whose lanes come out of each other, and whose spots are words. What is sent
    back takes along what came out of it: `places` names those lanes, too."""

    async def at(self, lanes: Collection[Lane], position: int) -> Mapping[Lane, Spot]:
        """What a position of its log's own stands for."""

    def is_past(self, lane: Lane, spot: Spot) -> bool:
        """Whether a lane stands there, or further on."""


@dataclass(frozen=True, slots=True)
class Message:
    """A test event: a record's value, key and headers, or the content of a file and its name. The
    source chooses what is not given."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """Where it lies: at a position of a lane of a log, or, where that is not known yet, under what
    its source knows it by. `place` is for people."""

    place: str
    lane: Lane | None = None
    position: int | None = None
    key: bytes | None = None


class Sender(Protocol):
    """Puts messages where a source will find them. `target` names that for people. Errors are
    `CannotSend` and `WorldError`."""

    target: str

    async def send(self, message: Message) -> Sent: ...


@runtime_checkable
class Sendable(Protocol):
    """A source that test events can be sent to. `known_by` says of a record under which key it was
    `Sent`; None where its position is always known."""

    @property
    def known_by(self) -> Callable[[Record], bytes | None] | None: ...

    def sender(self, topic: str) -> AbstractAsyncContextManager[Sender]:
        """Opens a way; `topic` says where to, for a source that reads several."""


@runtime_checkable
class Asynchronous(Protocol):
    """What a source of manner `ASYNC` knows of its events, since somebody has handed them over."""

    def request_id(self, batch: Batch) -> str:
        """The one of all attempts at a batch; of others each attempt has its own."""

    def client_context(self, batch: Batch) -> bytes:
        """What the caller gave beside an event: JSON, or nothing."""

    def reports(self, batch: Batch) -> bool:
        """Whether an answer to the batch is read as a report of failed items, where its mapping
        has that at all."""


class Source(Protocol):
    """A reader, plus a choice of ledger and judge. Errors that leave `open`, `next`, `settle` and
    `close` are `WorldError`s; the mapping's supervisor then closes this object and makes a new
    one. Everything that waits has a deadline of its own."""

    manner: ClassVar[Manner]
    """Who waits: nobody (`STREAM`), or somebody who has handed over an event (`ASYNC`)."""
    judge: Judge

    @property
    def kind(self) -> str:
        """As in the table above."""

    @property
    def style(self) -> Style:
        """What a partial answer means."""

    def ledger(self, lane: Lane) -> Ledger: ...

    def shape(self, batch: Batch) -> Event:
        """The event for a batch, pure. May be raw (`Encoding.KAFKA`)."""

    def event(self, batch: Batch) -> bytes:
        """The event as JSON, pure: what the handler would see, byte for byte. `CorruptBatch`
        where the bytes are damaged."""

    def records(self, batch: Batch) -> tuple[Record, ...]:
        """The records of a batch, looked at, pure. `CorruptBatch` where the bytes are damaged."""

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        """What filters see of a record: its metadata, and its data."""

    def locate(self, batch: Batch, identifier: object) -> int | None:
        """The position of the record that an item identifier of a partial answer names; None where
        it names none of the batch."""

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        """Lambda's `<Source>BatchInfo` of an on-failure document: one key with its content."""

    async def open(self, spawn: Spawn) -> None:
        """Connects. Must be safe to `close()` after it failed half-way."""

    async def next(self, ready: Collection[Lane]) -> Arrival:
        """The next thing that happens; records only of lanes that are in `ready`, a live
        collection that the engine changes while this waits (it calls `wake` then)."""

    def wake(self) -> None:
        """`ready` has changed."""

    async def rewind(self, lane: Lane, position: int) -> None:
        """Read the lane again from `position` on; what was handed over from there is forgotten."""

    async def closed(self, lane: Lane) -> None:
        """The answer to `Closing`: all that will be settled of the lane has been."""

    async def settle(self, settlement: Settlement) -> None:
        """Remembers what is finished with. May be made durable a little later (a commit timer),
        but never before it is told, and always before `close` returns."""

    def durable(self, lane: Lane) -> int | None:
        """Logs: the last position of the lane whose settlement survives a crash (None: not known).
        What a queue settles is durable at once."""

    async def close(self) -> None:
        """Gives a last durable settlement and lets go, within a deadline of its own."""

    def view(self) -> SourceView: ...
