"""What doctor tries of queues: each that a trigger reads is asked for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamfaas.config.connections import AwsConnection
from streamfaas.config.object_stores import ObjectQueueTrigger
from streamfaas.config.spec import Config
from streamfaas.config.triggers import SqsTrigger
from streamfaas.daemon.access import aws_access
from streamfaas.daemon.doctor import Check, Finding, bad, ok, warn
from streamfaas.flow.errors import Gone, Refused, WorldError

if TYPE_CHECKING:
    from streamfaas.wire.sqs import Attributes

RECEIVES_MIN = 5
"""As AWS recommends: what stops or dies while it has a message in hand uses up receives, too."""

HIDDEN_SECONDS_MAX = 3600
_AWAY = "look at `endpoint_url`, the network and the firewall"
_DENIED = "look at the credentials, and what they permit: streamfaas explain sqs has the list"
_NONE = "make it, or correct `queue` and `region`"


def checks(config: Config) -> list[Check]:
    """One for each trigger that reads a queue."""
    return [
        Check(
            f"{function}/{name}",
            _Queue(f"{function}/{name}", connection, trigger),
            seconds=30.0,
            code="SF3050",
        )
        for function, name, trigger in config.mappings()
        if isinstance(trigger, SqsTrigger | ObjectQueueTrigger)
        and isinstance(connection := config.connections[trigger.connection], AwsConnection)
    ]


@dataclass(frozen=True, slots=True)
class _Queue:
    name: str
    connection: AwsConnection
    trigger: SqsTrigger | ObjectQueueTrigger

    async def __call__(self) -> Sequence[Finding]:
        from streamfaas.wire.sqs import Queue

        queue = Queue(aws_access(self.connection), self.trigger.queue)
        try:
            await queue.open()
            about = await queue.attributes()
        except WorldError as error:
            remedy = {Gone: _NONE, Refused: _DENIED}.get(type(error), _AWAY)
            return [bad(self.name, f"{self.name}: {error}", remedy, "SF3050")]
        finally:
            await queue.close()
        if isinstance(self.trigger, ObjectQueueTrigger):  # what is in it is not in hand for long
            return [self._found(about)]
        return [self._found(about), *self._misfits(about, self.trigger)]

    def _found(self, about: Attributes) -> Finding:
        told = f"{self.name} queue {about.arn.rpartition(':')[2]}: {about.waiting} messages wait"
        if about.receives_max is not None:
            told += f"; after {about.receives_max} receives to its dead-letter queue"
        return ok(self.name, told)

    def _misfits(self, about: Attributes, trigger: SqsTrigger) -> Iterator[Finding]:
        most, own = about.receives_max, trigger.retries.max
        if most == 1:
            told = (
                "the queue's redrive policy moves what has failed once, with all of its batch, and "
                "what was in hand at a crash"
            )
            yield self._warn(told, f"a maxReceiveCount of {RECEIVES_MIN} or more")
        elif most is not None and own is not None and own + 1 >= most:
            told = f"the queue's redrive policy comes first: {most} receives, and retries.max {own}"
            yield self._warn(told, f"retries: {{max: {max(0, most - 2)}}}, or a greater "
                             "maxReceiveCount")  # fmt: skip
        elif most is not None and most < RECEIVES_MIN:
            told = f"the queue's redrive policy moves what was received {most} times; crashes count"
            yield self._warn(told, f"a maxReceiveCount of {RECEIVES_MIN} or more")
        if most is None and trigger.on_failure is None:
            told = "what always fails comes again and again: there is no redrive policy"
            yield self._warn(told, "a redrive policy for the queue, or on_failure for the trigger")
        if trigger.visibility_timeout is None and about.visibility_seconds > HIDDEN_SECONDS_MAX:
            hours = about.visibility_seconds / 3600
            told = f"what is in hand at a crash stays hidden for up to {hours:.1f} h"
            yield self._warn(told, "visibility_timeout: 30s for the trigger")

    def _warn(self, told: str, remedy: str) -> Finding:
        return warn(self.name, f"{self.name}: {told}", remedy, "SF3051")
