"""What is paused is so over restarts, and what is damaged of it is found."""

import asyncio
import sqlite3

from streamfaas.store import Store
from streamfaas.store.pauses import Paused, Pauses


def stored(path, job):
    async def main():
        store = await Store.open(path, emit=lambda signal: None)
        try:
            return await job(Pauses(store)), store.lost
        finally:
            await store.close()

    return asyncio.run(main())


def test_a_pause_outlives_the_store_and_the_first_of_two_counts(tmp_path):
    path = tmp_path / "state" / "streamfaas.db"
    ada, bob = Paused("f/orders", 1, "ada"), Paused("f/files", 2, "bob")

    async def first(pauses):
        await pauses.put([ada])
        await pauses.put([bob, Paused("f/orders", 3, "eve")])

    async def second(pauses):
        found = await pauses.all()
        await pauses.remove(["f/orders", "f/unknown"])
        return found, await pauses.all()

    stored(path, first)
    assert stored(path, second) == (([bob, ada], [bob]), "")


def test_a_damaged_row_is_found(tmp_path):
    path = tmp_path / "state" / "streamfaas.db"
    stored(path, lambda pauses: pauses.put([Paused("f/orders", 1, "ada")]))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE pauses SET since_ms = 2")
    connection.close()
    found, lost = stored(path, lambda pauses: pauses.all())
    assert found == []
    assert "a row of pauses is damaged" in lost
