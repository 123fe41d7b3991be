"""The messages in our hands: kept hidden from others, deleted, or given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import anyio

from streamfaas.flow.errors import Gone, Refused, WorldError
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources.sqs.errands import Answer, Errands
from streamfaas.sources.sqs.message import Message
from streamfaas.wire.sqs import VISIBILITY_SECONDS_MAX, Undone

DELETE_SECONDS = 60.0
"""How long a delete is tried for, while nobody answers, before all is made anew."""

LATE_SECONDS = 3.0
"""After which it is told that what is done with is not deleted yet: lanes wait for that, and
nobody else may notice while all of them do."""

DELETE = RetryPolicy(backoff_seconds=0.2, backoff_seconds_max=5.0)

_HIDDEN_SECONDS_MAX = VISIBILITY_SECONDS_MAX - 1


class Hand:
    """All messages that were received and are not done with. `visibility_seconds` says for how
    long they are hidden at a time; `warn` is told what may come twice, and `late` why
    deleting takes long, and None once it does not any more."""

    def __init__(
        self,
        errands: Errands,
        visibility_seconds: Callable[[], int],
        *,
        clock: Callable[[], Instant],
        warn: Callable[[str], None],
        late: Callable[[str | None], None],
        jitter: Callable[[], float],
    ) -> None:
        self._errands = errands
        self._visibility_seconds = visibility_seconds
        self._clock = clock
        self._warn = warn
        self._late = late
        self._slow: set[object] = set()  # deletes that take long
        self._reason = ""  # of what failed last
        self._jitter = jitter
        self._messages: dict[str, Message] = {}

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages.values())

    def __len__(self) -> int:
        return len(self._messages)

    def take(self, message: Message) -> None:
        self._messages[message.id] = message

    def known(self, id_: str, receipt: str, receives: int) -> bool:
        """Whether it is in hand already: it was hidden for too short a time. The newer receipt is
        the one that counts, and it is not run a second time beside the first."""
        message = self._messages.get(id_)
        if message is None:
            return False
        now = self._clock()
        message.receipt, message.receives, message.lost = receipt, receives, False
        message.since, message.until = now, Instant(now + self._visibility_seconds())
        return True

    def clear(self) -> list[str]:
        """The receipts of all that is left; nothing is any more."""
        left = [each.receipt for each in self]
        self._messages.clear()
        return left

    async def extend(self) -> None:
        """Hides what a third of its time has gone of, for as long again."""
        now, most = self._clock(), self._visibility_seconds()
        asked: list[tuple[Message, int]] = []
        for each in self:
            if each.lost or each.until > now + most * 2 / 3:
                continue
            seconds = min(most, _left(each, now))
            if seconds > 0:
                asked.append((each, seconds))
            elif each.until <= now:
                each.lost = True
                self._warn(f"{each.id} has been in hand for 12 h: it comes again meanwhile")
        answers = await self._errands.hide((each.receipt, seconds) for each, seconds in asked)
        lost = 0
        for (each, seconds), answer in zip(asked, answers, strict=True):
            if answer is None:
                each.until = Instant(now + seconds)
            elif isinstance(answer, Undone) and answer.lost and each.id in self._messages:
                each.lost = True
                lost += 1
        if lost:
            self._warn(f"{_messages(lost)} in hand not hidden any more, which may come twice")

    async def delete(self, done: Sequence[Message]) -> None:
        """Until none is left that could still be deleted. What cannot be is told, and will come
        again. `WorldError` where that is for want of permission, or nobody answers for long."""
        with self._timed():
            await self._delete(done)
        for each in done:
            self._messages.pop(each.id, None)

    async def _delete(self, done: Sequence[Message]) -> None:
        left, failures, until = list(done), 0, self._clock() + DELETE_SECONDS
        while left:
            answers = await self._errands.delete([each.receipt for each in left])
            told = list(zip(left, answers, strict=True))
            self._tell_refused([each for each in answers if _is_refused(each)])
            left = [message for message, answer in told if _may_succeed(answer)]
            error = next((each for each in answers if _is_error(each)), None)
            self._reason = str(error or "")
            late = self._clock() >= until
            if isinstance(error, WorldError) and (late or isinstance(error, Refused)):
                raise error
            if left and late:
                self._warn(f"{_messages(len(left))} done with, and not deleted, will come again")
                break
            if left:
                failures += 1
                await anyio.sleep(DELETE.delay(failures, self._jitter()))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """What fails for good is told by others."""
        one = object()
        timer = asyncio.get_running_loop().call_later(LATE_SECONDS, self._tell_late, one)
        try:
            yield
        finally:
            timer.cancel()
            self._slow.discard(one)
        if not self._slow:
            self._late(None)

    def _tell_late(self, one: object) -> None:
        self._slow.add(one)
        self._late(f"what is done with cannot be deleted: {self._reason or 'no answer'}")

    async def hide(self, messages: Sequence[Message], seconds: int) -> None:
        """They leave our hands, and come again after so long. If this fails that is when their
        time has passed."""
        now = self._clock()
        for each in messages:
            self._messages.pop(each.id, None)
        await self._errands.hide(
            (each.receipt, max(0, min(seconds, _left(each, now)))) for each in messages
        )

    def _tell_refused(self, refused: Sequence[Answer]) -> None:
        if refused:
            first = refused[0]
            assert isinstance(first, Undone)
            self._warn(
                f"{_messages(len(refused))} done with, and not deleted, will come again: the "
                f"receipt is no good any more ({first.code}: {first.message})"
            )


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _left(message: Message, now: Instant) -> int:
    """Twelve hours after a receive SQS keeps nothing hidden any more."""
    return int(_HIDDEN_SECONDS_MAX - (now - message.since))


def _is_refused(answer: Answer) -> bool:
    return isinstance(answer, Undone) and answer.lost


def _is_error(answer: Answer) -> bool:
    return isinstance(answer, WorldError) and not isinstance(answer, Gone)


def _may_succeed(answer: Answer) -> bool:
    """A message that is gone with its queue is deleted well enough."""
    return _is_error(answer) or (isinstance(answer, Undone) and not answer.lost)
