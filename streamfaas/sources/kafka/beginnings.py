"""Where a partition begins that the group has no offset for."""

from __future__ import annotations

import re
import secrets
import zlib
from collections.abc import Collection, Mapping

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streamfaas.sources.kafka.member import Member, Seat
from streamfaas.sources.kafka.options import KafkaOptions


async def first_offsets(
    missing: list[TopicPartition], member: Member, options: KafkaOptions, seat: Seat, seconds: float
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Where partitions begin that the group has no offset for, committed before a record is
    read: `latest` must not move on if we end before the first one is finished with."""
    notes = {place: one.metadata for place, one in (await member.offsets(None)).items()}
    topics, by_pattern = member.topics, options.pattern is not None
    late = [one for one in missing if begins_late(one, notes, topics, by_pattern=by_pattern)]
    starts = await member.starts(late, "earliest", seconds)
    others = [one for one in missing if one not in late]
    starts |= await member.starts(others, options.start, seconds)
    life = secrets.token_hex(4)
    begun = {
        place: OffsetAndMetadata(at, birth_note(member.partitions(place.topic), topics, life))
        for place, at in starts.items()
    }
    await member.commit(begun, seat, patient=True)
    return begun


def birth_note(partitions: int, topics: Collection[str], life: str) -> str:
    """The text committed with a first offset: how many partitions the topic had then, a digest of
    the topics that were read, and a word of its own. It lets every member tell, at any later time
    and without asking the others, what was there from the beginning."""
    return f"streamfaas {partitions}/{_digest(topics)}/{life}"


def life_of(note: str) -> str:
    """Which beginning of a partition its offset comes from: one of a topic that was made anew is
    another, since offsets are deleted with their topic. Empty where it was not begun by us."""
    found = _NOTE.fullmatch(note)
    return (found[3] or "") if found is not None else ""


def begins_late(
    place: TopicPartition,
    notes: Mapping[TopicPartition, str],
    topics: Collection[str],
    *,
    by_pattern: bool,
) -> bool:
    """Whether the partition, for which the group has no offset, came after the group began.

    Such a partition is read from its first record on, whatever the configured start: what was
    written before it was noticed must not be skipped. `notes` are the texts of all offsets that
    the group has committed. In doubt it is late, since that loses nothing.
    """
    born = [_NOTE.fullmatch(note) for other, note in notes.items() if other.topic == place.topic]
    if born:
        counts = [int(found[1]) for found in born if found is not None]
        return not counts or place.partition >= min(counts)
    if not by_pattern or not notes:
        return False  # a topic that the group has never read: it was just configured
    digests = {found[2] for note in notes.values() if (found := _NOTE.fullmatch(note))}
    return _digest(topics) not in digests


def _digest(topics: Collection[str]) -> str:
    return f"{zlib.crc32(' '.join(sorted(topics)).encode()):08x}"


_NOTE = re.compile(r"streamfaas (\d{1,9})/([0-9a-f]{8})(?:/([0-9a-f]{8}))?")
