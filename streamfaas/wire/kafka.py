"""How a Kafka cluster is reached: encryption, credentials, and its errors in our words."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Any

import anyio.to_thread
from aiokafka import errors
from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from streamfaas.flow.errors import Busy, Gone, Refused, Unreachable, WorldError
from streamfaas.wire.kafka_options import SaslOptions, TlsOptions, TokenEndpoint

GOODBYE_SECONDS = 1.0
"""How long the other side may take to say goodbye to a connection that we end."""

TOKEN_SECONDS_MAX = 15.0
"""How long a token endpoint may take to answer."""

TOKEN_RETRY_SECONDS = 5.0
TOKEN_BYTES_MAX = 1 << 20


def connection(
    tls: TlsOptions | None, sasl: SaslOptions | None, clock: Callable[[], float]
) -> dict[str, Any]:
    """The keyword arguments of an aiokafka client. `Refused` where a file cannot be used."""
    protocol = ("SASL_" if sasl else "") + ("SSL" if tls else "PLAINTEXT")
    asked: dict[str, Any] = {"security_protocol": protocol}
    if tls is not None:
        asked["ssl_context"] = _context(tls)
    if sasl is not None:
        asked["sasl_mechanism"] = sasl.mechanism
        asked["sasl_plain_username"] = sasl.username
        asked["sasl_plain_password"] = sasl.password
        asked["sasl_oauth_token_provider"] = _tokens(sasl, clock)
    return asked


def in_the_clear(tls: TlsOptions | None, sasl: SaslOptions | None) -> bool:
    """Whether a password or a token would be sent for everybody on the way to read."""
    return tls is None and sasl is not None and sasl.mechanism in {"PLAIN", "OAUTHBEARER"}


async def reach(brokers: Sequence[str], options: dict[str, Any], seconds: float) -> None:
    """Returns once a broker has let us in. The client itself tries them all as well, but keeps to
    itself why none of them answered."""
    problems: list[WorldError] = []
    for host, port, _ in collect_hosts(list(brokers)):
        problem = await knock(host, port, options, seconds)
        if problem is None:
            return
        problems.append(problem)
    refused = [problem for problem in problems if isinstance(problem, Refused)]
    raise (refused or problems)[0]


async def knock(host: str, port: int, options: dict[str, Any], seconds: float) -> WorldError | None:
    """Why a broker does not let us in, if it does not."""
    try:
        with anyio.fail_after(seconds):
            await _knock(host, port, options, seconds)
    except _CONNECTING as error:
        return translated(error, f"{host}:{port}")
    return None


async def _knock(host: str, port: int, options: dict[str, Any], seconds: float) -> None:
    made = AIOKafkaConnection(
        host, port, client_id="streamfaas", request_timeout_ms=round(seconds * 1000), **options
    )
    try:
        await made.connect()
        if not (await made.send(MetadataRequest([]))).brokers:
            # the client takes a token for accepted whatever is answered to it (RFC 7628 has errors
            # in an answer of their own); a broker that did not accept it then shows no cluster.
            # Nor does one that has just come back, and is not taken for alive again
            token = options.get("sasl_mechanism") == "OAUTHBEARER"
            raise (AuthenticationFailedError if token else KafkaError)(
                "it shows nothing of the cluster to us"
            )
    finally:
        await part([made])


class Client(AIOKafkaClient):  # type: ignore[misc] # the library is untyped
    """Knows the connections that it has let go of until they are gone: one with TLS waits for the
    goodbye of the other side, which may never come."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parting: set[AIOKafkaConnection] = set()

    async def bootstrap(self) -> None:
        """As the client does it, but that it leaves no connection."""
        await begun(super().bootstrap)

    def _on_connection_closed(self, conn: AIOKafkaConnection, reason: Any) -> None:
        super()._on_connection_closed(conn, reason)
        self._let_go(conn)

    def _let_go(self, conn: AIOKafkaConnection) -> None:
        self._parting.add(conn)
        conn.close().add_done_callback(lambda _: self._parting.discard(conn))

    async def close(self) -> None:
        """When it returns, no connection is there any more."""
        if self._sync_task is not None:
            self._sync_task.cancel()
            await asyncio.wait([self._sync_task], timeout=GOODBYE_SECONDS)
        await part([*self._conns.values(), *self._parting])


async def begun(begin: Callable[[], Awaitable[None]]) -> None:
    """Begins something of the library's. Where that is cancelled while it waits for a broker's
    answer, the library forgets the connection that it waits on, unclosed."""
    try:
        await begin()
    except BaseException as error:
        await part(_held(error))
        raise


def _held(error: BaseException) -> set[AIOKafkaConnection]:
    """Connections that an attempt had made when it ended so: nobody else knows of them."""
    found = (
        value
        for frame, _ in walk_tb(error.__traceback__)
        for value in frame.f_locals.values()
        if isinstance(value, AIOKafkaConnection)
    )
    # without a protocol there never was anything to end
    return {conn for conn in found if conn._protocol is not None}  # noqa: SLF001


async def part(connections: Iterable[AIOKafkaConnection]) -> None:
    """Ends connections, and returns when they are gone: by force those that take too long."""
    # without a protocol there never was anything to end
    made = [one for one in connections if one._protocol is not None]  # noqa: SLF001
    gone = [one.close() for one in made]
    if not gone:
        return
    with anyio.CancelScope(shield=True):
        await asyncio.wait(gone, timeout=GOODBYE_SECONDS)
        for one in made:
            if (transport := one._protocol._transport) is not None:  # noqa: SLF001
                transport.abort()
        await asyncio.wait(gone, timeout=GOODBYE_SECONDS)


def translated(error: BaseException, where: str, *, known: bool = False) -> WorldError:
    """An error of the client as one of ours, in one plain line, with its cause. What is `known`
    has let us in before: that it closes a connection is then no question of how we ask."""
    error = _innermost(error)
    if isinstance(error, WorldError):
        return error
    made = (
        _from_kafka(error, where, known=known)
        if isinstance(error, KafkaError)
        else _from_os(error, where, known=known)
    )
    made.__cause__ = error
    return made


def quiet() -> None:
    """The client tells each failed try at length, and fails every 0.1 s while a broker is away.
    What matters of that is told by us; who wants the rest sets a level for its loggers."""
    logger = logging.getLogger("aiokafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


# -- encryption


def _context(tls: TlsOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ValueError) as error:
        raise Refused(f"cannot use the authorities in {tls.ca}: {_line(error)}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate is not None:
        try:
            # with no password at hand OpenSSL would ask on the terminal
            context.load_cert_chain(tls.certificate, tls.key, lambda: tls.password or "")
        except (OSError, ValueError) as error:
            files = f"{tls.certificate}" + (f" with {tls.key}" if tls.key else "")
            raise Refused(f"cannot use the certificate {files}: {_line(error)}") from error
    return context


# -- tokens


class TokenError(KafkaConnectionError):  # type: ignore[misc] # the client tries again after those
    """No token could be had; `told` says why in our words."""

    def __init__(self, told: WorldError) -> None:
        super().__init__(str(told))
        self.told = told


class FileTokens(AbstractTokenProvider):  # type: ignore[misc] # the client asks for this class
    """A token that somebody else keeps fresh in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        try:
            text = self._path.read_text().strip()
        except (OSError, ValueError) as error:
            told = Refused(f"cannot read the token in {self._path}: {_line(error)}")
            raise TokenError(told) from error
        if not text:
            raise TokenError(Refused(f"the token file {self._path} is empty"))
        return text


class FetchedTokens(AbstractTokenProvider):  # type: ignore[misc] # the client asks for this class
    """A token from an endpoint, fetched anew when four fifths of its life are over, so that a
    connection never waits for it nor gets one that is about to end."""

    def __init__(self, endpoint: TokenEndpoint, clock: Callable[[], float]) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._token = ""
        self._renew_at = self._ends_at = clock()
        self._fetching = asyncio.Lock()

    async def token(self) -> str:
        if self._clock() >= self._ends_at:
            await self._fetch()
        return self._token

    async def keep_fresh(self) -> None:
        """Runs for ever. A failure is told only if a connection needs a token that is not there."""
        while True:
            await anyio.sleep(max(1.0, self._renew_at - self._clock()))
            try:
                await self._fetch()
            except TokenError:
                self._renew_at = self._clock() + TOKEN_RETRY_SECONDS

    async def _fetch(self) -> None:
        known = self._ends_at
        async with self._fetching:
            if self._ends_at != known:  # somebody else just did
                return
            try:
                with anyio.fail_after(TOKEN_SECONDS_MAX):
                    token, seconds = await anyio.to_thread.run_sync(
                        _ask_for_token, self._endpoint, abandon_on_cancel=True
                    )
            except TimeoutError as error:
                told = f"no token from {self._endpoint.url} within {TOKEN_SECONDS_MAX:.0f} s"
                raise TokenError(Unreachable(told)) from error
            except WorldError as error:
                raise TokenError(error) from error
            self._token = token
            self._renew_at = self._clock() + 0.8 * seconds
            self._ends_at = self._clock() + 0.95 * seconds


def _tokens(sasl: SaslOptions, clock: Callable[[], float]) -> AbstractTokenProvider | None:
    if sasl.token_endpoint is not None:
        return FetchedTokens(sasl.token_endpoint, clock)
    return FileTokens(sasl.token_file) if sasl.token_file is not None else None


def _ask_for_token(endpoint: TokenEndpoint) -> tuple[str, float]:
    """Blocks. The token, and for how many seconds it is good."""
    if not endpoint.url.startswith(("http://", "https://")):
        raise Refused(f"{endpoint.url} is no http or https address")
    form = {"grant_type": "client_credentials"}
    if endpoint.scope:
        form["scope"] = endpoint.scope
    who = map(urllib.parse.quote_plus, (endpoint.client_id, endpoint.client_secret))
    request = urllib.request.Request(  # noqa: S310 - the scheme is looked at above
        endpoint.url,
        data=urllib.parse.urlencode(form).encode(),
        headers={
            "Accept": "application/json",
            "Authorization": "Basic " + base64.b64encode(":".join(who).encode()).decode(),
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=TOKEN_SECONDS_MAX) as answer:  # noqa: S310
            given = json.loads(answer.read(TOKEN_BYTES_MAX))
        return str(given["access_token"]), float(given.get("expires_in", 300))
    except urllib.error.HTTPError as error:
        with error:
            kind = Refused if error.code in {400, 401, 403, 404} else Unreachable
            raise kind(f"{endpoint.url} gives no token: {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        raise Unreachable(f"no token from {endpoint.url}: {_line(error)}") from error
    except (LookupError, TypeError, AttributeError) as error:
        raise Refused(f"{endpoint.url} answers without an access_token") from error


# -- errors


def _innermost(error: BaseException) -> BaseException:
    """What a wrapper wraps: the client hides causes in general errors, and some only in text."""
    while isinstance(error, KafkaError):
        if isinstance(error, TokenError):
            return error.told
        inner = error.__cause__
        if inner is None:
            break
        if not isinstance(inner, (KafkaError, WorldError)) and type(error) is not KafkaError:
            break
        error = inner
    if type(error) is KafkaError and (named := re.match(r"(\w+)\(", str(error.args[0] or ""))):
        kind = getattr(errors, named[1], None)
        if isinstance(kind, type) and issubclass(kind, KafkaError):
            return kind()
    return error


def _from_kafka(error: KafkaError, where: str, *, known: bool) -> WorldError:
    kind = type(error)
    told = _line(error)
    if kind in _REFUSALS:
        return Refused(f"{where}: {_REFUSALS[kind]} ({told})")
    if isinstance(error, (errors.UnknownTopicOrPartitionError, errors.OffsetOutOfRangeError)):
        return Gone(f"{where}: {told}")
    if isinstance(error, errors.QuotaViolationError):
        return Busy(f"{where} asks for less: {told}")
    if isinstance(error, (errors.RequestTimedOutError, errors.KafkaTimeoutError)):
        return Unreachable(f"{where} did not answer in time")
    if isinstance(error, errors.NodeNotReadyError):  # whose connection failed before
        return Unreachable(f"cannot reach {where}")
    if isinstance(error, KafkaConnectionError):
        # in TLS 1.3 our certificate is looked at once the handshake is over, for us
        if (why := getattr(error.__cause__, "reason", None)) and _NOT_OURS.search(str(why)):
            return Refused(f"{where}: it does not accept our certificate ({why})")
        return Unreachable(f"cannot reach {where} ({_cause(error, known=known)})")
    return Unreachable(f"{where}: {told}")


def _from_os(error: BaseException, where: str, *, known: bool) -> WorldError:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = getattr(error, "verify_message", "") or _line(error)
        return Refused(f"{where}: its certificate is not trusted ({why})")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return Refused(f"{where}: no TLS with it ({error.reason or _line(error)})")
    if isinstance(error, (ValueError, AssertionError, LookupError)):  # what its SCRAM code raises
        return Refused(f"{where}: authentication failed ({_line(error)})")
    if isinstance(error, (OSError, EOFError)):
        return Unreachable(f"cannot reach {where} ({_cause(error, known=known)})")
    return Unreachable(f"{where}: {type(error).__name__} ({_line(error)})")


def _cause(error: BaseException, *, known: bool) -> str:
    while isinstance(error, KafkaError) and error.__cause__ is not None:
        error = error.__cause__
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | asyncio.IncompleteReadError() | ssl.SSLEOFError():
            question = "" if known else ": do tls and sasl fit this listener?"
            return f"it closed the connection{question}"
        case TimeoutError():
            return "no answer"
        case socket.gaierror():
            return "its name cannot be resolved"
        case OSError(strerror=str(told)):
            return told.lower()
    return _line(error)


def _line(error: BaseException) -> str:
    """The text of an error as one line of bearable length."""
    text = getattr(error, "description", "") or str(error)
    text = " ".join(text.split()).removeprefix(f"{type(error).__name__}: ")
    return (text or type(error).__name__)[:200]


_NOT_OURS = re.compile(r"ALERT_(\w+_)?CERTIFICATE|ALERT_UNKNOWN_CA")

_CONNECTING = (KafkaError, OSError, ValueError, AssertionError, LookupError, EOFError)

_REFUSALS: dict[type[KafkaError], str] = {
    errors.SaslAuthenticationFailed: "authentication failed",
    errors.AuthenticationFailedError: "authentication failed",
    errors.IllegalSaslStateError: "authentication failed",
    errors.UnsupportedSaslMechanismError: "it does not offer this SASL mechanism",
    errors.GroupAuthorizationFailedError: "no permission for the consumer group",
    errors.TopicAuthorizationFailedError: "no permission for the topic",
    errors.ClusterAuthorizationFailedError: "no permission",
    errors.InvalidGroupIdError: "the group id is not valid",
    errors.InvalidSessionTimeoutError: "session_timeout is outside of what it allows",
    errors.InconsistentGroupProtocolError: "others use this group with another kind of assignment",
    errors.IncompatibleBrokerVersion: "its version is too old or too new",
    errors.UnsupportedVersionError: "its version is too old or too new",
}
