"""Places of a shard in words, as people read and give them: pure."""

from __future__ import annotations

from datetime import UTC, datetime

from streamfaas.sources.sharded.reading import AFTER, AT, FIRST, SINCE
from streamfaas.store.shards import Mark

EARLIEST = "earliest"
LATEST = "latest"
END = "end"
"""All of a shard, which is closed, is finished with."""


def told(mark: Mark) -> str:
    """Where a shard is read on by its mark."""
    if mark.ended:
        return END
    if mark.kind == AFTER:
        return f"after {mark.sequence}"
    if mark.kind == AT:  # of an aggregate some may be finished with
        return f"{mark.sequence}.{mark.sub}" if mark.sub else mark.sequence
    return time_text(mark.at_ms) if mark.at_ms else EARLIEST


def marked(spot: str, blank: Mark, *, timestamps: bool) -> Mark:
    """A mark that has nothing of its own yet, and stands there now. `ValueError` where the words
    are none of ours. `timestamps`: reading can begin at a time; where it cannot, all is read, and
    what is older passed over."""
    if spot == END:
        return blank._replace(ended=True)
    if spot == EARLIEST:
        return blank._replace(kind=FIRST)
    if spot.isdecimal():
        return blank._replace(kind=AT, sequence=spot)
    return blank._replace(kind=SINCE if timestamps else FIRST, at_ms=_ms(spot))


def is_past(mark: Mark, spot: str) -> bool:
    """Whether a mark stands there, or further on, as far as it says."""
    if spot in {END, LATEST}:
        return mark.ended
    if spot == EARLIEST or mark.ended:
        return True
    if spot.isdecimal():
        return bool(mark.sequence) and int(mark.sequence) >= int(spot)
    return mark.at_ms >= _ms(spot)


def time_text(ms: int) -> str:
    """A time (epoch milliseconds) as a place."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return round(moment.timestamp() * 1000)
