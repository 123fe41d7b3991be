import json

import anyio
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.daemon.feeds import ENDED, Feeds
from streamfaas.telemetry.signals import DaemonStepped


def step(signal):
    return {"step": signal.step} if isinstance(signal, DaemonStepped) else None


def emit(ears, text):
    for hear in ears:
        hear(DaemonStepped(text))


async def read(feed):
    return [json.loads(line) for line in (await anext(feed)).splitlines()]


@given(st.lists(st.one_of(st.integers(1, 6), st.none()), max_size=30))
def test_what_was_missed_and_what_was_told_are_together_what_happened_and_in_order(turns):
    async def main():
        ears = []
        feed = Feeds(ears).subscribe(step, lines_max=3)
        emitted, seen = 0, 0
        for turn in (*turns, None):
            if turn is not None:
                for _ in range(turn):
                    emit(ears, str(emitted))
                    emitted += 1
            elif emitted > seen:
                for value in await read(feed):
                    if "missed" in value:
                        seen += value["missed"]
                    else:
                        assert value["step"] == str(seen)
                        seen += 1
                assert seen == emitted
        await feed.aclose()

    anyio.run(main)


def test_what_is_only_counted_is_told_before_what_follows_or_else_by_itself():
    async def main():
        ears = []
        feed = Feeds(ears, alive_seconds=0.001).subscribe(step)
        feed.miss()
        feed.miss()
        emit(ears, "next")
        assert await read(feed) == [{"missed": 2}, {"step": "next"}]
        feed.miss()
        assert await read(feed) == [{"missed": 1}]
        await feed.aclose()

    anyio.run(main)


def test_nobody_hears_anything_where_nobody_listens():
    async def main():
        ears = []
        feeds = Feeds(ears)
        left = []
        feed = feeds.subscribe(step, left=lambda: left.append(1))
        assert ears == [feed]
        await feed.aclose()
        await feed.aclose()
        assert (ears, left) == ([], [1])

    anyio.run(main)


def test_a_listener_who_does_not_read_is_held_no_more_for_than_the_bound():
    async def main():
        ears = []
        feed = Feeds(ears).subscribe(step, lines_max=1_000_000, bytes_max=10_000)
        for _ in range(100):
            emit(ears, "x" * 1_000)
        told = await anext(feed)
        await feed.aclose()
        *lines, last = map(json.loads, told.splitlines())
        assert len(told) < 10_100
        assert last == {"missed": 100 - len(lines)}

    anyio.run(main)


def test_a_line_that_never_fits_is_missed_and_the_next_one_comes():
    async def main():
        ears = []
        feed = Feeds(ears, alive_seconds=0.001).subscribe(step, bytes_max=100)
        emit(ears, "x" * 1_000)
        assert await read(feed) == [{"missed": 1}]
        emit(ears, "short")
        assert await read(feed) == [{"step": "short"}]
        await feed.aclose()

    anyio.run(main)


def test_a_feed_with_nothing_to_tell_shows_that_it_lives():
    async def main():
        feed = Feeds([], alive_seconds=0.001).subscribe(step)
        assert await anext(feed) == b"\n"
        await feed.aclose()

    anyio.run(main)


def test_a_daemon_that_ends_tells_what_it_held_and_that_it_has_ended():
    async def main():
        ears = []
        feeds = Feeds(ears)
        feed = feeds.subscribe(step)
        emit(ears, "last")
        feeds.end()
        emit(ears, "too late")
        late = feeds.subscribe(step)
        told = [line async for line in feed]
        assert [json.loads(each) for each in told] == [{"step": "last"}, {"ended": ENDED}]
        assert [json.loads(each) async for each in late] == [{"ended": ENDED}]

    anyio.run(main)


def test_half_a_surrogate_pair_is_told_too():
    async def main():
        ears = []
        feed = Feeds(ears).subscribe(step)
        emit(ears, "a\ud800b")
        assert await read(feed) == [{"step": "a\ud800b"}]
        await feed.aclose()

    anyio.run(main)
