"""A shard of Kinesis as the service holds it, with aggregates of the producer library in it."""

import base64

from kpl_made import aggregate
from streamfaas.flow.record import Lane
from streamfaas.sources.sharded.reading import AT
from streamfaas.store.shards import Mark
from streamfaas.wire.shards import Page as Read

LANE = Lane("shop/clicks", "shardId-000000000000")
BORN = Mark(LANE.name, "life", 0, "TRIM_HORIZON", "", 0, 0, False)


def record(number, data):
    return {
        "SequenceNumber": f"{10**55 + number}",
        "PartitionKey": "k",
        "Data": base64.b64encode(data).decode(),
        "ApproximateArrivalTimestamp": 1_795_640_000.0 + number,
    }


class Shard:
    """What the service holds: records, some of them aggregates."""

    def __init__(self, sizes):
        self.records = []
        for number, size in enumerate(sizes):
            inner = [("k", None, b"%d.%d" % (number, sub)) for sub in range(size)]
            data = aggregate(inner) if size else b"%d" % number
            self.records.append(record(number, data))
        self.ids = [
            b"%d.%d" % (number, sub) if size else b"%d" % number
            for number, size in enumerate(sizes)
            for sub in range(max(size, 1))
        ]

    def read(self, start, limit):
        found = [
            each
            for each in self.records
            if start.kind == "TRIM_HORIZON"
            or int(each["SequenceNumber"]) > int(start.sequence)
            or (start.kind == AT and each["SequenceNumber"] == start.sequence)
        ]
        at_end = len(found) <= limit
        return Read(found[:limit], None if at_end else "iterator", 0 if at_end else 1, 100)
