"""A table of its own in a store, for tests that look at the store and not at what it is for."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path

from streamfaas.flow.errors import StoreError
from streamfaas.flow.letters import Letter
from streamfaas.store import Store
from streamfaas.store.backlog import Backlog
from streamfaas.store.inbox import InboxEvents
from streamfaas.store.intents import Intent
from streamfaas.store.notices import Incoming
from streamfaas.store.objects import Change, Objects
from streamfaas.store.outbox import Outbox
from streamfaas.store.rows import Pending, Remembered


def change(number: int) -> Change:
    """An object and its event, all of it told by a number."""
    key = b"key-%06d" % number
    state = Remembered(key, number, number * 7, number * 3, f"{number:032x}", number + 1, 1)
    return Change(key, state, Pending(number + 1, key, "ObjectCreated:Put", number, number, "e"))


def intent(number: int) -> Intent:
    """A failure of one record, all of it told by a number."""
    return Intent(
        id=f"id-{number}",
        mapping="function/trigger",
        lane="orders-0",
        ranges=((number, number),),
        destination="the file dead.jsonl",
        kind="failure",
        condition="RetryAttemptsExhausted",
        count=1,
        letters=(Letter(f"letter-{number}", b'{"number":"%06d"}' % number, b"key %d" % number),),
        event=b'{"Records":["%06d"]}' % number,
        made_ms=number,
    )


async def numbers(store: Store) -> list[int]:
    """The numbers of all objects, each of which must be whole and have its event."""

    def job(connection: sqlite3.Connection) -> list[int]:
        found = connection.execute("SELECT key, size FROM objects ORDER BY key").fetchall()
        events = connection.execute("SELECT key, size FROM object_events ORDER BY key").fetchall()
        assert found == events
        assert all(key == b"key-%06d" % size for key, size in found)
        intents = connection.execute("SELECT id, made_ms FROM intents ORDER BY made_ms").fetchall()
        letters = connection.execute("SELECT document FROM letters WHERE place = 1 ORDER BY 1")
        assert [id_ for id_, _ in intents] == [f"id-{number}" for _, number in intents]
        assert [document for (document,) in letters] == [
            b'{"number":"%06d"}' % number for _, number in intents
        ]
        sizes = [size for _, size in found]
        if intents:  # who writes them writes one after each object
            told = [number for _, number in intents]
            assert told == sizes[: len(told)]
            assert len(sizes) - len(told) <= 1
        accepted = connection.execute("SELECT request_id, event FROM invocations").fetchall()
        assert accepted == [
            (f"request-{number:06d}", b'{"number":"%06d"}' % number)
            for number in sizes[: len(accepted)]
        ]
        assert not accepted or len(intents) - len(accepted) <= 1
        taken = connection.execute("SELECT key, rank, record FROM inbox_events ORDER BY number")
        assert all(
            (key, record) == (b"bucket/key-%s" % rank.encode(), b'{"number":"%s"}' % rank.encode())
            for key, rank, record in taken
        )
        return sizes

    return await store.read(job)


async def fill(path: Path, first: int, last: int) -> None:
    store = await Store.open(path)
    await write(store, first, last)
    await store.close()


async def write(store: Store, first: int, last: int) -> None:
    """Rows of every kind, one number after the other."""
    inbox = InboxEvents(store, "function/objects", wall_clock=lambda: 1.0)
    await inbox.open()
    objects, outbox = Objects(store, "function/trigger"), Outbox(store, emit=lambda signal: None)
    backlog = Backlog(store, wall_clock=lambda: 1.0)
    await objects.open(0)
    for number in range(first, last + 1):
        await objects.record([change(number)])
        await outbox.intend(intent(number))
        await backlog.accept("function", b'{"number":"%06d"}' % number, f"request-{number:06d}")
        record = b'{"number":"%06d"}' % number
        key = b"bucket/key-%06d" % number
        await inbox.add([Incoming(key, f"{number:06d}", "ObjectCreated:Put", key, record)])


async def write_for_ever(path: Path, writers: int) -> None:
    """Says each number once it is written, and the first error, after which it ends."""
    store = await Store.open(path)
    objects = Objects(store, "function/trigger")
    await objects.open(0)

    async def one(writer: int) -> None:
        number = writer
        while True:
            await objects.record([change(number)])
            print(number, flush=True)
            number += writers

    print("begun", flush=True)
    await asyncio.gather(*(one(writer) for writer in range(writers)))


if __name__ == "__main__":
    try:
        asyncio.run(write_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
    except StoreError as error:
        print(f"StoreError {error} | {error.remedy}", flush=True)
