"""Directories and addresses that a configuration names: entered, written to, connected with."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream, SocketAttribute

from streamfaas.api.addresses import bound
from streamfaas.config.delivery import FileDestination, HttpDestination
from streamfaas.config.object_stores import DirectoryTrigger
from streamfaas.config.spec import Config
from streamfaas.daemon import object_stores
from streamfaas.daemon.build import otlp_of
from streamfaas.daemon.doctor import Finding, bad, ok, warn
from streamfaas.telemetry.otlp.settings import settings
from streamfaas.wire.inbound import HERE

CONNECT_SECONDS = 5.0
ANSWER_BYTES_MAX = 4_096
_PORTS = {"http": 80, "https": 443}
DIRECTORIES_MAX = 200_000
"""Directories that are counted; with more, one look takes too long."""


def directories(config: Config) -> list[Finding]:
    """Blocks. Those that are watched, and those that files are written in."""
    found = []
    for function, name, trigger in config.mappings():
        if isinstance(trigger, DirectoryTrigger):
            found.append(_directory(f"{function}/{name}", trigger.path, writes=trigger.write))
    folders = {
        each.path.parent for _, each in config.destinations() if isinstance(each, FileDestination)
    }
    found += [_directory("destination", folder, writes=True) for folder in sorted(folders)]
    logs = config.telemetry.logs.directory
    if logs is not None:  # made if it is missing
        there = next(each for each in (logs, *logs.parents) if each.exists())
        found.append(_directory("logs", there, writes=True))
    return found


def directories_to_watch(config: Config) -> int:
    """Blocks. How many directories lie in those that are watched."""
    tops = [each.path for _, _, each in config.mappings() if isinstance(each, DirectoryTrigger)]
    count = 0
    for top in tops:
        for _ in os.walk(top):
            count += 1
            if count >= DIRECTORIES_MAX:
                return count
    return count


async def addresses(config: Config) -> list[Finding]:
    """Every address that letters are posted to is connected with, and nothing is sent."""
    asked = [each for _, each in config.destinations() if isinstance(each, HttpDestination)]
    found: list[Finding] = []
    async with anyio.create_task_group() as tasks:
        for destination in dict.fromkeys((each.url, each.ca) for each in asked):
            tasks.start_soon(_address, found, *destination)
    return sorted(found, key=lambda finding: finding.told)


async def desks(config: Config) -> list[Finding]:
    """Every address where stores post is ours to have, or the daemon's that has it."""
    posted = object_stores.posted(config)
    return [await _desk(address, min(posted[address])) for address in sorted(posted)]


async def exports(config: Config) -> list[Finding]:
    """Every collector is connected with, by the configuration and OpenTelemetry's variables."""
    asked = settings(otlp_of(config.telemetry.otlp), os.environ)
    found = [warn("exports", each, "streamfaas explain otlp", "SF3048") for each in asked.warnings]
    collectors: dict[tuple[str, int], tuple[bool, str]] = {}
    for target in asked.targets.values():
        address = target.endpoint
        parts = urlsplit(address if "://" in address else f"grpc://{address}")
        port = parts.port or _PORTS.get(parts.scheme, 4317)
        collectors[str(parts.hostname), port] = (not target.insecure, target.ca)
    for (host, port), (secure, ca) in collectors.items():
        who = f"collector {host}:{port}"
        found.append(await connected(who, host, port, secure=secure, ca=ca or None, code="SF3048"))
    return found


def _directory(who: str, path: Path, *, writes: bool) -> Finding:
    """A name that begins with a dot is no object for whoever watches."""
    try:
        with os.scandir(path) as entries:
            next(entries, None)
        if writes:
            with tempfile.NamedTemporaryFile(dir=path, prefix=".streamfaas-doctor-"):
                pass
    except OSError as error:
        told = f"{who}: {path}: {(error.strerror or str(error)).lower()}"
        remedy = "make it, or give it to the user that the daemon runs as"
        return bad(who, told, remedy, "SF3044")
    return ok(who, f"{who}: {path} can be read{' and written' if writes else ''}")


async def _address(found: list[Finding], url: str, ca: Path | None) -> None:
    parts = urlsplit(url)
    host, secure = str(parts.hostname), parts.scheme == "https"
    port = parts.port or _PORTS[parts.scheme]
    who = f"{host}:{port}"
    found.append(await connected(who, host, port, secure=secure, ca=ca, code="SF3045"))


async def _desk(address: str, path: str) -> Finding:
    who = f"webhook {address}"
    try:
        bound(address, 1).close()
    except OSError as error:
        if await _is_ours(address, path):
            return ok(who, f"{who}{path} answers")
        told = f"{who}: cannot be listened on ({(error.strerror or str(error)).lower()})"
        return bad(who, told, "end who listens there, or choose another `listen`", "SF3054")
    return ok(who, f"{who} is free for the daemon")


async def _is_ours(address: str, path: str) -> bool:
    host, _, port = address.rpartition(":")
    asked = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    found = b""
    with (
        contextlib.suppress(OSError, anyio.EndOfStream, anyio.BrokenResourceError),
        anyio.move_on_after(CONNECT_SECONDS),
    ):
        async with await anyio.connect_tcp(host.strip("[]"), int(port)) as stream:
            await stream.send(asked.encode())
            while len(found) < ANSWER_BYTES_MAX:
                found += await stream.receive()
    return HERE.encode() in found


async def connected(
    who: str, host: str, port: int, *, secure: bool, ca: Path | str | None, code: str
) -> Finding:
    """Whether somebody takes the connection, and shows a certificate that is trusted."""
    try:
        context = ssl.create_default_context(cafile=ca) if secure else None
        with anyio.fail_after(CONNECT_SECONDS):
            stream: ByteStream = (
                await anyio.connect_tcp(host, port)
                if context is None
                else await anyio.connect_tcp(host, port, ssl_context=context)
            )
            at = stream.extra(SocketAttribute.remote_address)  # noqa: S610 - no database
            with anyio.move_on_after(1.0):
                await stream.aclose()
    except (OSError, ssl.SSLError, TimeoutError) as error:
        remedy = "look at the address, the firewall, and who listens there"
        return bad(who, f"{who}: {_reason(error)}", remedy, code)
    return ok(who, f"{who} answers{', its certificate is trusted' if secure else ''} (at {at[0]})")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:.0f} s"
    inner = error.__cause__
    causes: Iterator[BaseException] = iter(
        inner.exceptions if isinstance(inner, BaseExceptionGroup) else [inner or error]
    )
    first = next(causes)
    return (getattr(first, "strerror", None) or str(first) or type(first).__name__).lower()
