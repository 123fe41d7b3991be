"""What Lambda says of tumbling windows: members of the event beside its records."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from streamfaas.flow.pane import Pane


def framed(event: bytes, pane: Pane, shard: str, arn: str) -> bytes:
    """The event (JSON, an object) with the members of Lambda's time windows behind its own. `shard`
    and `arn` name what the records are of."""
    before = {"window": {"start": _iso(pane.window.start_ms), "end": _iso(pane.window.end_ms)}}
    behind = {
        "shardId": shard,
        "eventSourceARN": arn,
        "isFinalInvokeForWindow": pane.final,
        "isWindowTerminatedEarly": pane.early,
    }
    parts = (event[:-1], orjson.dumps(before)[1:-1], b'"state":' + pane.state)
    return b",".join((*parts, orjson.dumps(behind)[1:]))


def _iso(milliseconds: int) -> str:
    """Whole seconds, unless it is none."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    exact = "milliseconds" if milliseconds % 1000 else "seconds"
    return moment.isoformat(timespec=exact).replace("+00:00", "Z")
