"""Built-in test events, of the shape that a kind of trigger has."""

from __future__ import annotations

import orjson

from streamfaas.sources.memory import orders


def sample(kind: str, number: int, seed: int) -> tuple[bytes, bytes | None]:
    """Value and key of the n-th."""
    if kind in {"directory", "object-store"}:
        return b"hello from streamfaas, %d\n" % number, None
    order = orders(seed)(number)
    key = None if kind in {"backlog", "sqs"} else orjson.loads(order)["customer"].encode()
    return order, key
