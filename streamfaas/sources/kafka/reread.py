"""A part of a topic read once more, outside of any group: nothing is committed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streamfaas.flow.errors import Unreachable
from streamfaas.flow.record import Lane, Record
from streamfaas.sources import Reread, Stretch
from streamfaas.sources.kafka.options import KafkaOptions
from streamfaas.wire.kafka import begun, connection, quiet, reach, translated

READ_SECONDS = 30.0
"""How long one reading may take, connecting included."""

_POLL_MS = 500
_STOP_SECONDS = 2.0


async def stretches(
    options: KafkaOptions,
    lanes: tuple[Lane, ...],
    wanted: Stretch,
    *,
    clock: Callable[[], float],
) -> dict[Lane, Stretch]:
    """Which offsets of the lanes' partitions a stretch covers today: first and last, both
    included; partitions of which it covers none are left out."""
    async with _consumer(options, clock) as consumer:
        places = {_place(lane): lane for lane in lanes}
        begins = await consumer.beginning_offsets(list(places))
        ends = await consumer.end_offsets(list(places))
        found = {}
        for place, lane in places.items():
            first, last = begins[place], ends[place] - 1
            if wanted.first is not None:
                first = max(first, wanted.first)
            if wanted.last is not None:
                last = min(last, wanted.last)
            if wanted.since_ms is not None:
                first = max(first, await _at(consumer, place, wanted.since_ms, ends[place]))
            if wanted.until_ms is not None:
                last = min(last, await _at(consumer, place, wanted.until_ms, ends[place]) - 1)
            if first <= last:
                found[lane] = Stretch(first, last)
        return found


async def reread(
    options: KafkaOptions,
    lane: Lane,
    first: int,
    last: int,
    records_max: int,
    *,
    clock: Callable[[], float],
) -> Reread:
    """Records from `first` to `last` at most."""
    async with _consumer(options, clock) as consumer:
        place = _place(lane)
        consumer.assign([place])
        consumer.seek(place, first)
        records: list[Record] = []
        following = first
        while following <= last and len(records) < records_max:
            room = records_max - len(records)
            arrived = await consumer.getmany(place, timeout_ms=_POLL_MS, max_records=room)
            found = arrived.get(place, ())
            records += [_record(lane, one) for one in found if one.offset <= last]
            following = await consumer.position(place)
        return Reread(tuple(records), min(following - 1, last), more=following <= last)


@asynccontextmanager
async def _consumer(
    options: KafkaOptions, clock: Callable[[], float]
) -> AsyncIterator[AIOKafkaConsumer]:
    quiet()
    where = ",".join(options.brokers)
    try:
        with anyio.fail_after(READ_SECONDS):
            asked = connection(options.tls, options.sasl, clock)
            await reach(options.brokers, asked, READ_SECONDS / (len(options.brokers) + 1))
            consumer = AIOKafkaConsumer(
                bootstrap_servers=list(options.brokers),
                client_id=options.client_id,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level=options.isolation_level,
                **asked,
            )
            try:
                await begun(consumer.start)
                yield consumer
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_STOP_SECONDS):
                    await consumer.stop()
    except TimeoutError as error:
        raise Unreachable(f"{where}: not read within {READ_SECONDS:g} s") from error
    except KafkaError as error:
        raise translated(error, where) from error


async def _at(consumer: AIOKafkaConsumer, place: TopicPartition, ms: int, end: int) -> int:
    """The first offset whose record is of that time or later; the end where there is none."""
    found = (await consumer.offsets_for_times({place: ms}))[place]
    return end if found is None else int(found.offset)


def _place(lane: Lane) -> TopicPartition:
    topic, _, partition = lane.name.rpartition("-")
    return TopicPartition(topic, int(partition))


def _record(lane: Lane, one: ConsumerRecord) -> Record:
    return Record(
        lane,
        one.offset,
        one.value,
        one.key,
        one.timestamp,
        one.timestamp_type,
        tuple((name, value or b"") for name, value in one.headers),
    )
