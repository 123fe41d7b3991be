"""How windows stand survives the store, lane by lane, and what is damaged of it is found."""

import asyncio
import sqlite3
from dataclasses import replace

from streamfaas.flow.pane import Window
from streamfaas.flow.record import Lane
from streamfaas.flow.window import Kept, Standing
from streamfaas.store import Store
from streamfaas.store.windows import Windows

LANE, OTHER = Lane("f/clicks", "shard-0"), Lane("f/clicks", "shard-1")
OPEN = Kept(Standing(9, 1_000, Window(1_000, 2_000), state=b'{"n":9}'), "stream 7", 4)
EARLY = Kept(Standing(12, 0, Window(1_000, 2_000), early=True, state=b'{"n":12}'), "stream 7", 9)
ENDING = replace(EARLY, standing=replace(EARLY.standing, early=False, ending=True))
CLOSED = Kept(Standing(20, 2_000), "", -1)


def stored(path, job):
    async def main():
        store = await Store.open(path, emit=lambda signal: None)
        try:
            return await job(Windows(store)), store.lost
        finally:
            await store.close()

    return asyncio.run(main())


def test_the_last_word_of_each_lane_outlives_the_store_until_it_is_forgotten(tmp_path):
    path = tmp_path / "state" / "streamfaas.db"

    async def first(windows):
        for lane, kept in [(LANE, OPEN), (OTHER, CLOSED), (LANE, EARLY)]:
            await windows.put(lane, kept)

    async def second(windows):
        found = [await windows.load(lane) for lane in (LANE, OTHER, Lane("f/x", "shard-0"))]
        await windows.put(LANE, ENDING)
        await windows.forget([OTHER])
        return [*found, await windows.load(LANE), await windows.load(OTHER)]

    stored(path, first)
    assert stored(path, second) == ([EARLY, CLOSED, None, ENDING, None], "")


def test_it_is_known_how_many_windows_of_each_mapping_are_open(tmp_path):
    async def job(windows):
        for lane, kept in [(LANE, OPEN), (OTHER, EARLY), (Lane("f/x", "shard-0"), CLOSED)]:
            await windows.put(lane, kept)
        return await windows.open()

    assert stored(tmp_path / "streamfaas.db", job) == ({"f/clicks": 2}, "")


def test_a_damaged_row_is_found(tmp_path):
    path = tmp_path / "state" / "streamfaas.db"
    stored(path, lambda windows: windows.put(LANE, OPEN))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE windows SET state = ?", (b'{"n":8}',))
    connection.close()
    found, lost = stored(path, lambda windows: windows.load(LANE))
    assert found is None
    assert "a row of windows is damaged" in lost
