"""What must hold between keys, and between the configuration and the machine."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from streamfaas.config import document, keys, units
from streamfaas.config.document import Scalar, Table
from streamfaas.config.spec import (
    RUNTIME,
    Config,
    DirectoryTrigger,
    Function,
    KafkaConnection,
    KafkaTrigger,
    Sasl,
    Tls,
)
from streamfaas.flow.errors import Problem

ENV_BYTES_MAX = 4_096
SOCKET_PATH_MAX = 107
"""Bytes of a Unix socket's path, on Linux."""

SHARERS_MAX = 100
"""Triggers on one directory."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """What there is to judge: the models of all that has the right form, the tree they came
    from, whether that is all of it, and the connections that are left out if not."""

    config: Config
    root: Table
    environ: Mapping[str, str]
    whole: bool
    lost: frozenset[str]

    def tell(
        self,
        code: str,
        path: document.Path,
        message: str,
        hint: str = "",
        *,
        key: bool = False,
        warning: bool = False,
    ) -> Problem:
        line, column = document.place(self.root, path, key=key)
        node = document.find(self.root, path)
        if isinstance(node, Scalar) and node.hidden:
            message = f"what is put in from {node.origin} does not fit here"
            hint = ""
        return Problem(code, document.dotted(path), line, column, message, hint, warning)


def judge(case: Case) -> Iterator[Problem]:
    """Everything that is wrong, and everything that is allowed but should be looked at."""
    for rule in _RULES:
        yield from rule(case)


def _code(case: Case) -> Iterator[Problem]:
    for name, function in case.config.functions.items():
        path = ("functions", name)
        wrong = _not_a_directory(function.code)
        if wrong:
            yield case.tell("SF1063", (*path, "code"), f"{function.code} {wrong}")
            continue
        module, _, _ = function.handler.rpartition(".")
        file = Path(*module.split("."))
        looked = (file.with_suffix(".py"), file / "__init__.py")
        if all(_not_a_file(function.code / each) for each in looked):
            yield case.tell(
                "SF1064",
                (*path, "handler"),
                f"there is no {looked[0]} in {function.code}",
                _handler_hint(function),
            )


def _handler_hint(function: Function) -> str:
    first = function.handler.split(".")[0]
    there = sorted(each.stem for each in function.code.glob("*.py") if each.stem.isidentifier())
    near = keys.nearest(first, there)
    return f"did you mean {near}.{function.handler.rpartition('.')[2]}?" if near else ""


def _runtime(case: Case) -> Iterator[Problem]:
    for name, function in case.config.functions.items():
        path = ("functions", name, "runtime")
        asked = function.runtime
        if asked == RUNTIME:
            continue
        if re.fullmatch(r"python3\.[0-9]{1,2}", asked):
            yield case.tell(
                "SF1066",
                path,
                f"{asked} is not the Python that runs streamfaas, which is {RUNTIME}",
                f"install streamfaas under {asked}, or write runtime: {RUNTIME}",
            )
        elif asked.startswith(("nodejs", "ruby", "java", "dotnet", "provided", "go")):
            yield case.tell(
                "SF1041",
                path,
                f"the {asked} runtime: not in this version",
                f"this version has {RUNTIME}",
            )
        else:
            yield case.tell("SF1047", path, f"{asked} is not a runtime", f"write {RUNTIME}")


def _venv(case: Case) -> Iterator[Problem]:
    for name, function in case.config.functions.items():
        if function.venv is None:
            continue
        path = ("functions", name, "venv")
        if _not_a_file(function.venv / "pyvenv.cfg"):
            yield case.tell(
                "SF1065",
                path,
                f"{function.venv} is not a virtual environment",
                f"make one: {RUNTIME} -m venv {function.venv.name}",
            )
        elif _not_a_directory(function.venv / "lib" / RUNTIME / "site-packages"):
            found = sorted(each.name for each in (function.venv / "lib").glob("python3*"))
            made = f", but for {' and '.join(found)}" if found else ""
            yield case.tell("SF1065", path, f"{function.venv} is not made for {RUNTIME}{made}")


def _environment(case: Case) -> Iterator[Problem]:
    for name, function in case.config.functions.items():
        size = sum(len(key) + len(value.encode()) for key, value in function.env.items())
        if size > ENV_BYTES_MAX:
            yield case.tell(
                "SF1059",
                ("functions", name, "env"),
                f"the names and values come to {size:,} bytes, over the limit of {ENV_BYTES_MAX:,}",
                "put large values in a file of the code",
                key=True,
            )


def _concurrency(case: Case) -> Iterator[Problem]:
    limits, functions = case.config.limits, case.config.functions
    for name, function in functions.items():
        share, path = function.concurrency, ("functions", name, "concurrency")
        if share.max is not None and share.warm > share.max:
            message = f"warm: {share.warm} is more than max: {share.max}"
            yield case.tell("SF1071", (*path, "warm"), message)
        if share.max is not None and share.reserved > share.max:
            message = f"reserved: {share.reserved} is more than max: {share.max}"
            yield case.tell("SF1071", (*path, "reserved"), message)
        if limits.memory is not None and function.memory > limits.memory:
            yield case.tell(
                "SF1095",
                ("functions", name, "memory"),
                f"{units.format_size(function.memory)} is more than limits.memory, "
                f"{units.format_size(limits.memory)}: no worker could ever start",
            )
    yield from _reserved(case)
    warm = sum(each.concurrency.warm * each.memory for each in functions.values())
    if limits.memory is not None and warm > limits.memory:
        yield case.tell(
            "SF1095",
            ("limits", "memory"),
            f"the warm workers alone may need {units.format_size(warm)}",
            "lower concurrency.warm, or raise the limit",
            warning=True,
        )


def _reserved(case: Case) -> Iterator[Problem]:
    limit, functions = case.config.limits.concurrency, case.config.functions
    total = sum(each.concurrency.reserved for each in functions.values())
    if total > limit:
        greatest = max(functions, key=lambda name: functions[name].concurrency.reserved)
        yield case.tell(
            "SF1070",
            ("functions", greatest, "concurrency", "reserved"),
            f"{total:,} invocations are reserved in all, more than limits.concurrency: {limit:,}",
            "lower concurrency.reserved of a function, or raise the limit",
        )
    elif total == limit:
        for name, function in functions.items():
            if not function.concurrency.reserved:
                yield case.tell(
                    "SF1070",
                    ("functions", name),
                    f"other functions reserve all of the {limit:,} invocations: this one could "
                    "never run",
                    "raise limits.concurrency, or reserve some for it",
                    key=True,
                )


def _retries(case: Case) -> Iterator[Problem]:
    for function, name, trigger in case.config.mappings():
        path = ("functions", function, "triggers", name)
        if trigger.on_failure is None and trigger.retries.max is not None:
            yield case.tell(
                "SF1062",
                (*path, "retries", "max"),
                f"after {trigger.retries.max} retries the records would have nowhere to go: there "
                "is no on_failure, and a record is never dropped",
                "add on_failure: {type: file, path: …}, or leave max out",
            )


def _kafka(case: Case) -> Iterator[Problem]:
    now = datetime.now(UTC)  # noqa: TID251 - against a time that the operator wrote
    for path, trigger in _of_kind(case.config, KafkaTrigger):
        if trigger.connection not in case.config.connections and (
            trigger.connection not in case.lost
        ):
            known = [*case.config.connections, *case.lost]
            near = keys.nearest(trigger.connection, known)
            hint = f"did you mean {near}?" if near else "add it under connections"
            yield case.tell(
                "SF1067",
                (*path, "connection"),
                f"there is no connection {trigger.connection}",
                hint,
            )
        if isinstance(trigger.start, datetime) and trigger.start > now:
            yield case.tell(
                "SF1061", (*path, "start"), f"{trigger.start:%Y-%m-%dT%H:%M:%SZ} is in the future"
            )
        if bool(trigger.topics) == bool(trigger.pattern):
            both = "topics and pattern are both given" if trigger.topics else "no topics are given"
            yield case.tell(
                "SF1073",
                (*path, "pattern") if trigger.topics else path,
                both,
                "give topics: [name, …], or pattern: a regular expression",
                key=True,
            )
        for at, topic in enumerate(trigger.topics):
            if topic in trigger.topics[:at]:
                yield case.tell("SF1073", (*path, "topics", at), f"{topic} is in the list twice")


def _groups(case: Case) -> Iterator[Problem]:
    """Two mappings of one group must not share a topic: each would get half of it."""
    crews: dict[tuple[frozenset[str], str], _Crew] = defaultdict(_Crew)
    for path, trigger in _of_kind(case.config, KafkaTrigger):
        connection = case.config.connections.get(trigger.connection)
        if connection is None:
            continue
        crew = crews[frozenset(connection.brokers), trigger.group]
        clash = crew.clash(trigger)
        if clash:
            hint = "give each its own group: leave group out"
            yield case.tell("SF1068", (*path, "group"), clash, hint)
        crew.add(f"{path[1]}/{path[3]}", trigger)


@dataclass(slots=True)
class _Crew:
    """The mappings of one group on one cluster: who reads what."""

    first: str = ""
    pattern: str = ""  # who has one
    topics: dict[str, str] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)

    def clash(self, trigger: KafkaTrigger) -> str:
        """Why a mapping cannot join, or nothing."""
        group = trigger.group
        for topic in trigger.topics:
            if topic in self.topics:
                return f"{self.topics[topic]} reads the topic {topic} in the same group, {group}"
        other = self.first if trigger.pattern else self.pattern
        if other:
            return f"{other} is in the same group, {group}, and a pattern may match its topics"
        if trigger.instance in self.instances:
            holder = self.instances[trigger.instance]
            return f"{holder} has the same group and the same instance, {trigger.instance}"
        return ""

    def add(self, name: str, trigger: KafkaTrigger) -> None:
        self.first = self.first or name
        if trigger.pattern:
            self.pattern = self.pattern or name
        if trigger.instance is not None:
            self.instances.setdefault(trigger.instance, name)
        for topic in trigger.topics:
            self.topics.setdefault(topic, name)


def _connections(case: Case) -> Iterator[Problem]:
    used = {trigger.connection for _, trigger in _of_kind(case.config, KafkaTrigger)}
    for name, connection in case.config.connections.items():
        path = ("connections", name)
        for at, broker in enumerate(connection.brokers):
            if broker in connection.brokers[:at]:
                yield case.tell("SF1052", (*path, "brokers", at), f"{broker} is in the list twice")
        if connection.tls is not None:
            yield from _tls(case, (*path, "tls"), connection.tls)
        if connection.sasl is not None:
            yield from _sasl(case, (*path, "sasl"), connection.sasl, connection)
        if name not in used and case.whole:
            yield case.tell("SF1093", path, "no trigger uses it", key=True, warning=True)


def _tls(case: Case, path: document.Path, tls: Tls) -> Iterator[Problem]:
    for name in ("ca", "certificate", "key"):
        yield from _file(case, (*path, name), getattr(tls, name))
    if (tls.key is None) != (tls.certificate is None):
        there, missing = ("key", "certificate") if tls.key else ("certificate", "key")
        yield case.tell("SF1075", (*path, there), f"there is a {there} but no {missing}")
    if tls.password is not None and tls.key is None:
        message = "there is a password but no key that it could open"
        yield case.tell("SF1075", (*path, "password"), message, key=True)


def _sasl(
    case: Case, path: document.Path, sasl: Sasl, connection: KafkaConnection
) -> Iterator[Problem]:
    tokens = sasl.mechanism == "OAUTHBEARER"
    wanted = ("token_file", "token_endpoint") if tokens else ("username", "password")
    given = [name for name in Sasl.model_fields if getattr(sasl, name) is not None]
    for name in given:
        if name != "mechanism" and name not in wanted:
            message = f"{name} means nothing to {sasl.mechanism}"
            hint = f"it wants {' or '.join(wanted) if tokens else ' and '.join(wanted)}"
            yield case.tell("SF1074", (*path, name), message, hint, key=True)
    missing = [name for name in wanted if name not in given]
    if tokens and len(missing) != 1:
        message = f"{sasl.mechanism} wants one of token_file and token_endpoint"
        yield case.tell("SF1074", path, message, key=True)
    elif not tokens and missing:
        message = f"{sasl.mechanism} wants {' and '.join(missing)}"
        yield case.tell("SF1074", path, message, key=True)
    yield from _file(case, (*path, "token_file"), sasl.token_file)
    far = not all(_is_loopback(broker) for broker in connection.brokers)
    if connection.tls is None and far:
        message = "what is said here crosses the network in the clear: there is no tls"
        yield case.tell("SF1091", path, message, "add tls: {}", key=True, warning=True)
    url = sasl.token_endpoint.url if sasl.token_endpoint is not None else ""
    if url.startswith("http://") and not _is_loopback(url.removeprefix("http://").split("/")[0]):
        where = (*path, "token_endpoint", "url")
        message = "the client's secret crosses the network in the clear"
        yield case.tell("SF1091", where, message, "use https", warning=True)


def _file(case: Case, path: document.Path, file: Path | None) -> Iterator[Problem]:
    if file is None:
        return
    wrong = _not_a_file(file)
    if wrong:
        yield case.tell("SF1075", path, f"{file} {wrong}")
    elif not os.access(file, os.R_OK):
        yield case.tell("SF1075", path, f"{file} may not be read", f"chmod or chown {file}")


def _is_loopback(address: str) -> bool:
    return address.startswith(("localhost", "127.", "[::1]"))


def _secrets(case: Case) -> Iterator[Problem]:
    for path, scalar in plain_secrets(case.root):
        yield case.tell(
            "SF1090",
            path,
            "a secret in plain text",
            f"write ${{credential:{_slug(path)}}} or ${{file:…}}",
            key=scalar.value is None,
            warning=True,
        )


def plain_secrets(root: Table) -> Iterator[tuple[document.Path, Scalar]]:
    """The values of secret keys that are written out in the file."""
    names = keys.secrets()
    for path, scalar in document.scalars(root):
        if path[-1] in names and not scalar.origin and scalar.value is not None:
            yield path, scalar


def _slug(path: document.Path) -> str:
    return "-".join(str(part) for part in (path[1:2] + path[-1:]))


def _directories(case: Case) -> Iterator[Problem]:
    sharers: dict[tuple[Path, str], list[tuple[document.Path, DirectoryTrigger]]]
    sharers = defaultdict(list)
    for path, trigger in _of_kind(case.config, DirectoryTrigger):
        wrong = _not_a_directory(trigger.path)
        if wrong:
            hint = f"make it: mkdir -p {shlex.quote(str(trigger.path))}"
            message = f"{trigger.path} {wrong}: the trigger waits until it is there"
            yield case.tell("SF1076", (*path, "path"), message, hint, warning=True)
        if trigger.write and not trigger.prefix:
            yield case.tell(
                "SF1094",
                (*path, "write"),
                "what the function writes there triggers it again, for ever",
                "add a prefix, as in prefix: in/, and write elsewhere",
                warning=True,
            )
        yield from _overlaps(case, path, trigger, sharers[_resolved(trigger.path), trigger.bucket])


def _overlaps(
    case: Case,
    path: document.Path,
    trigger: DirectoryTrigger,
    others: list[tuple[document.Path, DirectoryTrigger]],
) -> Iterator[Problem]:
    """As on S3: no two triggers of one bucket may want the same event."""
    for there, other in others:
        if (
            (trigger.prefix.startswith(other.prefix) or other.prefix.startswith(trigger.prefix))
            and (trigger.suffix.endswith(other.suffix) or other.suffix.endswith(trigger.suffix))
            and _share_an_event(trigger.events, other.events)
        ):
            yield case.tell(
                "SF1069",
                path,
                f"{there[1]}/{there[3]} wants the same events of the same bucket",
                "set them apart by prefix, suffix or bucket",
                key=True,
            )
            break
    if len(others) >= SHARERS_MAX:
        message = f"over {SHARERS_MAX} triggers watch the same directory"
        yield case.tell("SF1069", path, message, key=True)
    else:
        others.append((path, trigger))


def _share_an_event(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    return any(
        mine == other
        or (mine.endswith("*") and other.startswith(mine[:-1]))
        or (other.endswith("*") and mine.startswith(other[:-1]))
        for mine in ours
        for other in theirs
    )


def _loops(case: Case) -> Iterator[Problem]:
    """Nothing that we write ourselves may lie where a trigger would see it."""
    watched: dict[Path, list[tuple[str, str]]] = defaultdict(list)
    for path, trigger in _of_kind(case.config, DirectoryTrigger):
        watched[_resolved(trigger.path)].append((f"{path[1]}/{path[3]}", trigger.prefix))
    if not watched:
        return
    ours: list[tuple[document.Path, Path]] = [(("state", "path"), case.config.state.path)]
    for function, name, mapping in case.config.mappings():
        if mapping.on_failure is not None:
            where = ("functions", function, "triggers", name, "on_failure", "path")
            ours.append((where, mapping.on_failure.path))
    for written_at, written in ours:
        real = _resolved(written)
        for parent in (real, *real.parents):
            for name, prefix in watched.get(parent, ())[:SHARERS_MAX]:
                if str(real.relative_to(parent)).startswith(prefix) or parent == real:
                    message = f"{written} lies where {name} watches: it would trigger itself"
                    yield case.tell("SF1072", written_at, message, "put it elsewhere")
                    break


def _state(case: Case) -> Iterator[Problem]:
    state = case.config.state.path
    socket = case.config.socket
    length = len(os.fsencode(socket))
    if length > SOCKET_PATH_MAX:
        yield case.tell(
            "SF1079",
            ("state", "path"),
            f"{socket} has {length} bytes, over the limit of {SOCKET_PATH_MAX} for a socket",
            "use a shorter path",
        )
    unsafe, mend = _unsafe_directory(state, case.environ)
    if unsafe:
        yield case.tell("SF1022", ("state", "path"), f"{state} {unsafe}", mend)


def _unsafe_directory(path: Path, environ: Mapping[str, str]) -> tuple[str, str]:
    """Why a directory that is there must not hold state, and the mend."""
    try:
        # systemd may give a link to a private directory, which it has made itself
        given = str(path) in environ.get("STATE_DIRECTORY", "").split(":")
        found = path.stat() if given else path.lstat()
    except OSError:
        return "", ""
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link", "give the directory itself"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory", "give a directory, or a path where none is yet"
    return unsafe(found)


def unsafe(found: os.stat_result) -> tuple[str, str]:
    """Why something must not be trusted by its owner and mode, and the mend."""
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to another user, {found.st_uid}", "chown it to the daemon's user"
    if found.st_mode & stat.S_IWOTH:
        return "may be written by everybody", "chmod o-w"
    return "", ""


def _of_kind(config: Config, kind: type[T]) -> Iterator[tuple[document.Path, T]]:
    for function, name, trigger in config.mappings():
        if isinstance(trigger, kind):
            yield ("functions", function, "triggers", name), trigger


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links, a name too long
        return path


def _not_a_directory(path: Path) -> str:
    """Why not, or nothing."""
    return _not(path, stat.S_ISDIR, "is not a directory")


def _not_a_file(path: Path) -> str:
    """Why not, or nothing."""
    return _not(path, stat.S_ISREG, "is not a file")


def _not(path: Path, is_kind: Callable[[int], bool], otherwise: str) -> str:
    try:
        return "" if is_kind(path.stat().st_mode) else otherwise
    except FileNotFoundError:
        return "does not exist"
    except OSError as cause:
        return f"cannot be looked at ({cause.strerror})"


_RULES: tuple[Callable[[Case], Iterator[Problem]], ...] = (
    _code,
    _runtime,
    _venv,
    _environment,
    _concurrency,
    _retries,
    _kafka,
    _groups,
    _connections,
    _secrets,
    _directories,
    _loops,
    _state,
)
