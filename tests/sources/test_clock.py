"""The time by a service's own clock, between two looks at it."""

from types import SimpleNamespace

import uvloop

from streamfaas.sources.sharded import clock
from streamfaas.sources.sharded.clock import ServiceClock
from streamfaas.wire.shards import Described

STREAM = Described("arn", "life", 86_400.0, None)


def test_ours_counts_until_the_service_shows_its_own_and_where_it_shows_none():
    async def main():
        time = ServiceClock(lambda: 7.5)
        assert time.now_ms() == 7_500
        assert time.set(STREAM) is STREAM
        assert time.now() == 7.5

    uvloop.run(main())


def test_it_goes_on_from_where_the_service_showed_it_whatever_becomes_of_ours(monkeypatch):
    running = [100.0]
    monkeypatch.setattr(clock, "anyio", SimpleNamespace(current_time=lambda: running[0]))
    time = ServiceClock(lambda: -1.0)
    time.set(Described("arn", "life", 86_400.0, 1_000.0))
    running[0] = 160.0
    assert time.now() == 1_060.0
    time.set(Described("arn", "life", 86_400.0, 1_065.0))
    assert time.now_ms() == 1_065_000
