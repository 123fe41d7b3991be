"""`streamfaas install-service`."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamfaas.cli import exits

if TYPE_CHECKING:
    from streamfaas.config.spec import Config

SYSTEM_UNITS = Path("/etc/systemd/system")
CREDENTIALS = Path("/etc/credstore")
ORIGIN = "Written by `streamfaas install-service`, which writes it anew when it is run again."

NOBODY = "nobody"
"""Stands for a user of the moment, who can do what anybody can."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}", re.ASCII)
_CREDENTIAL = re.compile(r"\$\{(?:credential:|CREDENTIALS_DIRECTORY\}/)([A-Za-z0-9._-]+)", re.ASCII)
_WRITE = os.W_OK | os.X_OK
_ANALYZE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _Asked:
    config: Path
    name: str
    run_as: str
    credentials: Path
    own: bool

    @property
    def folder(self) -> Path:
        return own_units() if self.own else SYSTEM_UNITS

    @property
    def unit(self) -> Path:
        return self.folder / f"{self.name}.service"

    @property
    def environment(self) -> str:
        own = self.folder.parent.parent / f"{self.name}.env"
        return str(own) if self.own else f"/etc/default/{self.name}"


def own_units() -> Path:
    """Where units of one's own service manager are."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"


@click.command()
@click.option(
    "-c", "--config", type=exits.PATH, default=exits.DEFAULT_CONFIG, help="The configuration."
)
@click.option("--name", default="streamfaas", show_default=True, help="Name of the service.")
@click.option("--run-as", metavar="USER", default="", help="Whom it runs as, if that matters.")
@click.option(
    "--credentials",
    type=exits.PATH,
    default=CREDENTIALS,
    show_default=True,
    help="Directory of the files that the configuration has as ${credential:name}.",
)
@click.option("--user", "own", is_flag=True, help="For your own service manager, not the system's.")
@click.option("--dry-run", is_flag=True, help="Print the unit, and write nothing.")
@click.option("--force", is_flag=True, help="Overwrite a unit that something else has written.")
def command(
    *,
    config: Path,
    name: str,
    run_as: str,
    credentials: Path,
    own: bool,
    dry_run: bool,
    force: bool,
) -> None:
    """Write a hardened systemd unit that runs this installation on a configuration.

    What it may see and write, how long it may take to end, and which credentials it is given comes
    from the configuration. It runs as a user of the moment, or as the one to whom belongs what it
    writes besides its state.
    """
    if not _NAME.fullmatch(name):
        exits.end(exits.USAGE, f"{name!r} is no name for a service: use letters, digits, - and _")
    if run_as and own:
        exits.end(exits.USAGE, "--run-as is for the system's manager: yours runs all as you")
    asked = _Asked(config.absolute(), name, run_as, credentials.absolute(), own)
    unit = asked.unit
    if not dry_run:
        _refuse(unit, own=own, force=force)
    text = _text(asked)
    if dry_run:
        click.echo(text, nl=False)
    else:
        _write(unit, text)
        click.echo(f"wrote {unit}")
    if not own and (told := _exposure(unit.name, text)):
        click.echo(told, err=dry_run)
    if not dry_run:
        manager = "systemctl --user" if own else "systemctl"
        click.echo(
            "\nnext:\n"
            f"  {manager} daemon-reload\n"
            f"  {manager} enable --now {name}\n"
            f"  {manager} status {name}"
        )


def _refuse(unit: Path, *, own: bool, force: bool) -> None:
    """Ends the command where the unit must not, or cannot, be written."""
    if not own and os.geteuid() != 0:
        exits.end(
            exits.FAILED,
            f"only root can write {unit}: use sudo, or --user for a service of your own, or "
            "--dry-run to see it",
        )
    try:
        ours = unit.read_text(encoding="utf-8").startswith(f"# {ORIGIN}\n")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours and not force:
        exits.end(
            exits.FAILED,
            f"{unit} was not written by this command: nothing was changed (--force, or --name)",
        )


def _text(asked: _Asked) -> str:
    from streamfaas.daemon import unit

    # not on a disk, and where another user gets to; who is not root stays who he is
    place = "/run" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="streamfaas-", dir=place) as given:
        credentials = _credentials(asked, Path(given))
        environ = _environ(asked, Path(given))
        config = exits.loaded(asked.config, environ)
        places = unit.places(config)
        state, writes = asked.name, places.writes
        if unit.STATES in config.state.path.parents:
            state = str(config.state.path.relative_to(unit.STATES)).removeprefix("private/")
        elif Path(given) not in config.state.path.parents:
            writes += (config.state.path,)
        user = "" if asked.own else asked.run_as or _owner(writes)
        if not asked.own and os.geteuid() == 0:
            _try_as(user or NOBODY, asked.config, environ, writes)
    reads = [path for path in places.reads if Path(given) not in path.parents]
    _tell_variables(asked, config)
    return unit.text(
        unit.Service(
            origin=ORIGIN,
            title=f" on {asked.config}",
            command=unit.quoted(*_program(), "run", str(asked.config)),
            reload=unit.quoted(*_program(), "reload", "--config", str(asked.config)),
            state=state,
            stop_seconds=unit.stop_seconds(config),
            user=user,
            environment=f"EnvironmentFile=-{asked.environment.replace('%', '%%')}",
            own=asked.own,
            reads=(*reads, *_installation()),
            writes=writes,
            credentials=credentials,
        )
    )


def _credentials(asked: _Asked, given: Path) -> dict[str, Path]:
    """Those that the file names and that are there, with a copy of each in `given`, where the
    check finds them. One that is missing is told of by the check."""
    try:
        text = asked.config.read_text(encoding="utf-8", errors="replace")
    except OSError:  # told of by the check
        return {}
    named = {name: asked.credentials / name for name in _CREDENTIAL.findall(text)}
    found = {name: path for name, path in sorted(named.items()) if path.is_file()}
    for name, path in found.items():
        try:
            shutil.copyfile(path, given / name)
        except OSError as cause:
            exits.end(exits.FAILED, f"the credential {path} cannot be read: {cause.strerror}")
    return found


def _environ(asked: _Asked, given: Path) -> dict[str, str]:
    """As systemd would set it: a state directory that is made for the service is its own."""
    from streamfaas.config.place import socket_of
    from streamfaas.flow.errors import ConfigError

    environ = {**os.environ, "CREDENTIALS_DIRECTORY": str(given)}
    environ["STATE_DIRECTORY"] = str(given / "state")
    with contextlib.suppress(ConfigError):  # told of by the check
        environ["STATE_DIRECTORY"] += f":{socket_of(asked.config, environ).parent}"
    return environ


def _owner(writes: Sequence[Path]) -> str:
    """To whom all of it belongs; nobody where there is nothing."""
    for path in writes:
        if not path.is_dir():
            exits.end(exits.FAILED, f"there is no directory {path}, and the service writes to it")
    owners = {path.stat().st_uid for path in writes}
    if not owners:
        return ""
    try:
        (owner,) = {pwd.getpwuid(each).pw_name for each in owners}
    except (KeyError, ValueError):
        owner = "root"
    if owner == "root":
        listed = ", ".join(dict.fromkeys(map(str, writes)))
        exits.end(
            exits.FAILED,
            f"the service writes to {listed}: give all of it to one user, not to root (chown), or "
            "name the user with --run-as",
        )
    return owner


def _try_as(user: str, config: Path, environ: Mapping[str, str], writes: Sequence[Path]) -> None:
    """Ends the command where the user of the service could not run it."""
    try:
        who = pwd.getpwnam(user)
    except KeyError:
        exits.end(exits.USAGE, f"there is no user {user}")
    given = Path(environ["CREDENTIALS_DIRECTORY"])
    for path in (given, *given.iterdir()):
        os.chown(path, who.pw_uid, who.pw_gid)
    try:
        with _acting_as(who):
            exits.loaded(config, environ)
            closed = [path for path in writes if not os.access(path, _WRITE, effective_ids=True)]
    except SystemExit:
        click.echo(f"streamfaas: so it looks for {user}; --run-as names another user", err=True)
        raise
    if closed:
        exits.end(exits.FAILED, f"{user} cannot write to {closed[0]}, and the service is to")


@contextlib.contextmanager
def _acting_as(who: pwd.struct_passwd) -> Iterator[None]:
    groups, group = os.getgroups(), os.getegid()
    os.setgroups(os.getgrouplist(who.pw_name, who.pw_gid))
    os.setegid(who.pw_gid)
    os.seteuid(who.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _tell_variables(asked: _Asked, config: Config) -> None:
    origins = ", ".join(config.origins.values()).split(", ")
    named = {each.removeprefix("environment ") for each in origins if each[:12] == "environment "}
    named -= {"CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"}
    if named:
        listed = ", ".join(sorted(named))
        told = f"the service takes {listed} from {asked.environment}, not from this terminal"
        click.echo(f"streamfaas: {told}", err=True)


def _installation() -> tuple[Path, ...]:
    """Where this Python and this streamfaas lie."""
    import streamfaas

    return Path(sys.prefix), Path(sys.base_prefix), Path(streamfaas.__file__).parent


def _program() -> tuple[str, ...]:
    script = Path(sysconfig.get_path("scripts"), "streamfaas")
    return (str(script),) if script.is_file() else (sys.executable, "-m", "streamfaas")


def _exposure(name: str, text: str) -> str:
    """What systemd thinks of it, where systemd is."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return ""
    with tempfile.TemporaryDirectory(prefix="streamfaas-") as folder:
        (Path(folder) / name).write_text(text, encoding="utf-8")
        asked = [program, "security", "--offline=true", "--no-pager", f"{folder}/{name}"]
        try:
            done = subprocess.run(  # noqa: S603 - a program of systemd, and no shell
                asked, capture_output=True, text=True, timeout=_ANALYZE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
    found = re.search(r"exposure level for [^:]*: ([0-9.]+ [A-Z]+)", done.stdout)
    return f"exposure {found[1]}, of 10 (systemd-analyze security)" if found else ""


def _write(unit: Path, text: str) -> None:
    """All of it or nothing."""
    new = unit.with_suffix(".new")
    try:
        unit.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8")
        new.chmod(0o644)
        new.replace(unit)
    except OSError as cause:
        exits.end(exits.FAILED, f"cannot write {unit}: {cause.strerror}")
