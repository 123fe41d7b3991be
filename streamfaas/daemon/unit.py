"""The unit of a daemon for systemd: what it may see and write, and how long it may take."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from streamfaas.config.connections import AnyConnection, AwsConnection
from streamfaas.config.delivery import FileDestination, HttpDestination
from streamfaas.config.object_stores import DirectoryTrigger
from streamfaas.config.spec import Config
from streamfaas.daemon.systemd import END_SECONDS

STATES = Path("/var/lib")
"""Where systemd makes directories for the state of services."""

HIDDEN = tuple(Path(each) for each in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108 - names only
"""What a service sees nothing of, but for what is bound into it."""

HOMES = HIDDEN[:3]
_FOR_SYSTEM = "#: system"  # a paragraph that one person's manager cannot carry out
_BARE = re.compile(r"[A-Za-z0-9/._@+,=%$-]+", re.ASCII)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n", "\t": "\\t"})


@dataclass(frozen=True, slots=True)
class Service:
    """What differs between the units. `command` is written as it is, and `reload`, where there is
    one; without a `user`, there is one of the moment; `own` is for the service manager of one
    person."""

    origin: str
    command: str
    state: str
    stop_seconds: int
    reload: str = ""
    title: str = ""
    user: str = ""
    environment: str = ""
    own: bool = False
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    credentials: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """What of the machine's files a configuration needs, besides its state."""

    reads: tuple[Path, ...]
    writes: tuple[Path, ...]


def places(config: Config) -> Places:
    """Where its daemon and its functions read, and where they write."""
    base = config.file.absolute()
    reads: list[Path | None] = [base]
    writes: list[Path] = []
    for origins in config.origins.values():
        put_in = [each for each in origins.split(", ") if each.startswith("file ")]
        reads += [base.parent / each.removeprefix("file ") for each in put_in]
    for function in config.functions.values():
        reads += [function.code, function.venv]
    for _, _, trigger in config.mappings():
        if isinstance(trigger, DirectoryTrigger):
            (writes if trigger.write else reads).append(trigger.path)
    for _, destination in config.destinations():
        if isinstance(destination, FileDestination):
            writes.append(destination.path.parent)  # the file itself may not be there yet
        if isinstance(destination, HttpDestination):
            reads.append(destination.ca)
    if config.telemetry.logs.directory is not None:
        writes.append(config.telemetry.logs.directory)
    for connection in config.connections.values():
        reads += _files_of(connection)
    return Places(tuple(each for each in reads if each is not None), tuple(writes))


def _files_of(connection: AnyConnection) -> tuple[Path | None, ...]:
    if isinstance(connection, AwsConnection):
        return (connection.ca,)
    tls, sasl = connection.tls, connection.sasl
    files = () if tls is None else (tls.ca, tls.certificate, tls.key)
    return files if sasl is None else (*files, sasl.token_file)


def stop_seconds(config: Config) -> int:
    """Longer than its daemon may need to end."""
    longest = max((each.timeout for each in config.functions.values()), default=0.0)
    return math.ceil(longest + config.shutdown.grace + END_SECONDS)


def text(service: Service) -> str:
    """The unit."""
    homes = any(_is_hidden(path, HOMES) for path in (*service.writes, *service.reads))
    fields = {
        "origin": service.origin,
        "title": service.title.replace("%", "%%").replace("\n", " "),
        "command": service.command,
        "reload": _reload(service.reload),
        "stop_seconds": service.stop_seconds,
        "environment": service.environment,
        "identity": _identity(service.user),
        "state": service.state,
        "credentials": "\n".join(_credentials(service.credentials)),
        "protect_home": "tmpfs" if homes else "yes",
        "paths": "\n".join(_paths(service)),
        "wanted_by": "default.target" if service.own else "multi-user.target",
    }
    template = files(__package__).joinpath("service.txt").read_text(encoding="utf-8")
    parts = [part.split("\n") for part in template.strip().split("\n\n")]
    kept = [lines for lines in parts if not (service.own and lines[0] == _FOR_SYSTEM)]
    return "\n".join(_paragraph(lines, fields) for lines in kept)


def quoted(*words: str) -> str:
    """A command's words, as a unit writes them."""
    return " ".join(_quoted(word.replace("$", "$$")) for word in words)


def _paragraph(lines: Iterable[str], fields: Mapping[str, object]) -> str:
    """What is empty once it is filled in leaves no line."""
    filled = (line.format_map(fields) for line in lines if line != _FOR_SYSTEM)
    return "".join(f"{line}\n" for line in filled if line)


def _quoted(word: str) -> str:
    escaped = word.translate(_ESCAPES)
    return escaped if _BARE.fullmatch(escaped) else f'"{escaped}"'


def _reload(command: str) -> str:
    if not command:
        return ""
    # the service's own user runs it, who may use its socket
    said = (
        "# not a signal: it waits until all of the configuration holds, and fails where it cannot"
    )
    return f"{said}\nExecReload={command}"


def _identity(user: str) -> str:
    if user:
        return f"# to whom belongs what it writes\nUser={user}"
    return "# a user of the moment, who owns nothing but the state\nDynamicUser=yes"


def _credentials(found: Mapping[str, Path]) -> Iterator[str]:
    if found:
        yield "# what the configuration has as ${credential:name}; only the daemon can read them"
    for name, path in found.items():
        yield f"LoadCredential={name}:{str(path).replace('%', '%%')}"


def _paths(service: Service) -> Iterator[str]:
    """A path that is hidden is bound to where it was. What is only read stays so in the midst of
    what is written."""
    writes, reads = _outermost(service.writes), _outermost(service.reads)
    for path in writes:
        yield f"{'BindPaths' if _is_hidden(path) else 'ReadWritePaths'}={_quoted(str(path))}"
    for path in reads:
        if path in writes:
            continue
        if _is_hidden(path):
            yield f"BindReadOnlyPaths={_quoted(str(path))}"
        elif any(each in path.parents for each in writes):
            yield f"ReadOnlyPaths={_quoted(str(path))}"


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Also what links lead to, since a link that is not bound itself leads nowhere."""
    every = sorted({each for path in paths for each in (path, path.resolve())})
    return [path for path in every if not any(other in path.parents for other in every)]


def _is_hidden(path: Path, places: Iterable[Path] = HIDDEN) -> bool:
    return any(place in (path, *path.parents) for place in places)
