"""What every destination must keep: one suite over any kind, with whatever can be done to it.

A kind brings a `Subject`: how to make a destination object over a backing that works, what the
backing has, and how to break it. Each check is a coroutine function that takes a subject, runs in
the test's event loop, and raises AssertionError where the contract is broken.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio

from streamfaas.destinations import Destination, Letter
from streamfaas.flow.errors import WorldError

PATIENCE_SECONDS = 60.0
"""How long anything that must happen may take; a machine of tests may be slow."""

CLOSE_SECONDS = 20.0
LEAVE_SECONDS = 2.0
RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break a backing: it is broken inside of what `inflict` gives, and whole after it.
    `error` is what a `send` must come to meanwhile."""

    name: str
    error: type[WorldError]
    inflict: Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of destination, and a backing that holds nothing yet.

    `make` gives a new object over the backing. `received` are the letters that it has by now, in
    the order of their arrival (there may be several), as far as the kind carries them: `keeps`
    names the fields beside the document. `bytes_max` is what the other side takes at most of one
    letter.
    """

    make: Callable[[], Destination]
    received: Callable[[], Awaitable[list[Letter]]]
    keeps: frozenset[str]
    bytes_max: int = 4 << 20


Check: TypeAlias = Callable[[Subject], Awaitable[None]]
FaultCheck: TypeAlias = Callable[[Subject, Fault], Awaitable[None]]


def letter(number: int, size_bytes: int = 0) -> Letter:
    """The letter of this number: always the same."""
    id_ = hashlib.sha256(b"%d" % number).hexdigest()[:32]
    document = (
        b'{"version":"1.0","timestamp":"2025-11-25T16:35:32.000Z","payload":"%s",'
        b'"streamfaas":{"id":"%s","mapping":"shop/orders","lane":"orders-%d","first":%d,"last":%d}}'
    ) % (b"x" * size_bytes, id_.encode(), number % 3, number, number)
    return Letter(id_, document, b"key %d" % (number % 3), number % 16 + 1)


def letters(count: int, start: int = 0) -> tuple[Letter, ...]:
    """So many, the first of this number."""
    return tuple(letter(number) for number in range(start, start + count))


# -- checks of all destinations


async def check_what_was_sent_is_there_when_the_call_returns(subject: Subject) -> None:
    """Whole, several at a time, and after an `open` or without one."""
    async with _used(subject) as destination:
        await destination.open()
        await destination.open()
        await destination.send(letters(1))
        await _are_there(subject, letters(1))
        await destination.send(letters(5, start=1))
        await _are_there(subject, letters(6))
    async with _used(subject) as destination:
        await destination.send(letters(2, start=6))
        await _are_there(subject, letters(8))
    assert len(await subject.received()) == 8, "something came more than once"


async def check_nothing_to_send_is_nothing_sent(subject: Subject) -> None:
    """A batch of no letters."""
    async with _used(subject) as destination:
        await destination.send(())
    assert await subject.received() == []


async def check_what_is_sent_again_is_the_same(subject: Subject) -> None:
    """Twice by one object, and once by another, as after a crash."""
    async with _used(subject) as destination:
        await destination.send(letters(3))
        await destination.send(letters(3))
    async with _used(subject) as destination:
        await destination.send(letters(3))
    found = await subject.received()
    assert {_kept(subject, one) for one in found} == {_kept(subject, one) for one in letters(3)}


async def check_letters_of_many_lanes_do_not_mix(subject: Subject) -> None:
    """One object serves all lanes of a mapping."""
    async with _used(subject) as destination, anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(destination.send, (letter(number, size_bytes=number * 997),))
    wanted = [letter(number, size_bytes=number * 997) for number in range(20)]
    await _are_there(subject, wanted)


async def check_a_large_letter_arrives(subject: Subject) -> None:
    """As large as an event of some megabytes makes it, or nearly as large as may be."""
    large = letter(1, size_bytes=min(3 << 20, subject.bytes_max - 1024))
    async with _used(subject) as destination:
        await destination.send((large,))
    await _are_there(subject, [large])


async def check_closing_is_safe_at_any_time(subject: Subject) -> None:
    """Before an open, in the middle of one, and more than once."""
    never = subject.make()
    await _closed(never)
    await _closed(never)
    for turns in range(6):
        half = subject.make()
        with anyio.CancelScope() as scope:
            _cancel_in(scope, turns)
            await half.open()
        await _closed(half)
    async with _used(subject) as destination:
        await destination.send(letters(1))
        await _closed(destination)


async def check_a_call_may_be_cancelled_at_any_time(subject: Subject) -> None:
    """A lane that is closed gives up its call; the next one loses nothing, and nothing stays."""
    before = asyncio.all_tasks()
    async with _used(subject) as destination:
        for turns in (0, 1, 2, 3, 5, 8, 13, 40):
            with anyio.CancelScope() as scope:
                _cancel_in(scope, turns)
                await destination.send(letters(2))
        await destination.send(letters(4, start=1))
    await _are_there(subject, letters(4, start=1))
    await _nothing_stays(before)


# -- checks of destinations that are broken


async def check_a_fault_is_a_typed_error_and_what_is_sent_again_arrives(
    subject: Subject, fault: Fault
) -> None:
    """In the middle of a life; and the error says something, on one line."""
    async with _used(subject) as destination:
        await _sent_in_the_end(destination, letters(1))
        async with fault.inflict():
            for _ in range(2):
                await _fails(destination, fault, letters(3, start=1))
        await _sent_in_the_end(destination, letters(3, start=1))
    await _are_there(subject, letters(4))


async def check_a_life_may_begin_with_a_fault(subject: Subject, fault: Fault) -> None:
    """Whoever starts the daemon need not start the other side first."""
    async with _used(subject) as destination:
        async with fault.inflict():
            with anyio.fail_after(PATIENCE_SECONDS), suppress(WorldError):
                await destination.open()
            await _fails(destination, fault, letters(2))
        await _sent_in_the_end(destination, letters(2))
    await _are_there(subject, letters(2))


async def check_a_broken_destination_can_be_left(subject: Subject, fault: Fault) -> None:
    """A call is cancelled while it waits for the other side; then it is closed."""
    before = asyncio.all_tasks()
    destination = subject.make()
    await _sent_in_the_end(destination, letters(1))
    async with fault.inflict():
        with anyio.move_on_after(0.2):
            await _fails(destination, fault, letters(2))
        await _closed(destination)
    await _nothing_stays(before)


CHECKS: tuple[Check, ...] = (
    check_what_was_sent_is_there_when_the_call_returns,
    check_nothing_to_send_is_nothing_sent,
    check_what_is_sent_again_is_the_same,
    check_letters_of_many_lanes_do_not_mix,
    check_a_large_letter_arrives,
    check_closing_is_safe_at_any_time,
    check_a_call_may_be_cancelled_at_any_time,
)

FAULT_CHECKS: tuple[FaultCheck, ...] = (
    check_a_fault_is_a_typed_error_and_what_is_sent_again_arrives,
    check_a_life_may_begin_with_a_fault,
    check_a_broken_destination_can_be_left,
)


# -- small


@asynccontextmanager
async def _used(subject: Subject) -> AsyncIterator[Destination]:
    destination = subject.make()
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            yield destination
    finally:
        with anyio.CancelScope(shield=True):
            await _closed(destination)


async def _closed(destination: Destination) -> None:
    with anyio.fail_after(CLOSE_SECONDS):
        await destination.close()


async def _nothing_stays(before: set[asyncio.Task[Any]]) -> None:
    """The other side may be in this loop, and needs a moment to see that we are gone."""
    with anyio.move_on_after(LEAVE_SECONDS):
        while not asyncio.all_tasks() <= before:  # noqa: ASYNC110 - tasks tell nobody
            await anyio.sleep(0.01)
    left = {str(task.get_coro()) for task in asyncio.all_tasks() - before}
    assert not left, f"left behind: {sorted(left)}"


async def _fails(destination: Destination, fault: Fault, sent: Sequence[Letter]) -> None:
    failed: WorldError | None = None
    with anyio.fail_after(PATIENCE_SECONDS):
        try:
            await destination.send(sent)
        except WorldError as error:
            failed = error
    assert failed is not None, f"it was sent, with the other side {fault.name}"
    assert isinstance(failed, fault.error), f"{type(failed).__name__}: {failed}"
    assert str(failed), "it does not say why"
    assert "\n" not in str(failed)


async def _sent_in_the_end(destination: Destination, sent: Sequence[Letter]) -> None:
    """As a lane sends: until it has succeeded. The other side may need a moment to be whole."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            with suppress(WorldError):
                return await destination.send(sent)
            await anyio.sleep(RETRY_SECONDS)


async def _are_there(subject: Subject, wanted: Iterable[Letter]) -> None:
    found = {_kept(subject, one) for one in await subject.received()}
    missing = {_kept(subject, one) for one in wanted} - found
    assert not missing, f"not there: {sorted(map(str, missing))[:3]}"


def _kept(subject: Subject, one: Letter) -> tuple[Any, ...]:
    return one.document, *(getattr(one, name) for name in sorted(subject.keeps))


def _cancel_in(scope: anyio.CancelScope, turns: int) -> None:
    """Cancels the scope after so many turns of the loop."""
    if turns == 0:
        scope.cancel()
    else:
        asyncio.get_running_loop().call_soon(_cancel_in, scope, turns - 1)
