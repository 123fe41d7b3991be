"""What is asked of a queue about messages in hand: ten of them a request, those of all lanes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from streamfaas.flow.errors import WorldError
from streamfaas.wire.sqs import BATCH_MAX, Queue, Undone

CARRIERS = 4
"""Requests at the same time."""

Answer: TypeAlias = "Undone | WorldError | None"
"""None: it is done."""


@dataclass(frozen=True, slots=True)
class _Errand:
    """`seconds` None: the message is to be deleted."""

    receipt: str
    seconds: int | None
    answer: asyncio.Future[Answer]


class Errands:
    """Deletes messages, and hides them. While all carriers are on their way, what is asked for
    gathers, and goes together: so a request is full where there is much to do, and nothing waits
    where there is little."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._deletes: deque[_Errand] = deque()
        self._hides: deque[_Errand] = deque()
        self._idle: deque[asyncio.Event] = deque()

    async def delete(self, receipts: Iterable[str]) -> list[Answer]:
        """Answers in the order of the receipts."""
        return await self._ask([(receipt, None) for receipt in receipts])

    async def hide(self, changes: Iterable[tuple[str, int]]) -> list[Answer]:
        """Receipts, and for how many seconds from now on; 0: others may have it at once."""
        return await self._ask(list(changes))

    async def carry(self) -> None:
        """One of the carriers."""
        bell = asyncio.Event()
        while True:
            some = self._some()
            if some:
                await self._carry(some)
                continue
            bell.clear()
            self._idle.append(bell)
            await bell.wait()

    async def _ask(self, asked: Sequence[tuple[str, int | None]]) -> list[Answer]:
        loop = asyncio.get_running_loop()
        errands = [_Errand(receipt, seconds, loop.create_future()) for receipt, seconds in asked]
        for each in errands:
            (self._deletes if each.seconds is None else self._hides).append(each)
        for _ in range(-(-len(errands) // BATCH_MAX)):
            if self._idle:
                self._idle.popleft().set()
        return [await each.answer for each in errands]

    def _some(self) -> list[_Errand]:
        """What keeps a message goes before what is finished with one."""
        chosen = self._hides or self._deletes
        return [chosen.popleft() for _ in range(min(BATCH_MAX, len(chosen)))]

    async def _carry(self, some: Sequence[_Errand]) -> None:
        answers: dict[int, Answer]
        try:
            answers = {each.index: each for each in await self._request(some)}
        except WorldError as error:
            answers = dict.fromkeys(range(len(some)), error)
        for index, each in enumerate(some):
            if not each.answer.done():
                each.answer.set_result(answers.get(index))

    async def _request(self, some: Sequence[_Errand]) -> tuple[Undone, ...]:
        changes = [(each.receipt, each.seconds) for each in some if each.seconds is not None]
        if changes:
            return await self._queue.change_visibility_batch(changes)
        return await self._queue.delete_batch([each.receipt for each in some])
