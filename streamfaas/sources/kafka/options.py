"""What a Kafka source is told: the cluster, the group, and how to read."""

from __future__ import annotations

from dataclasses import dataclass

from streamfaas.wire.kafka_options import SaslOptions, TlsOptions


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """One consumer group on one cluster. Either `topics`, or a `pattern` that matches whole names.

    `start` is where a partition begins that the group has no offset for: `earliest`, `latest` or
    epoch milliseconds. `instance_id` makes the member static: it keeps its partitions over a
    restart of up to `session_timeout_seconds`. `stall_seconds` without progress where there is
    something to read make the source give up, and be made anew.
    """

    brokers: tuple[str, ...]
    group: str
    start: str | int
    topics: tuple[str, ...] = ()
    pattern: str | None = None
    instance_id: str | None = None
    isolation_level: str = "read_committed"
    session_timeout_seconds: float = 30.0
    rebalance_timeout_seconds: float = 45.0
    fetch_bytes: int = 256 * 1024
    fetch_wait_seconds: float = 0.1
    stall_seconds: float = 60.0
    commit_seconds: float = 0.2
    metadata_seconds: float = 30.0
    open_seconds: float = 30.0
    client_id: str = "streamfaas"
    tls: TlsOptions | None = None
    sasl: SaslOptions | None = None

    def __post_init__(self) -> None:
        assert self.brokers
        assert bool(self.topics) != (self.pattern is not None)
        assert isinstance(self.start, int) or self.start in {"earliest", "latest"}
        assert self.isolation_level in {"read_committed", "read_uncommitted"}

    @property
    def heartbeat_seconds(self) -> float:
        return min(3.0, self.session_timeout_seconds / 3, self.rebalance_timeout_seconds / 6)

    @property
    def drain_seconds(self) -> float:
        """How long batches in hand may take in a rebalance: it is up to a heartbeat old when we
        hear of it, and what is finished must still be committed within it."""
        return 0.9 * self.rebalance_timeout_seconds - self.heartbeat_seconds

    @property
    def request_timeout_seconds(self) -> float:
        """A broker answers a join only once every member has come, or has run out of time."""
        return max(60.0, self.rebalance_timeout_seconds + 15)
