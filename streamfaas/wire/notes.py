"""What is told of a letter that is too large: all of its document but the payloads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from streamfaas.flow.letters import Letter

PAYLOADS = ("payload", "requestPayload", "responsePayload")
RESPONSE_BYTES_MAX = 16 * 1024
"""Of an answer or an error that is told nevertheless."""


def note(letter: Letter, place: str) -> Letter:
    """The letter without what makes it large, and with where the whole of it is. It has the same
    id. A dead letter is nothing but its event: the note has that alone."""
    told: Any = orjson.loads(letter.document)
    if letter.attribute("RequestID") or not isinstance(told, dict):
        told = {}
    kept = {name: value for name, value in told.items() if name not in PAYLOADS}
    response = told.get("responsePayload")
    if response is not None and len(orjson.dumps(response)) <= RESPONSE_BYTES_MAX:
        kept["responsePayload"] = response
    kept["streamfaas"] = {
        **kept.get("streamfaas", {"id": letter.id, "hops": letter.hops}),
        "whole": {"place": place, "bytes": len(letter.document)},
    }
    return replace(letter, document=orjson.dumps(kept))
