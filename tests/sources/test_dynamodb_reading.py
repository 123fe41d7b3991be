"""A shard of changes that is read from its beginning, and what came before the birth is not."""

from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Lane
from streamfaas.sources.sharded.dynamodb import DynamoDb
from streamfaas.sources.sharded.pages import positions
from streamfaas.sources.sharded.reading import AFTER, PASS_MARGIN_MS, Reading
from streamfaas.store.shards import Mark
from streamfaas.wire.shards import Page

LANE = Lane("shop/stock", "shardId-00000001795640098585-f35f62ef")
BIRTH = 1_795_640_000
MARGIN = PASS_MARGIN_MS // 1000


def change(number, seconds):
    return {
        "eventName": "INSERT",
        "dynamodb": {
            "SequenceNumber": f"{10**24 + number}",
            "ApproximateCreationDateTime": seconds,
            "Keys": {"id": {"N": str(number)}},
        },
    }


def reading(at_ms=BIRTH * 1000, iterator=None):
    mark = Mark(LANE.name, "life", 0, "TRIM_HORIZON", "", 0, at_ms, False)
    return Reading(LANE, mark, DynamoDb(), overhead_bytes=1, poll_seconds=1.0, iterator=iterator)


def fed(read, pages):
    """Reads pages as a poller does; the numbers and positions that came of them."""
    found = []
    for page in pages:
        if read.iterator is None:
            read.start()
        kept = read.passed_over(Page(page, "next", 0, 100))
        if kept.records and not read.anchored:
            read.anchor(kept)
        read.take(kept)
        while read.waiting:
            placed = positions(DynamoDb(), Batch((read.waiting.popleft(),)))
            found += [(int(told["dynamodb"]["Keys"]["id"]["N"]), at) for at, told in placed]
    return found


@given(st.lists(st.integers(-300, 300), min_size=1, max_size=30).map(sorted), st.integers(1, 7))
def test_all_that_came_since_the_birth_comes_and_nothing_that_is_older_by_more_than_the_margin(
    seconds, size
):
    changes = [change(number, BIRTH + each) for number, each in enumerate(seconds)]
    pages = [changes[at : at + size] for at in range(0, len(changes), size)]
    wanted = [number for number, each in enumerate(seconds) if each >= -MARGIN]
    assert fed(reading(), pages) == [(number, at) for at, number in enumerate(wanted)]


@given(st.lists(st.integers(-300, 300), min_size=1, max_size=9))
def test_an_iterator_from_the_end_passes_nothing_over_whatever_the_clock_says(seconds):
    changes = [change(number, BIRTH + each) for number, each in enumerate(seconds)]
    found = fed(reading(iterator="latest"), [changes])
    assert [number for number, _ in found] == list(range(len(seconds)))


def test_an_iterator_that_expires_meanwhile_is_made_anew_after_what_was_passed_over():
    read = reading()
    assert fed(read, [[change(0, BIRTH - 600), change(1, BIRTH - 500)]]) == []
    read.iterator = None
    start = read.start()
    assert (start.kind, start.sequence) == (AFTER, f"{10**24 + 1}")
    assert fed(read, [[change(2, BIRTH + 1)]]) == [(2, 0)]


def test_a_reading_leaps_only_with_empty_hands_and_begins_at_the_oldest_then():
    read = reading(at_ms=0)
    assert fed(read, [[change(0, BIRTH), change(1, BIRTH)]]) == [(0, 0), (1, 1)]
    assert not read.leap(1 << 32)
    read.settle(1)
    assert read.leap(1 << 32)
    assert not read.anchored
    assert read.start().kind == "TRIM_HORIZON"
    assert fed(read, [[change(9, BIRTH - 900)]]) == [(9, 2 + (1 << 32))]
