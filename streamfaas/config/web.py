"""The forms of what is sent to an address: headers, and the key that requests are signed with."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from streamfaas.config.forms import Form, fail, line, secret

HEADER_PATTERN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"

OWN_HEADERS = ("webhook-", "streamfaas-")
"""How the names of headers begin that are ours."""

HOP_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "te", "transfer-encoding"}
)
"""Headers that are between us and the next machine on the way."""

SECRET_HEADERS = frozenset(
    {"api-key", "authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"}
)
"""Headers whose text is a secret."""

KEY_BYTES = range(24, 65)
"""Of a key that requests are signed with, as Standard Webhooks has it."""


def header() -> Form:
    """The name of a header that may be sent with a request."""

    def check(value: Any, _base: Path) -> str:
        found = line(value, says, 256)
        if not matching.fullmatch(found):
            fail("SF1077", f"is not {says}", "use letters, digits and -")
        if found.lower() in HOP_HEADERS or found.lower().startswith(OWN_HEADERS):
            fail("SF1077", "is a header that streamfaas sets itself", "leave it out")
        return found

    says = "a name of a header"
    matching = re.compile(HEADER_PATTERN, re.ASCII)
    return Form(says, check, {"type": "string", "pattern": f"^{HEADER_PATTERN}$"})


def header_value() -> Form:
    """What a header says."""

    def check(value: Any, _base: Path) -> str:
        found = line(value, says)
        if not found.isascii():
            fail("SF1077", "has characters in it that a header cannot carry", "use ASCII only")
        return found

    says = "the text of a header"
    return Form(says, check, {"type": "string", "minLength": 1})


def is_secret_header(path: Sequence[str | int]) -> bool:
    """Whether a path is that of a header whose text is a secret: of a collector, any."""
    if tuple(path[:-1]) == ("telemetry", "otlp", "headers"):
        return True
    return tuple(path[-2:-1]) == ("headers",) and str(path[-1]).lower() in SECRET_HEADERS


def signing_secret() -> Form:
    """A key that requests are signed with, as a text that no output ever shows."""

    def check(value: Any, base: Path) -> SecretStr:
        found: SecretStr = plain.check(value, base)
        try:
            key = b64decode(found.get_secret_value().removeprefix("whsec_"), validate=True)
        except ValueError:
            fail("SF1084", "is not base64, with whsec_ before it", hint)
        if len(key) not in KEY_BYTES:
            fail("SF1084", f"holds a key of {len(key)} bytes, where 24 to 64 are wanted", hint)
        return found

    plain = secret()
    hint = "make one: echo whsec_$(openssl rand -base64 32)"
    return Form("whsec_ and a key in base64; best from ${credential:name}", check, plain.schema)
