"""The database file: made whole or not at all, brought up to date, and set aside when damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

from streamfaas.flow.errors import StoreError
from streamfaas.store import intents, invocations, known, notices, pauses, rows, shards, windows

APPLICATION_ID = 0x73666161  # "sfaa": says of an SQLite file that it is ours
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE origin (follows TEXT NOT NULL)",
        "INSERT INTO origin VALUES ('')",
        *rows.SCHEMA,
    ),
    intents.SCHEMA,
    invocations.SCHEMA,
    pauses.SCHEMA,
    shards.SCHEMA,
    invocations.TRACED,
    notices.SCHEMA,
    windows.SCHEMA,
    known.SCHEMA,
    shards.SEEN,
)
"""The statements that lead from version n to n + 1. Never changed once released, only added to."""

DAMAGES: tuple[Callable[[sqlite3.Connection], str], ...] = (
    rows.damage,
    intents.damage,
    invocations.damage,
    pauses.damage,
    shards.damage,
    notices.damage,
    windows.damage,
    known.damage,
)
"""What SQLite cannot check for us: a bit that is wrong within a value."""

_SIDE_FILES = ("-wal", "-shm", "-journal")
_MAGIC = b"SQLite format 3\0"
_NOT_DAMAGE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
}
_REMEDIES = {
    sqlite3.SQLITE_FULL: "make room on the disk of the state directory",
    sqlite3.SQLITE_IOERR: "look at the disk (dmesg, smartctl)",
    sqlite3.SQLITE_CORRUPT: "restart the daemon: it checks the file and sets it aside",
    sqlite3.SQLITE_NOTADB: "restart the daemon: it checks the file and sets it aside",
    sqlite3.SQLITE_READONLY: "make the state directory writable for the daemon's user",
    sqlite3.SQLITE_CANTOPEN: "look at the rights and the disk of the state directory",
    sqlite3.SQLITE_PERM: "make the state directory writable for the daemon's user",
    sqlite3.SQLITE_BUSY: "close the programs that have the database open",
    sqlite3.SQLITE_LOCKED: "close the programs that have the database open",
}


class Damaged(Exception):
    """The file is not, or not any more, a database of ours."""


def prepare(path: Path) -> Path | None:
    """Leaves a sound database of the current schema at `path`. Where a damaged one was set aside
    for it: under which name."""
    set_aside = None
    try:
        _check(path)
    except FileNotFoundError:
        _create(path, follows="")
    except Damaged as damage:
        set_aside = _set_aside(path)
        _create(path, follows=f"{set_aside.name}: {damage}")
    return set_aside


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection for the thread that calls this. Transactions are the caller's."""
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, cached_statements=256)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA cache_size = -8192")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute(f"PRAGMA query_only = {int(read_only)}")
    except BaseException:
        connection.close()
        raise
    return connection


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code (0 where Python made the error up itself)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_of_the_world(error: BaseException) -> bool:
    """Whether the disk or the file is to blame, rather than a statement."""
    codes = _NOT_DAMAGE | {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return isinstance(error, sqlite3.Error) and code_of(error) in codes


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is to blame."""
    return code_of(error) not in _NOT_DAMAGE


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What went wrong, in the words of whoever has to mend it."""
    remedy = _REMEDIES.get(code_of(error), "look at the daemon's log and the disk")
    return StoreError(f"{path}: {error}", remedy)


# -- is it ours, and sound?


def _check(path: Path) -> None:
    """`FileNotFoundError` where there is none yet, `Damaged` where it cannot be trusted."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        if _beside(path):  # a log without its database would be played into the new one
            raise Damaged("the database is gone, its log is not") from None
        raise
    if not stat.S_ISREG(info.st_mode):
        raise StoreError(f"{path} is not a regular file", f"move it away: mv {path} {path}.old")
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreError(f"{path} cannot be read and written", f"chmod u+rw {path}")
    check_header(path)
    try:
        with contextlib.closing(connect(path)) as connection:
            _migrate(connection, path)
            check_content(connection)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise store_error(path, error) from error
        raise Damaged(str(error)) from error
    except UnicodeDecodeError as error:  # what SQLite complains of is no text any more
        raise Damaged("its tables' definitions are damaged") from error


def check_header(path: Path) -> None:
    """What makes SQLite refuse a file with an error that could also be the world's."""
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        raise Damaged("the file is empty")
    if not header.startswith(_MAGIC) or len(header) < 100:
        raise Damaged("the file is not an SQLite database")
    if not {header[18], header[19]} <= {1, 2}:
        raise Damaged("the header is damaged")


def check_origin(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a database of ours; `Damaged` where it is none, `StoreError` where a newer
    streamfaas wrote it."""
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise Damaged("the database is not one of streamfaas")
    version = _pragma(connection, "user_version")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer streamfaas (schema {version}; "
            f"this one knows up to {len(MIGRATIONS)})",
            "run the newer version, or move the file away to begin without it",
        )
    return version


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = check_origin(connection, path)
    if version < len(MIGRATIONS):
        _advance(connection, version)


def _advance(connection: sqlite3.Connection, version: int) -> None:
    """All migrations that are missing, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")


def check_content(connection: sqlite3.Connection) -> None:
    """`Damaged` where what is in a database of this version cannot be trusted."""
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise Damaged(found)
    if _layout(connection) != _expected_layout():
        raise Damaged("the tables are not those of its version")
    for damage in DAMAGES:
        if found := damage(connection):
            raise Damaged(found)


def _layout(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    return connection.execute(query).fetchall()


def _expected_layout() -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _advance(connection, 0)
        return _layout(connection)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


# -- the file


def _create(path: Path, follows: str) -> None:
    """Under another name first: what stands at `path` is never half made."""
    new = path.with_name(f"{path.name}.new")
    try:
        for left in (new, *(new.with_name(new.name + end) for end in _SIDE_FILES)):
            left.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _advance(connection, 0)
            connection.execute("UPDATE origin SET follows = ?", (follows,))
        new.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot make {path}: {error.strerror or error}",
            "look at the rights and the disk of the state directory",
        ) from error
    except sqlite3.Error as error:
        raise store_error(path, error) from error


def _set_aside(path: Path) -> Path:
    """Renames the database, then what belongs to it. Were we cut off in between, the files left
    beside it would tell the next start that there was one."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.corrupt-{stamp}.{number}")
    try:
        with contextlib.suppress(FileNotFoundError):
            path.rename(target)
        for beside in _beside(path):
            end = beside.name.removeprefix(path.name)
            beside.rename(target.with_name(target.name + end))
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} is damaged and cannot be set aside: {error.strerror or error}",
            "move it away by hand",
        ) from error
    return target


def _beside(path: Path) -> list[Path]:
    files = (path.with_name(path.name + end) for end in _SIDE_FILES)
    return [file for file in files if file.exists()]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
