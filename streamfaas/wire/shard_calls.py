"""Requests to services with sharded logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from streamfaas.flow.errors import Refused
from streamfaas.wire import aws
from streamfaas.wire.shards import IteratorExpired, Trimmed

CALL_SECONDS = 60.0
"""How long one request may take, with the client's own tries."""

PAGES_MAX = 1_000
"""Of one list of shards."""


@asynccontextmanager
async def asking(operation: str, name: str) -> AsyncIterator[None]:
    """Around one request, and what is made of its answer: errors in our words, and a deadline."""
    try:
        with anyio.fail_after(CALL_SECONDS):
            yield
    except aws.ERRORS as error:
        match aws.code_of(error):
            case "ExpiredIteratorException":
                raise IteratorExpired from error
            case "TrimmedDataAccessException":
                raise Trimmed from error
        raise aws.translated(error, f"{operation} of {name}") from error
    except KeyError as error:  # an answer that is not what the service promises
        raise Refused(f"{operation} of {name}: no {error} in the answer") from error
