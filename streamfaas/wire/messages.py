"""Letters as the messages of queues and topics: a text, and typed attributes beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from streamfaas.flow.letters import HOPS_HEADER, ID_HEADER, Attribute, Letter


class Message(NamedTuple):
    """What is sent. `attributes` are as SQS and SNS take them."""

    body: str
    attributes: Mapping[str, Mapping[str, str]]

    @property
    def size_bytes(self) -> int:
        """What counts against the limit: the body, and all of the attributes."""
        beside = sum(
            len(text.encode())
            for name, told in self.attributes.items()
            for text in (name, told["DataType"], told["StringValue"])
        )
        return len(self.body.encode()) + beside


def message(letter: Letter) -> Message:
    """The document, with the letter's id, its hops, and what goes beside it."""
    beside = (
        Attribute(ID_HEADER, "String", letter.id),
        Attribute(HOPS_HEADER, "Number", str(letter.hops)),
        *letter.attributes,
    )
    return Message(
        _REFUSED.sub(_escaped, letter.document.decode(errors="replace")),
        {
            each.name: {"DataType": each.type, "StringValue": _REFUSED.sub("\ufffd", each.value)}
            for each in beside
            if each.value  # an empty one is refused
        },
    )


_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no message may have. In JSON they stand in strings alone."""


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
