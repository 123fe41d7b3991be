"""Which recordings are kept as traces, and who is given them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from streamfaas.flow import trace
from streamfaas.flow.batch import Batch
from streamfaas.flow.trace import Context
from streamfaas.telemetry.making import trace_of
from streamfaas.telemetry.recording import Means, Origin, Recording
from streamfaas.telemetry.spans import Keep, Trace

SAMPLED, ERROR, SLOW = "sampled", "error", "slow"
"""Why a trace is kept."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What is kept: so large a part of all (`ratio`), and beside it whatever failed (`errors`) or
    took longer (`slow_seconds`). `follows`: where a caller has decided, that counts instead of the
    ratio. A span has up to `links_max` links."""

    ratio: float = 0.0
    errors: bool = True
    slow_seconds: float | None = None
    follows: bool = True
    links_max: int = 512

    def __post_init__(self) -> None:
        assert 0 <= self.ratio <= 1
        assert 0 <= self.links_max <= trace.LINKS_MAX


class Recorder:
    """Begins recordings, knows those that have not ended, and hands what is kept to all `keepers`.
    Nothing in here waits."""

    def __init__(
        self,
        sampling: Sampling = Sampling(),
        *keepers: Keep,
        bits: Callable[[int], int] = random.getrandbits,
        now: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        """`now` and `wall` are in nanoseconds."""
        self.keepers = list(keepers)
        self._means = Means(now, wall, self._end, 0)
        self.sample(sampling)
        self._bits = bits
        self._going: dict[int, Recording] = {}

    def sample(self, sampling: Sampling) -> None:
        """From now on so. What has begun keeps what was decided for it."""
        self.sampling = sampling
        self._means = self._means._replace(links_max=sampling.links_max)
        self._bound = trace.ratio_bound(sampling.ratio)
        self._slow_ns = None if sampling.slow_seconds is None else int(sampling.slow_seconds * 1e9)

    def batch(self, origin: Origin, batch: Batch, waited_seconds: float) -> Recording:
        """A batch is handed to its strand, so long after its first records came."""
        parent = _caller(batch) if origin.kind in _SINGLE else None
        return self._begin(origin, batch, parent, int(waited_seconds * 1e9))

    def call(self, origin: Origin, parent: Context | None) -> Recording:
        """Somebody calls a function and waits for its answer."""
        return self._begin(origin, None, parent, 0)

    def going(self) -> list[Trace]:
        """What has not ended, and would be kept if it ended now."""
        kept = ((each, self._why(each)) for each in list(self._going.values()))
        return [trace_of(recording, why) for recording, why in kept if why]

    def _begin(
        self, origin: Origin, batch: Batch | None, parent: Context | None, waited: int
    ) -> Recording:
        ids = self._bits(192)
        if parent is not None and self.sampling.follows:
            sampled = parent.sampled
        else:
            trace_id = ids >> 64 if parent is None else parent.trace_id
            sampled = trace.is_within(trace_id, self._bound)
        made = Recording(
            self._means, origin, batch, parent, ids=ids, sampled=sampled, waited=waited
        )
        self._going[id(made)] = made
        return made

    def _end(self, recording: Recording) -> None:
        del self._going[id(recording)]
        # what held no record was not for the function
        if recording.attempted or recording.failed:
            why = self._why(recording)
            if why and self.keepers:
                made = trace_of(recording, why)
                for keep in self.keepers:
                    keep(made)
        recording.batch = None  # a lane that rests does not hold the bytes of its last batch

    def _why(self, recording: Recording) -> str:
        if recording.failed and self.sampling.errors:
            return ERROR
        if self._slow_ns is not None:
            until = recording.now() if recording.ended is None else recording.ended
            if until - recording.started >= self._slow_ns:
                return SLOW
        return SAMPLED if recording.sampled else ""


_SINGLE = frozenset({"backlog"})
"""Kinds whose batches are one record, which somebody has asked for: his trace goes on."""


def _caller(batch: Batch) -> Context | None:
    return next(trace.producers(batch), None)
