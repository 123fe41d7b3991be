"""A lane whose records are messages of a queue, standard or FIFO, under a scene of the lane."""

from __future__ import annotations

from lane_scene import Scene
from listed import LANE
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.record import run_of_records
from streamfaas.sources.sqs import Sqs, SqsOptions
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.sqs_event import Origin, record_of


class Queue(Sqs):
    """A queue of which the test hands the messages over; it keeps its settlements."""

    def __init__(self, name):
        options = SqsOptions(AwsAccess("us-east-1"), name, BatchPolicy(records_max=10))
        super().__init__("f/t", options, room=lambda: 1, clock=lambda: 0.0, emit=print)
        self.settled = []

    async def settle(self, settlement):
        self.settled.append(settlement)


class SqsScene(Scene):
    """Its function is told the ids of its messages, which are numbers. `deliveries`: how often
    they have come before."""

    queue = "orders"

    def __init__(self, answer, *, deliveries=0, **options):
        super().__init__(answer, source=Queue(self.queue), **options)
        self.deliveries = deliveries

    @staticmethod
    def values(event):
        return [int(record["messageId"]) for record in event["Records"]]

    def offer(self, count, start=0):
        self.send(*["x"] * count, start=start)

    def send(self, *bodies, start=0):
        origin = Origin("arn:aws:sqs:us-east-1:123456789012:orders", "us-east-1")
        made = tuple(
            record_of(origin, LANE, at, {"MessageId": str(at), "ReceiptHandle": "r", "Body": body})
            for at, body in enumerate(bodies, start)
        )
        self.lane.offer(run_of_records(made, self.deliveries))


class FifoScene(SqsScene):
    """Of one message group."""

    queue = "orders.fifo"
