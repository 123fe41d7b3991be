"""A queue as its service keeps it: who has which message for how long, groups, and what it gives up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from proof.contract import REDRIVEN
from proof.judgement import Wanted
from proof.ledgers import Acknowledged, Harmed, SetAside
from proof.simulation.faces import MailFace
from proof.simulation.world import EPOCH, MAPPING, TOPIC, World
from streamfaas.flow.record import Lane, Record
from streamfaas.wire.sqs import Attributes, Undone

RECEIVE_MAX = 10


@dataclass(slots=True)
class Mail:
    """A message. `receipt` is the newest, `hidden_until` when others may have it."""

    record: Record
    name: str
    at: float
    receives: int = 0
    receipt: str = ""
    hidden_until: float = -1.0
    holder: str = ""
    twice: bool = False  # it has been handed out while somebody had it

    @property
    def id(self) -> str:
        return f"message-{self.record.position}"

    @property
    def group(self) -> str:
        return (self.record.key or b"").decode()


class Mailbox:
    """What it does to its messages is done at once; who waits for one is stirred."""

    def __init__(self, world: World) -> None:
        self._world = world
        plan = world.plan
        self.fifo = plan.fifo
        self.arn = f"arn:aws:sqs:local:000000000000:{self.name}"
        lane = Lane(MAPPING, f"{TOPIC}-0")
        self._mails: dict[str, Mail] = {}
        for number in range(plan.records):
            at = round(max(plan.spread * number / plan.records, number * 0.001), 3)
            key = world.key(number) if self.fifo else None
            record = world.produce(lane, number, number, at, key)
            mail = Mail(record, f"{lane.name}/{number}", at)
            self._mails[mail.id] = mail
        self._all = dict(self._mails)
        world.face = MailFace(self._all)
        self._by_receipt: dict[str, Mail] = {}
        self._waiting: dict[asyncio.Future[None], None] = {}  # in order

    @property
    def name(self) -> str:
        return "orders.fifo" if self.fifo else "orders"

    @property
    def finished(self) -> bool:
        return not self._mails

    # -- what is asked of it

    def attributes(self) -> Attributes:
        plan, now = self._world.plan, self._world.now
        hidden = sum(mail.hidden_until > now for mail in self._mails.values())
        return Attributes(
            arn=self.arn,
            fifo=self.fifo,
            visibility_seconds=plan.visibility,
            dead_letter_arn=None if plan.redrive is None else f"{self.arn}-dead",
            receives_max=plan.redrive,
            message_bytes_max=262_144,
            retention_seconds=345_600,
            waiting=len(self._mails) - hidden,
            delayed=0,
            in_flight=hidden,
        )

    def receive(self, holder: str, most: int, seconds: int | None) -> list[dict[str, Any]]:
        world, plan = self._world, self._world.plan
        n, found = world.time_of("receive"), list[Mail]()
        for mail in self._to_be_had(n):
            if len(found) == min(most, RECEIVE_MAX):
                break
            if plan.redrive is not None and mail.receives >= plan.redrive:
                self._redrive(mail)
            else:
                found.append(mail)
        for mail in found:
            self._hand_out(mail, holder, plan.visibility if seconds is None else seconds)
        if found:
            names = " ".join(str(mail.record.position) for mail in found)
            world.story.tell("queue", "{} receives {}", holder, names)
        return [self._told(mail) for mail in found]

    def delete(self, receipts: Sequence[str]) -> tuple[Undone, ...]:
        undone = list[Undone]()
        for index, receipt in enumerate(receipts):
            mail = self._by_receipt[receipt]
            if mail.id not in self._mails:
                continue  # it is deleted, and was before
            if mail.receipt != receipt or (self.fifo and mail.hidden_until <= self._world.now):
                if self.fifo:
                    undone.append(Undone(index, "InvalidParameterValue", _EXPIRED))
                continue  # a standard queue says that all is well, and keeps it
            if self._fails("delete", receipt):
                undone.append(Undone(index, "InternalError", "try again"))
                continue
            self._take_off(mail, f"is deleted by {mail.holder}")
        return tuple(undone)

    def hide(self, changes: Sequence[tuple[str, int]]) -> tuple[Undone, ...]:
        now, undone = self._world.now, list[Undone]()
        for index, (receipt, seconds) in enumerate(changes):
            mail = self._by_receipt[receipt]
            if mail.id not in self._mails:
                undone.append(Undone(index, "InvalidParameterValue", "message does not exist"))
            elif mail.receipt != receipt or mail.hidden_until <= now:
                undone.append(Undone(index, "MessageNotInflight", "it is not in flight"))
            elif self._fails("hide", receipt):
                undone.append(Undone(index, "InternalError", "try again"))
            else:
                mail.hidden_until = now + seconds
                if seconds < self._world.plan.visibility:
                    what = "{} gives back {} for {} s"
                    self._world.story.tell(
                        "queue", what, mail.holder, mail.record.position, seconds
                    )
                self._stir()
        return tuple(undone)

    def _fails(self, what: str, receipt: str) -> bool:
        world = self._world
        n = world.time_of((what, receipt))
        return not world.calm and world.chance.happens(world.plan.wire / 2, what, receipt, n)

    # -- who waits

    @property
    def next_at(self) -> float | None:
        """When there may be something to be had; None: never, as it stands."""
        now = self._world.now
        times = [max(mail.at, mail.hidden_until) for mail in self._mails.values()]
        return max(now, min(times)) if times else None

    async def wait(self, until: float) -> None:
        """Until then, or until something has changed."""
        loop = asyncio.get_running_loop()
        stirred: asyncio.Future[None] = loop.create_future()
        self._waiting[stirred] = None
        timer = loop.call_at(until, _set, stirred)
        try:
            await stirred
        finally:
            timer.cancel()
            del self._waiting[stirred]

    def _stir(self) -> None:
        for one in self._waiting:
            _set(one)

    # -- messages

    def _to_be_had(self, n: int) -> list[Mail]:
        """Those that may go out now: of a group, if none of it is out."""
        world, now = self._world, self._world.now
        mails = list(self._mails.values())
        hidden = [mail for mail in mails if mail.hidden_until > now]
        if self.fifo:
            busy = {mail.group for mail in hidden}
            return [m for m in mails if m.at <= now and m.group not in busy]
        found = [mail for mail in mails if mail.at <= now and mail.hidden_until <= now]
        shift = int(world.chance.between(0, len(found), "which", n)) if found else 0
        again = [m for m in hidden if not world.calm and self._comes_twice(m, n)]
        return [*again, *found[shift:], *found[:shift]]

    def _comes_twice(self, mail: Mail, n: int) -> bool:
        """A standard queue may hand one out that is out."""
        world = self._world
        if mail.twice or not world.chance.happens(world.plan.twice, "twice", mail.name, n):
            return False
        mail.twice, now = True, world.now  # whose receipt is the older cannot delete it any more
        until = now + 2 * world.plan.visibility
        world.books.harmed.append(Harmed("ack-lost", f"queue: {mail.name} twice", now, until))
        return True

    def _hand_out(self, mail: Mail, holder: str, seconds: int) -> None:
        mail.receives += 1
        mail.receipt = f"receipt-{mail.record.position}-{mail.receives}"
        mail.hidden_until = self._world.now + seconds
        mail.holder = holder
        self._by_receipt[mail.receipt] = mail

    def _redrive(self, mail: Mail) -> None:
        offset = mail.record.position
        row = SetAside(
            at=self._world.now,
            id=f"redriven {offset}",
            topic=TOPIC,
            partition=0,
            first=offset,
            last=offset,
            size=1,
            condition=REDRIVEN,
            fingerprints=((offset, self._world.books.produced[offset].fingerprint),),
        )
        self._world.books.set_aside.append(row)
        self._take_off(mail, f"has been received {mail.receives} times, and is moved away")

    def _take_off(self, mail: Mail, what: str) -> None:
        offset = mail.record.position
        del self._mails[mail.id]
        self._world.story.tell("queue", "{} {}", offset, what)
        row = Acknowledged(self._world.now, TOPIC, 0, offset, offset)
        self._world.books.acknowledged.append(row)
        self._stir()

    def _told(self, mail: Mail) -> dict[str, Any]:
        attributes = {
            "ApproximateReceiveCount": str(mail.receives),
            "SentTimestamp": str(round((EPOCH + mail.at) * 1000)),
        }
        if self.fifo:
            attributes |= {
                "MessageGroupId": mail.group,
                "SequenceNumber": f"{10**19 + mail.record.position}",
            }
        assert mail.record.value is not None
        return {
            "MessageId": mail.id,
            "ReceiptHandle": mail.receipt,
            "Body": mail.record.value.decode(),
            "MD5OfBody": "",
            "Attributes": attributes,
        }

    # -- for the judge

    def noticed(self, name: str) -> None:
        """What it has stays hidden until its time has passed."""

    def stored(self, connection: sqlite3.Connection) -> None:
        """Nothing of that is ours."""

    def judged(self, wanted: Wanted) -> Wanted:
        """What came twice may have failed twice, in two hands at once."""
        most = None if self._world.plan.twice else wanted.attempts_max
        return replace(wanted, handed_out=True, attempts_max=most)


_EXPIRED = "Value for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
