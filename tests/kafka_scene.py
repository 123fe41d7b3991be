"""A lane whose records are told as Kafka's are: the simulated stream under a scene of the lane."""

from __future__ import annotations

from lane_scene import Scene
from streamfaas.sources.memory import Memory, MemoryOptions


class Stream(Memory):
    """The simulated stream, of which the test hands the records over; it keeps its settlements."""

    def __init__(self):
        options = MemoryOptions("topic", records=0)
        super().__init__("f/t", options, clock=lambda: 0.0, emit=print)
        self.settled = []

    async def settle(self, settlement):
        await super().settle(settlement)
        self.settled.append(settlement)


class KafkaScene(Scene):
    """Its function is told the offsets of its records."""

    def __init__(self, answer, **options):
        super().__init__(answer, source=Stream(), **options)

    @staticmethod
    def values(event):
        return [record["offset"] for records in event["records"].values() for record in records]
