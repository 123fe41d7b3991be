"""When a batch is closed: its size, its window, the 6 MB of its event (lines 9.10 and 9.11)."""

from __future__ import annotations

import anyio
import orjson
import pytest

from kafka_scene import KafkaScene
from lane_scene import WALL, scene
from listed import LANE
from streamfaas.flow.event import EVENT_BYTES_MAX
from streamfaas.flow.outcome import Success
from streamfaas.flow.record import Record, run_of_records

MB = 1 << 20
WINDOW = 30.0
FINE = Success(b"null")


class Measured(KafkaScene):
    """Remembers how large the events were."""

    sizes = ()

    async def dispatch(self, invocation):
        self.sizes = (*self.sizes, invocation.event.size_bytes)
        return await super().dispatch(invocation)

    def put_sizes(self, *sizes, start=0):
        """Records whose values have these sizes."""
        made = [
            Record(LANE, at, bytes(size), timestamp_ms=int(WALL * 1000))
            for at, size in enumerate(sizes, start)
        ]
        self.lane.offer(run_of_records(tuple(made)))


def run(body, **options):
    return scene(body, lambda values, attempt: FINE, make=Measured, **options)


def called(done):
    """When the function was called, and with what."""
    return [(round(at, 3), values) for at, values, _ in done.calls]


def counts(done):
    return [len(values) for _, values, _ in done.calls]


def putting(*sizes):
    async def body(s):
        s.put_sizes(*sizes)
        await s.run_out()

    return body


# -- the 6 MB of an event


def test_9_10_of_records_of_1_mb_at_most_4_fit_one_event():
    done = run(putting(*[MB] * 10), size=100)

    assert counts(done) == [4, 4, 2]
    assert max(done.sizes) <= EVENT_BYTES_MAX
    assert done.checkpoint == 9


def test_9_10_it_is_the_whole_event_that_counts_and_not_its_data():
    # 4.5 MB raw are 6 MB of base64: with its metadata the last byte has no room
    whole = (EVENT_BYTES_MAX * 3 // 4 - 3000) // 3

    done = run(putting(*[whole] * 3, *[whole + 1000] * 3), size=100)

    assert counts(done) == [3, 2, 1]
    assert max(done.sizes) <= EVENT_BYTES_MAX


def test_9_10_a_record_that_no_event_can_hold_goes_to_the_destination_and_its_neighbours_run():
    done = run(putting(10, 5 * MB, 10), size=100, retries=3)

    (document,) = done.kept.documents
    assert document["requestContext"]["condition"] == "MaximumPayloadSizeExceeded"
    assert document["responseContext"] is None
    assert document["KafkaBatchInfo"]["batchSize"] == 1
    assert document["KafkaBatchInfo"]["payloadSize"] == 5 * MB
    assert [value for _, values, _ in done.calls for value in values] == [0, 2]
    assert done.checkpoint == 2


# -- size, window and payload: whichever is reached first


def test_9_11_a_batch_of_one_is_delivered_after_the_window():
    done = run(putting(10), window=WINDOW)

    assert called(done) == [(WINDOW, [0])]


def test_9_11_what_comes_within_the_window_goes_with_the_first():
    async def body(s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.run_until, lambda: s.lane.status.records == 4)
            for start in range(4):
                s.put_sizes(10, start=start)
                await anyio.sleep(WINDOW / 3 - 0.001)

    done = run(body, window=WINDOW)

    assert called(done) == [(WINDOW, [0, 1, 2, 3])]


def test_9_11_a_full_batch_is_delivered_before_the_window_has_passed():
    async def body(s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.run_until, lambda: s.lane.status.records == 4)
            await anyio.sleep(1)
            s.put_sizes(10, 10)
            await anyio.sleep(1)
            s.put_sizes(10, 10, start=2)

    done = run(body, size=3, window=WINDOW)

    # the fourth has a window of its own
    assert called(done) == [(2, [0, 1, 2]), (2 + WINDOW, [3])]


def test_9_11_the_payload_is_capped_before_either():
    done = run(putting(*[MB] * 5), size=100, window=WINDOW)

    assert called(done) == [(0, [0, 1, 2, 3]), (WINDOW, [4])]


def test_9_11_without_a_window_what_is_there_goes_at_once():
    async def body(s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(s.run_until, lambda: s.lane.status.records == 2)
            await anyio.sleep(5)
            s.put_sizes(10)
            await anyio.sleep(5)
            s.put_sizes(10, start=1)

    done = run(body)

    assert called(done) == [(5, [0]), (10, [1])]


def test_9_11_the_longest_window_and_the_largest_batch_of_lambda_are_kept():
    done = run(putting(*[1] * 10_001), size=10_000, window=300.0)

    assert [(at, len(values)) for at, values in called(done)] == [(0, 10_000), (300, 1)]


def test_9_11_only_records_that_a_filter_wants_count_for_a_batch():
    class Even:
        def wants(self, metadata, data):
            return metadata["offset"] % 2 == 0

    done = run(putting(*[10] * 12), size=3, policy={"filter": Even()})

    assert [values for _, values in called(done)] == [[0, 2, 4], [6, 8, 10]]
    assert done.checkpoint == 11


@pytest.mark.parametrize("size", [1, 2, 7])
def test_9_11_a_batch_is_of_one_partition_and_in_order(size):
    done = run(putting(*[10] * 20), size=size)

    assert [value for _, values in called(done) for value in values] == list(range(20))
    assert max(counts(done)) == size


def test_10_a_batch_that_is_given_up_tells_of_its_payload_in_full():
    done = scene(putting(100, 200), lambda v, a: FINE, make=Measured, retry={"age_seconds_max": 60})
    assert done.kept.documents == []

    async def old(s):
        await anyio.sleep(61)
        await putting(100, 200)(s)

    done = scene(old, lambda v, a: FINE, make=Measured, retry={"age_seconds_max": 60})
    (document,) = done.kept.documents
    info = document["KafkaBatchInfo"]
    assert info["payloadSize"] == 300
    assert info["recordsInfo"]["topic-0"]["lastRecordOffset"] == "1"
    assert orjson.dumps(document["payload"]["records"]["topic-0"]).count(b'"offset"') == 2
