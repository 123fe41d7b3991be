"""What a trigger asks of a queue."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.pattern import Filter
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.sqs import VISIBILITY_SECONDS_MAX, WAIT_SECONDS_MAX


@dataclass(frozen=True, slots=True)
class SqsOptions:
    """`queue` is a name, a URL or an ARN. `parallel`: how many batches are in hand at a time.
    `visibility_seconds`: for how long messages are kept at a time (None: as long as the queue has
    it). `filter`: messages that it does not want make no batch fuller. `apart`: messages that have
    failed together are tried in smaller batches. `retries_max`: how often they are tried again
    here before they are given up."""

    access: AwsAccess
    queue: str
    batch: BatchPolicy = field(default_factory=lambda: BatchPolicy(records_max=10))
    parallel: int = 10
    visibility_seconds: int | None = None
    wait_seconds: int = WAIT_SECONDS_MAX
    filter: Filter | None = None
    apart: bool = True
    retries_max: int | None = None

    def __post_init__(self) -> None:
        assert self.parallel >= 1
        assert 0 <= self.wait_seconds <= WAIT_SECONDS_MAX
        assert self.visibility_seconds is None or (
            1 <= self.visibility_seconds <= VISIBILITY_SECONDS_MAX
        )
