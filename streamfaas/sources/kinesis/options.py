"""What a trigger asks of a stream."""

from __future__ import annotations

from dataclasses import dataclass

from streamfaas.wire.aws import AwsAccess


@dataclass(frozen=True, slots=True)
class KinesisOptions:
    """`start` is `trim_horizon`, `latest`, or epoch seconds: where shards begin that are there
    when the trigger is born. `poll_seconds` is the longest pause between two reads of a shard that
    has nothing new, `records_max` the most of one read. `aggregated`: records of the producer
    library are taken apart."""

    access: AwsAccess
    stream: str
    start: str | float
    poll_seconds: float = 1.0
    records_max: int = 10_000
    aggregated: bool = False
    role: str = "arn:aws:iam::000000000000:role/streamfaas"
    commit_seconds: float = 0.2
    look_seconds: float = 30.0

    def __post_init__(self) -> None:
        assert self.start in {"trim_horizon", "latest"} or isinstance(self.start, float)
        assert self.poll_seconds > 0
        assert 1 <= self.records_max <= 10_000
