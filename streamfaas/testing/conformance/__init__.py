"""What every source must keep: one suite, driven as the engine drives, over any kind of source.

A kind brings a `Subject`: how to make a source object over a backing that outlives it, and how to
put records into it. Each check is a coroutine function that takes a fresh subject, runs in the
test's event loop, and raises AssertionError where the contract is broken.
"""

from __future__ import annotations

from streamfaas.testing.conformance import any_source, logs, queues
from streamfaas.testing.conformance.driving import Driver, crashed, driven
from streamfaas.testing.conformance.subject import Check, Subject

__all__ = ["Check", "Driver", "Subject", "checks", "crashed", "driven"]


def checks(
    *, queue: bool, revoke: bool, unreachable: bool, seek: bool = False, reread: bool = False
) -> list[Check]:
    """The checks that apply to a subject which has these."""
    chosen = [*any_source.CHECKS, *(queues.CHECKS if queue else logs.CHECKS)]
    chosen += logs.OF_SEEKABLE if seek else ()
    chosen += [logs.check_a_log_is_read_once_more_beside_its_reading] if reread else []
    chosen += [logs.check_a_lane_that_is_taken_away_is_let_go] if revoke else []
    chosen += [any_source.check_an_unreachable_backing_is_the_typed_error] if unreachable else []
    return chosen
