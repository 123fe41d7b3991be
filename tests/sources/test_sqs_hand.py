"""What is done about messages in hand, on real servers: requests that lanes share, and limits."""

from contextlib import asynccontextmanager

import anyio
import pytest
import uvloop

from streamfaas.flow.record import Instant, Lane, Record
from streamfaas.sources.sqs.errands import CARRIERS, Errands
from streamfaas.sources.sqs.hand import Hand
from streamfaas.sources.sqs.message import Message
from streamfaas.testing.clock import ManualClock
from streamfaas.wire.sqs import Queue

HOUR = 3600


class Counted(Queue):
    """Counts what is asked for at a time."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.deletes, self.hides = [], []

    async def delete_batch(self, receipts):
        self.deletes.append(len(receipts))
        return await super().delete_batch(receipts)

    async def change_visibility_batch(self, changes):
        self.hides.append([seconds for _, seconds in changes])
        return await super().change_visibility_batch(changes)


class Scene:
    def __init__(self, queue, clock):
        self.queue, self.clock, self.told = queue, clock, []
        self.errands = Errands(queue)
        self.hand = Hand(
            self.errands,
            lambda: 30,
            clock=clock,
            warn=self.told.append,
            late=lambda reason: None,
            jitter=lambda: 0.0,
        )

    async def received(self, count):
        """So many messages that nobody has seen before, in hand."""
        sent = [await self.queue.send(str(number)) for number in range(count)]
        found = {}
        while len(found) < count:
            found |= {each["MessageId"]: each for each in await self.queue.receive(10, 1)}
        assert set(found) == set(sent)
        now = self.clock()
        made = [
            Message(
                each["MessageId"], each["ReceiptHandle"], Record(Lane("f/t", "slot-0"), at, b""),
                None, 0, 1, True, False, now, Instant(now + 30),
            )
            for at, each in enumerate(found.values())
        ]  # fmt: skip
        for each in made:
            self.hand.take(each)
        return made

    async def waiting(self):
        about = await self.queue.attributes()
        return about.waiting, about.in_flight


@asynccontextmanager
async def scene(server, name):
    async with server.client("sqs") as client, anyio.create_task_group() as tasks:
        await client.create_queue(QueueName=name)
        queue = Counted(server.access, name)
        try:
            await queue.open()
            it = Scene(queue, ManualClock())
            for _ in range(CARRIERS):
                tasks.start_soon(it.errands.carry)
            yield it
        finally:
            tasks.cancel_scope.cancel()
            await queue.close()


@pytest.mark.slow
def test_deletes_of_many_lanes_share_requests_and_one_alone_does_not_wait(moto):
    async def main():
        async with scene(moto, "shared") as it:
            messages = await it.received(61)
            await it.hand.delete(messages[:1])
            assert it.queue.deletes == [1]
            async with anyio.create_task_group() as lanes:
                for each in messages[1:]:
                    lanes.start_soon(it.hand.delete, [each])
            assert sum(it.queue.deletes) == 61
            assert len(it.queue.deletes) <= 1 + CARRIERS + 6
            assert await it.waiting() == (0, 0)
            assert len(it.hand) == 0
            assert it.told == []

    uvloop.run(main())


@pytest.mark.slow
def test_a_message_is_hidden_again_when_a_third_of_its_time_has_gone_and_for_twelve_hours(
    ministack,
):
    async def main():
        async with scene(ministack, "kept") as it:
            (message,) = await it.received(1)
            it.clock.advance(9)
            await it.hand.extend()
            assert it.queue.hides == []
            it.clock.advance(2)
            await it.hand.extend()
            assert it.queue.hides == [[30]]
            assert message.until == it.clock() + 30
            it.clock.advance(12 * HOUR - 30)  # it has been seen to in between
            message.until = it.clock()
            await it.hand.extend()
            assert it.queue.hides[1:] == [[18]], "no longer than twelve hours from its receive"
            it.clock.advance(30)
            await it.hand.extend()
            await it.hand.extend()
            assert len(it.queue.hides) == 2
            (told,) = it.told
            assert "has been in hand for 12 h" in told
            await it.hand.delete([message])
            assert await it.waiting() == (0, 0)

    uvloop.run(main())


@pytest.mark.slow
def test_what_cannot_be_deleted_any_more_is_told_and_the_rest_is(aws_server):
    async def main():
        async with scene(aws_server, "refused") as it:
            messages = await it.received(3)
            messages[1].receipt = "no-receipt"
            await it.hand.delete(messages)
            (told,) = it.told
            assert "1 message done with, and not deleted, will come again" in told
            assert sum(await it.waiting()) == 1
            assert len(it.hand) == 0

    uvloop.run(main())


@pytest.mark.slow
def test_what_goes_back_is_hidden_for_as_long_as_was_asked_for(ministack):
    async def main():
        async with scene(ministack, "back") as it:
            messages = await it.received(2)
            await it.hand.hide(messages[:1], 0)
            it.clock.advance(12 * HOUR - 10)
            await it.hand.hide(messages[1:], 60)
            assert it.queue.hides == [[0], [9]]
            assert await it.waiting() == (1, 1)
            assert len(it.hand) == 0

    uvloop.run(main())
