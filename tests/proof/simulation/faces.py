"""What can be read in an event or a document: which records of the world they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import orjson
import pybase64

from proof import ledgers
from proof.recorder.handler import fingerprint
from proof.simulation.resharding import Entry


class Row(NamedTuple):
    """A record, as a function is shown it. `offset` is where the world knows it to be."""

    offset: int
    timestamp_ms: int
    key: str | None
    value: str

    @property
    def lane(self) -> str:
        """Every value begins with its record's name."""
        return self.value.split(" ", 1)[0]

    @property
    def name(self) -> str:
        lane, number, _ = self.value.split(" ", 2)
        return f"{lane}/{number}"

    @property
    def print(self) -> bytes:
        key = None if self.key is None else self.key.encode()
        return fingerprint(self.timestamp_ms, key, self.value.encode())


class Face(Protocol):
    """How one kind of source shows records."""

    cuts: bool
    """Whether it is the worker that makes the event, and so may leave the end of it out."""

    def rows(self, event: bytes) -> list[Row]: ...

    def item(self, lane: str, row: Row) -> object:
        """The identifier of a record in a partial answer."""

    def undone(self, rows: Sequence[Row], first: Row) -> Sequence[Row]:
        """What a function has not done that says of that record that it stopped there."""

    def document(self, at: float, document: dict[str, Any]) -> ledgers.SetAside: ...


class Plain:
    """The short events of sources that are simulated whole."""

    cuts: ClassVar[bool] = True

    def rows(self, event: bytes) -> list[Row]:
        told = orjson.loads(event)
        if isinstance(told, list):
            return list(map(Row._make, told))
        (records,) = told["records"].values()  # in a window it is Lambda's event
        return [self._row(each) for each in records]

    def item(self, lane: str, row: Row) -> object:
        return {"partition": lane, "offset": row.offset}

    def undone(self, rows: Sequence[Row], first: Row) -> Sequence[Row]:
        return [row for row in rows if row.offset >= first.offset]

    def document(self, at: float, document: dict[str, Any]) -> ledgers.SetAside:
        return ledgers.set_aside(at, document)

    def _row(self, told: Mapping[str, Any]) -> Row:
        key, value = (
            None if told[name] is None else pybase64.b64decode(told[name]).decode()
            for name in ("key", "value")
        )
        return Row(told["offset"], told["timestamp"], key, value or "")


class MailFace:
    """Lambda's events of a queue."""

    cuts: ClassVar[bool] = False

    def __init__(self, mails: Mapping[str, Any]) -> None:
        self._mails = mails  # by id

    def rows(self, event: bytes) -> list[Row]:
        return [self._row(each) for each in orjson.loads(event)["Records"]]

    def item(self, lane: str, row: Row) -> object:
        return f"message-{row.offset}"

    def undone(self, rows: Sequence[Row], first: Row) -> Sequence[Row]:
        return [row for row in rows if row.offset >= first.offset]

    def document(self, at: float, document: dict[str, Any]) -> ledgers.SetAside:
        info, context = document["SQSBatchInfo"], document["requestContext"]
        rows = self.rows(orjson.dumps(document.get("payload") or document["requestPayload"]))
        told = info["messageIds"] == [self.item("", row) for row in rows]
        topic, partition = rows[0].lane.rsplit("-", 1)
        return ledgers.SetAside(
            at=at,
            id=document["streamfaas"]["id"],
            topic=topic,
            partition=int(partition),
            first=rows[0].offset if told else -1,
            last=rows[-1].offset,
            size=info["batchSize"],
            condition=context["condition"],
            fingerprints=tuple((row.offset, row.print.hex()) for row in rows),
            invokes=context.get("approximateInvokeCount", 0),
        )

    def _row(self, told: Mapping[str, Any]) -> Row:
        sent, group = (told["attributes"].get(name) for name in ("SentTimestamp", "MessageGroupId"))
        row = Row(self._mails[told["messageId"]].record.position, int(sent), group, told["body"])
        known = self._mails[told["messageId"]].name == row.name
        return row if known else row._replace(offset=-1)


def value_in(change: Mapping[str, Any]) -> str:
    """Of the item of a table, what a record has as its value."""
    value: str = change["NewImage"]["value"]["S"]
    return value


class ShardFace:
    """Lambda's events of a stream, or of the `changes` of a table. Those of one aggregate share
    their sequence number, and so an answer can tell of the first of them only."""

    cuts: ClassVar[bool] = False

    def __init__(self, entries: Mapping[str, Entry], *, changes: bool) -> None:
        self._entries = entries  # by the names of the records in them
        self._info = "DDBStreamBatchInfo" if changes else "KinesisBatchInfo"
        self._row = self._of_a_change if changes else self._of_a_stream

    def rows(self, event: bytes) -> list[Row]:
        return [self._row(each) for each in orjson.loads(event)["Records"]]

    def item(self, lane: str, row: Row) -> object:
        return str(self._entries[row.name].sequence)

    def undone(self, rows: Sequence[Row], first: Row) -> Sequence[Row]:
        return [row for row in rows if row.offset >= self._entries[first.name].first]

    def document(self, at: float, document: dict[str, Any]) -> ledgers.SetAside:
        """Told of sequence numbers; which record of an aggregate is meant, its payload says."""
        info, context = document[self._info], document["requestContext"]
        rows = self.rows(orjson.dumps(document.get("payload") or document["requestPayload"]))
        ends = [self.item("", row) for row in (rows[0], rows[-1])]
        told = ends == [info["startSequenceNumber"], info["endSequenceNumber"]]
        topic, partition = rows[0].lane.rsplit("-", 1)
        return ledgers.SetAside(
            at=at,
            id=document["streamfaas"]["id"],
            topic=topic,
            partition=int(partition),
            first=rows[0].offset if told else -1,
            last=rows[-1].offset,
            size=info["batchSize"],
            condition=context["condition"],
            fingerprints=tuple((row.offset, row.print.hex()) for row in rows),
            invokes=context.get("approximateInvokeCount", 0),
        )

    def _of_a_change(self, told: Mapping[str, Any]) -> Row:
        change = told["dynamodb"]
        at_ms = 1000 * change["ApproximateCreationDateTime"]
        row = Row(-1, at_ms, change["Keys"]["id"]["S"], value_in(change))
        entry = self._entries[row.name]
        same = change["SequenceNumber"] == str(entry.sequence)
        return row._replace(offset=entry.first) if same else row

    def _of_a_stream(self, told: Mapping[str, Any]) -> Row:
        record = told["kinesis"]
        at_ms = round(record["approximateArrivalTimestamp"] * 1000)
        value = pybase64.b64decode(record["data"]).decode()
        row = Row(-1, at_ms, record["partitionKey"], value)
        entry = self._entries[row.name]
        shard = f"shardId-{int(row.lane.rsplit('-', 1)[1]):012d}"
        if told["eventID"] != f"{shard}:{entry.sequence}":
            return row
        return row._replace(offset=entry.first + entry.names.index(row.name))
