"""How AWS services, and those that speak their language, are reached; their errors in our words."""

from __future__ import annotations

import email.utils
import functools
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiobotocore
import orjson
from aiobotocore.config import AioConfig
from aiobotocore.parsers import (
    PROTOCOL_PARSERS,
    AioJSONParser,
    AioResponseParserFactory,
    AioRestXMLParser,
)
from aiobotocore.session import AioSession
from botocore import exceptions
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError

from streamfaas import __version__
from streamfaas.flow.errors import Busy, Gone, Refused, TooLarge, Unreachable, WorldError

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
TRIES = 3
"""Of one request, by the client itself, with growing pauses."""

CONNECTIONS_MAX = 64

_USER_AGENT = f"streamfaas/{__version__} aiobotocore/{aiobotocore.__version__}"
"""The SDK's own is put together of a dozen parts for every request, an eighth of what one costs."""


@dataclass(frozen=True, slots=True)
class AwsAccess:
    """Where services are and who we say we are. What is not given is found as every AWS SDK finds
    it: environment, files of `~/.aws`, the machine's own role."""

    region: str
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    ca: Path | None = None


async def client(
    service: str,
    access: AwsAccess,
    life: AsyncExitStack,
    *,
    read_seconds: float = READ_SECONDS,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """A client that is closed with `life`. `Refused` where the credentials cannot be found.
    `read_seconds`: how long an answer may keep silent; `settings`: more of the SDK's own."""
    session = AioSession(profile=access.profile)
    session.register_component("response_parser_factory", _Parsers())
    config = AioConfig(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=read_seconds,
        max_pool_connections=CONNECTIONS_MAX,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        user_agent=_USER_AGENT,
        **(settings or {}),
    )
    try:
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        made = session.create_client(
            service,
            region_name=access.region,
            endpoint_url=access.endpoint_url,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=access.secret_access_key,
            aws_session_token=access.session_token,
            verify=None if access.ca is None else str(access.ca),
            config=config,
        )
        return await life.enter_async_context(made)
    except (exceptions.BotoCoreError, ValueError, OSError) as error:
        raise translated(error, service) from error


async def signed(service: str, access: AwsAccess, url: str) -> dict[str, str]:
    """The headers of a GET that no client of the SDK makes. `Refused` without credentials."""
    try:
        if access.access_key_id is None:
            found = await AioSession(profile=access.profile).get_credentials()
            known = None if found is None else await found.get_frozen_credentials()
        else:
            known = Credentials(
                access.access_key_id, access.secret_access_key, access.session_token
            )
    except (exceptions.BotoCoreError, ValueError, OSError) as error:
        raise translated(error, service) from error
    if known is None:
        raise Refused(f"{service}: Unable to locate credentials")
    request = AWSRequest("GET", url)
    S3SigV4Auth(known, service, access.region).add_auth(request)
    return dict(request.headers.items())


ERRORS: tuple[type[Exception], ...] = (
    exceptions.ClientError,
    exceptions.BotoCoreError,
    ResponseParserError,
    OSError,
    TimeoutError,
)
"""What a call of a client may raise; `translated` has a word for each."""


def translated(error: Exception, what: str) -> WorldError:
    """An error of a client in our words. `what` says what was asked for."""
    if isinstance(error, exceptions.ClientError):
        return _answered(error, what)
    told = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, _REFUSED):
        return Refused(f"{what}: {told}")
    return Unreachable(f"{what}: {told}")


def code_of(error: Exception) -> str:
    """What the service calls its error, without the namespace that some put before it; empty
    where it is none of the service's."""
    if not isinstance(error, exceptions.ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code.rpartition("#")[2]


def _answered(error: exceptions.ClientError, what: str) -> WorldError:
    code = code_of(error)
    said = str(error.response.get("Error", {}).get("Message") or "")
    text = f"{what}: {code}" + (f": {' '.join(said.split())}" if said else "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _GONE:
        return Gone(text)
    if code in _BUSY or _THROTTLING.search(code) or status == _TOO_MANY:
        return Busy(text)
    if code in _TOO_LARGE or _TOO_LONG.search(said):
        return TooLarge(text)
    if status >= _OF_THEIRS or code in _TRANSIENT:
        return Unreachable(text)
    return Refused(text)


_REFUSED = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.ProfileNotFound,
    exceptions.NoRegionError,
    exceptions.InvalidRegionError,
    exceptions.ParamValidationError,
    ValueError,
)
_GONE = frozenset(
    {
        "ResourceNotFoundException", "TrimmedDataAccessException", "NoSuchBucket", "NoSuchKey",
        "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NotFound",
        "NotFoundException", "404",
    }
)  # fmt: skip
_BUSY = frozenset(
    {
        "ProvisionedThroughputExceededException", "LimitExceededException", "RequestLimitExceeded",
        "SlowDown", "BandwidthLimitExceeded", "TooManyRequestsException", "OverLimit",
    }
)  # fmt: skip
_THROTTLING = re.compile("throttl", re.IGNORECASE)
_TOO_LARGE = frozenset({"EntityTooLarge", "MessageTooLong"})
_TOO_LONG = re.compile("must be shorter than|too long", re.IGNORECASE)
_TRANSIENT = frozenset({"RequestTimeout", "RequestTimeoutException", "InternalFailure"})
_TOO_MANY = 429
_OF_THEIRS = 500


def server_seconds(answer: Mapping[str, Any]) -> float | None:
    """Epoch seconds by the clock of whoever answered, to the second; None where it does not say."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return None if date is None else email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


@functools.cache
def _loader(path: str | None) -> Loader:
    """One for all sessions that look in the same places: reading its descriptions of the services
    is nine tenths of what a client costs, and they are megabytes."""
    return create_loader(path)


class _Parsers(AioResponseParserFactory):  # type: ignore[misc]  # it comes without types
    """The library's own, but for answers that are all data."""

    def create_parser(self, protocol_name: str) -> Any:
        kind = _PARSERS.get(protocol_name) or PROTOCOL_PARSERS[protocol_name]
        return kind(**self._defaults)


class _Json(AioJSONParser):  # type: ignore[misc]  # as above
    """Takes records as they stand in the answer. Walking through every field by its shape costs
    ten times as much as all else, and decodes data that an event has as base64 again."""

    def _do_parse(self, response: Any, shape: Any) -> Any:
        if shape is not None and shape.name in _ALL_DATA:
            try:
                return orjson.loads(response["body"] or b"{}")
            except orjson.JSONDecodeError as error:
                raise ResponseParserError(f"no JSON, but {response['body'][:80]!r}") from error
        return super()._do_parse(response, shape)


_ALL_DATA = frozenset({"GetRecordsOutput", "ReceiveMessageResult"})


class _Xml(AioRestXMLParser):  # type: ignore[misc]  # as above
    """Leaves a listing of objects as it came: whoever asked for it reads it in a tenth of the
    time, and with more distrust."""

    def _do_parse(self, response: Any, shape: Any) -> Any:
        if shape is not None and shape.name == "ListObjectsV2Output":
            return {"Body": response["body"]}
        return super()._do_parse(response, shape)


_PARSERS = {"json": _Json, "rest-xml": _Xml}
