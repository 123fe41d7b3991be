"""Whether records may have been lost to a stream's retention while nobody read them: pure."""

from __future__ import annotations

from streamfaas.store.shards import Mark
from streamfaas.wire.shards import Described

MARGIN_SECONDS = 3600.0


def limit_ms(described: Described, now: float) -> float:
    """What was last known to be whole before then may not be any more."""
    return (now - described.retention_seconds + MARGIN_SECONDS) * 1000


def known_ms(mark: Mark) -> int:
    """Nothing that is to be read was lost before then; 0: not known."""
    return max(mark.at_ms if mark.sequence else 0, mark.seen_ms)


def may_be_trimmed(mark: Mark, limit: float, newest_ms: int = 0) -> bool:
    """`newest_ms` counts for a mark that knows no time."""
    return not mark.ended and 0 < (known_ms(mark) or newest_ms) < limit


def told_of(mark: Mark) -> str:
    """What people are told then."""
    return (
        f"{mark.shard} was last read about as long ago as the stream keeps records; "
        "some that came after that may have been lost"
    )


def passed(shard: str) -> str:
    """What they are told where a record is not there any more that was."""
    return (
        f"the record of {shard} that reading was to go on at is past the stream's retention; "
        "records after it may have been lost to it"
    )
