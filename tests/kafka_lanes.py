"""The engine over a Kafka source, with a function that runs in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from base64 import b64decode
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import anyio
import orjson
from aiokafka.errors import KafkaError
from aiokafka.record.memory_records import MemoryRecords

from replay.batches import walk
from streamfaas.engine.lane import Filter, LanePolicy, Surroundings
from streamfaas.engine.mapping import Mapping
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.letters import Letter
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources.kafka import Kafka, KafkaOptions
from streamfaas.telemetry import signals

NAME = "f/t"
WAIT_SECONDS = 60.0

Work = Callable[["Call"], Awaitable[None]]


class Call:
    """One run of the function: the offsets it was given, and the values."""

    def __init__(self, lane: str, found: list[tuple[int, bytes | None]]) -> None:
        self.lane = lane
        self.offsets = [offset for offset, _ in found]
        self.values = [value for _, value in found]
        self.ended = False


class Aside:
    """Where batches go that are given up. Nothing is, without a limit to retries."""

    kind = "aside"
    per_record = False
    notes = False
    payload = "json"
    name = "aside"

    def __init__(self) -> None:
        self.documents: list[Any] = []

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def send(self, letters: Sequence[Letter]) -> None:
        self.documents += [orjson.loads(letter.document) for letter in letters]


class Lanes:
    """One mapping. `work` is what the function does with a call: return, wait, or raise.

    `calls` are all calls as they began; `ran` the offsets of those that ended well, by lane, in
    the order in which they did.
    """

    def __init__(
        self,
        options: KafkaOptions,
        *,
        work: Work | None = None,
        size: int = 100,
        filter: Filter | None = None,  # noqa: A002 - as the policy has it
    ) -> None:
        self.options = options
        self.sources: list[Kafka] = []
        self.signals: list[signals.Signal] = []
        self.calls: list[Call] = []
        self.ran: dict[str, list[int]] = defaultdict(list)
        self.aside = Aside()
        self._work = work
        self._changed = asyncio.Event()
        around = Surroundings(
            dispatch=self._dispatch,
            clock=time.monotonic,
            wall=lambda: 1_700_000_000.0,
            jitter=lambda: 0.0,
            request_id=RequestIds(),
            emit=self._heard,
        )
        policy = LanePolicy(
            "f",
            "arn:aws:lambda:us-east-1:000000000000:function:f",
            BatchPolicy(size),
            RetryPolicy(backoff_seconds=0.05, backoff_seconds_max=0.2),
            self.aside,
            self.aside,
            filter=filter,
        )
        self.mapping = Mapping(NAME, self._make_source, policy, around)

    @property
    def source(self) -> Kafka:
        """The one that is read now."""
        return self.sources[-1]

    def told(self, kind: type) -> list[Any]:
        return [signal for signal in self.signals if isinstance(signal, kind)]

    def states(self) -> list[str]:
        """The states of the source that anybody was told of."""
        return [signal.state for signal in self.told(signals.SourceChanged)]

    def view(self) -> dict[str, Any]:
        """As `status` shows it."""
        return self.mapping.view(time.monotonic())

    def blocked(self) -> dict[str, str]:
        """Why lanes are blocked."""
        lanes = self.view()["lanes"]
        return {lane["name"]: lane["reason"] for lane in lanes if lane["state"] == "blocked"}

    def open(self) -> list[str]:
        return [lane["name"] for lane in self.view()["lanes"]]

    async def until(self, true: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Until something holds; looked at whenever anything happens, and every 20 ms."""
        with anyio.move_on_after(seconds):
            while not true():
                self._changed.clear()
                with anyio.move_on_after(0.02):
                    await self._changed.wait()
            return
        ran = {lane: len(offsets) for lane, offsets in self.ran.items()}
        raise AssertionError(f"not within {seconds:.0f} s; ran {ran}; {self.view()}")

    async def until_ran(self, *counts: int, seconds: float = WAIT_SECONDS) -> None:
        """Until so many records of each partition of the topic `orders` have run."""

        def enough() -> bool:
            return all(len(self.ran[f"orders-{n}"]) >= count for n, count in enumerate(counts))

        await self.until(enough, seconds)

    def _make_source(self) -> Kafka:
        made = Kafka(NAME, self.options, clock=time.monotonic, emit=self._heard)
        self.sources.append(made)
        return made

    def _heard(self, signal: signals.Signal) -> None:
        self.signals.append(signal)
        self._changed.set()

    async def _dispatch(self, invocation: Any) -> Outcome:
        records, until = _records(invocation.event)
        if until is not None and not records:
            return Failure(Fault.CORRUPT, "CorruptBatch", f"damaged at offset {until}")
        call = Call(invocation.lane.name, records)
        self.calls.append(call)
        self._changed.set()
        if self._work is not None:
            try:
                await self._work(call)
            except FunctionFailed as failed:
                return Failure(Fault.FUNCTION, "FunctionFailed", str(failed))
        call.ended = True
        self.ran[call.lane] += call.offsets
        self._changed.set()
        return Success(b"null", until=until)


def _records(event: Event) -> tuple[list[tuple[int, bytes | None]], int | None]:
    """What the function is given, and where the damage begins."""
    if event.encoding is Encoding.JSON:  # somebody has looked into it: a filter
        (told,) = orjson.loads(b"".join(event.parts))["records"].values()
        return [(one["offset"], b64decode(one["value"])) for one in told], None
    assert event.encoding is Encoding.KAFKA
    about = orjson.loads(event.describe)
    return decoded(b"".join(event.parts), about["first"], about["last"])


class FunctionFailed(Exception):
    """What a function raises."""


def decoded(
    data: bytes, first: int, last: int
) -> tuple[list[tuple[int, bytes | None]], int | None]:
    """The records of whole batches as a worker takes them: up to the first damage, and where it
    is (None: there is none)."""
    found: list[tuple[int, bytes | None]] = []
    for start, end in walk(data):
        try:
            batch = MemoryRecords(data[start:end]).next_batch()
            intact = batch.validate_crc()
            records = [(one.offset, one.value) for one in batch] if intact else []
        except (KafkaError, ValueError, AssertionError, IndexError):
            intact = False
        if not intact:
            return found, struct.unpack_from(">q", data, start)[0]
        found += [(offset, value) for offset, value in records if first <= offset <= last]
    return found, None


def options(bootstrap: str, *topics: str, **other: Any) -> KafkaOptions:
    """Quick for tests. A session is as long as a busy machine may keep a member from its turn."""
    chosen: dict[str, Any] = {
        "group": "g",
        "start": "earliest",
        "session_timeout_seconds": 6.0,
        "rebalance_timeout_seconds": 4.0,
        "metadata_seconds": 1.0,
        "commit_seconds": 0.05,
        "open_seconds": 5.0,
        "fetch_wait_seconds": 0.05,
        **other,
    }
    return KafkaOptions(brokers=tuple(bootstrap.split(",")), topics=topics, **chosen)


@contextlib.asynccontextmanager
async def consuming(lanes: Lanes, grace_seconds: float = 5.0) -> AsyncIterator[Lanes]:
    """The mapping runs; at the end it is stopped as the daemon stops it."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lanes.mapping.run)
        try:
            yield lanes
        finally:
            with anyio.CancelScope(shield=True):
                await lanes.mapping.stop(grace_seconds)
