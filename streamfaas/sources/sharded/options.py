"""What a trigger asks of a sharded log, whatever its service."""

from __future__ import annotations

from dataclasses import dataclass

from streamfaas.wire.aws import AwsAccess


@dataclass(frozen=True, slots=True)
class LeaseOptions:
    """Several daemons share the stream, by a table of leases that each of them names. `worker` is
    what this one is called there, whom no other may be called like."""

    access: AwsAccess
    table: str
    worker: str
    failover_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`start` is `trim_horizon`, `latest`, or epoch seconds: where shards begin that are there
    when the trigger is born. `poll_seconds` is the longest pause between two reads of a shard that
    has nothing new, `records_max` the most of one read (None: what the service allows).
    Without `leases` all shards are ours."""

    start: str | float
    poll_seconds: float = 1.0
    records_max: int | None = None
    commit_seconds: float = 0.2
    look_seconds: float = 30.0
    leases: LeaseOptions | None = None

    def __post_init__(self) -> None:
        assert self.start in {"trim_horizon", "latest"} or isinstance(self.start, float)
        assert self.poll_seconds > 0
        assert self.records_max is None or self.records_max >= 1
