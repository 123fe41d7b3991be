"""Where a document lies in a bucket: Lambda's own layout of keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson

from streamfaas.flow.letters import Letter
from streamfaas.wire.documents import uuid_of

SEGMENT_CHARACTERS_MAX = 200
"""Of a lane's name that a key has room for."""


def object_key(letter: Letter) -> str:
    """`aws/lambda/<mapping>/<lane>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<uuid>`, or `async/<function>` in
    place of mapping and lane where it is of an asynchronous invocation. The same letter has the
    same key, however often it is sent."""
    told = orjson.loads(letter.document)
    moment = datetime.fromisoformat(told["timestamp"])
    return f"aws/lambda/{_of(told)}/{moment:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid_of(letter)}"


def _of(told: Any) -> str:
    if "streamfaas" not in told:  # it is of no batch
        arn = str(told["requestContext"]["functionArn"])
        return f"async/{_segment(arn.split(':')[6])}"
    place = told["streamfaas"]
    mapping = str(place["mapping"]).replace("/", ".")
    return f"{_segment(mapping)}/{_segment(str(place['lane']))}"


def _segment(name: str) -> str:
    """A lane may have any name, and is not to make a path of its own with it."""
    plain = quote(name, safe="")[:SEGMENT_CHARACTERS_MAX] or "-"
    return plain.replace(".", "%2E") if plain.strip(".") == "" else plain
