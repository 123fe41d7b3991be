from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import store_rows
from store_rows import numbers
from streamfaas.flow.errors import StoreError
from streamfaas.store import Store, schema

ROWS = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a database that was closed cleanly."""
    path = tmp_path_factory.mktemp("whole") / "state" / "streamfaas.db"
    asyncio.run(store_rows.fill(path, 0, ROWS - 1))
    return path.read_bytes()


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """The bytes of a database, and of the log beside it, that nobody closed."""
    path = tmp_path_factory.mktemp("crashed") / "state" / "streamfaas.db"

    async def main():
        await store_rows.fill(path, 0, 9)
        store = await Store.open(path)
        await store_rows.write(store, 10, ROWS - 1)
        found = path.read_bytes(), Path(f"{path}-wal").read_bytes()
        await store.close()
        return found

    return asyncio.run(main())


@contextlib.contextmanager
def laid(*contents: bytes):
    """A state directory with a database of these bytes, and perhaps with a log."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "streamfaas.db"
    for end, content in zip(("", "-wal"), contents, strict=False):
        Path(f"{path}{end}").write_bytes(content)
    try:
        yield path
    finally:
        shutil.rmtree(folder)


def look(path: Path) -> tuple[list[int], str]:
    """What is in the store, and what it says of a damaged one. Then it can be written to."""

    async def main():
        store = await Store.open(path, emit=lambda signal: None)
        found, lost = await numbers(store), store.lost
        if 99_999 not in found:
            await store_rows.write(store, 99_999, 99_999)
        await store.close()
        return found, lost

    return asyncio.run(main())


def set_aside(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir() if ".corrupt-" in file.name)


def assert_honest(path: Path, expected: list[int]) -> None:
    """The store has all rows, or says that it lost them and keeps what was there."""
    try:
        found, lost = look(path)
    except StoreError as error:
        assert error.remedy  # noqa: PT017 - one of two honest ends
        return
    if lost:
        assert found == []
        assert set_aside(path)
        assert look(path) == ([99_999], ""), "the next start is an ordinary one"
    else:
        assert found == expected
        assert not set_aside(path)


def test_a_whole_database_is_left_alone(whole, crashed):
    with laid(whole) as path:
        assert look(path) == (list(range(ROWS)), "")
    with laid(*crashed) as path:
        assert look(path) == (list(range(ROWS)), "")
        assert not set_aside(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\0" * 8192, "not an SQLite database"),
        (b"hello", "not an SQLite database"),
        (b"SQLite format 3\0", "not an SQLite database"),
    ],
)
def test_what_is_no_database_is_set_aside_as_it_is(content, reason):
    with laid(content) as path:
        found, lost = look(path)
        assert found == []
        assert reason in lost
        (name,) = set_aside(path)
        assert (path.parent / name).read_bytes() == content


def test_a_database_of_somebody_else_is_set_aside_as_it_is():
    with laid() as path:
        with contextlib.closing(sqlite3.connect(path)) as foreign:
            foreign.execute("CREATE TABLE music (title)")
            foreign.execute("INSERT INTO music VALUES ('x')")
            foreign.commit()
        assert look(path)[1].endswith("the database is not one of streamfaas")
        (name,) = set_aside(path)
        with contextlib.closing(sqlite3.connect(path.parent / name)) as foreign:
            assert foreign.execute("SELECT title FROM music").fetchall() == [("x",)]


@pytest.mark.slow
def test_a_database_whose_tables_were_changed_is_set_aside(whole):
    for statement in (
        "DROP INDEX object_events_by_key",
        "ALTER TABLE objects RENAME COLUMN size TO bytes",
        "CREATE TABLE more (x)",
        "CREATE TRIGGER t AFTER DELETE ON objects BEGIN DELETE FROM object_events; END",
    ):
        with laid(whole) as path:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute(statement)
                connection.commit()
            assert "tables" in look(path)[1]


def test_a_database_of_a_newer_version_is_refused_and_stays(whole):
    with laid(whole) as path:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        before = path.read_bytes()
        known = f"schema 99; this one knows up to {len(schema.MIGRATIONS)}"
        with pytest.raises(StoreError, match=known) as caught:
            look(path)
        assert "newer version" in caught.value.remedy
        assert path.read_bytes() == before
        assert not set_aside(path)


def test_a_database_of_an_older_version_is_brought_up_to_date(whole, monkeypatch):
    added = ("ALTER TABLE origin ADD COLUMN more TEXT NOT NULL DEFAULT ''",)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, added))
    with laid(whole) as path:
        assert look(path) == (list(range(ROWS)), "")
        with contextlib.closing(sqlite3.connect(path)) as connection:
            version = len(schema.MIGRATIONS)
            assert connection.execute("PRAGMA user_version").fetchone() == (version,)
            assert connection.execute("SELECT more FROM origin").fetchall() == [("",)]


def test_a_database_of_every_version_so_far_is_brought_up_to_date(monkeypatch):
    for version in range(1, len(schema.MIGRATIONS)):
        with laid() as path:
            with monkeypatch.context() as past:
                past.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
                assert schema.prepare(path) is None
            assert look(path) == ([], "")
            assert look(path) == ([99_999], "")


def test_a_migration_that_fails_half_way_leaves_the_old_version(whole, monkeypatch):
    broken = ("CREATE TABLE first (x)", "CREATE TABLE objects (x)")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
    with laid(whole) as path:
        found = path.read_bytes()
        connection = schema.connect(path)
        with pytest.raises(sqlite3.OperationalError):
            schema._migrate(connection, path)
        connection.close()
        assert path.read_bytes()[28:] == found[28:]


def test_a_log_without_its_database_is_not_played_into_a_new_one(crashed):
    with laid(b"", crashed[1]) as path:
        path.unlink()
        found, lost = look(path)
        assert found == []
        assert "the database is gone, its log is not" in lost
        assert [name.endswith("-wal") for name in set_aside(path)] == [True]


def test_a_start_that_was_cut_off_leaves_nothing_in_the_way(whole):
    with laid(b"") as path:
        path.unlink()
        Path(f"{path}.new").write_bytes(whole[:5000])
        Path(f"{path}.new-journal").write_bytes(b"half")
        assert look(path) == ([], "")


@pytest.mark.slow
def test_names_of_what_is_set_aside_never_clash():
    with laid(b"") as path:
        for content in (b"one", b"two", b"three"):
            path.write_bytes(content)
            look(path)
        names = [name for name in set_aside(path) if not name.endswith(("-wal", "-shm"))]
        assert {(path.parent / name).read_bytes() for name in names} == {b"one", b"two", b"three"}


@pytest.mark.slow
@settings(max_examples=40)
@given(data=st.data())
def test_a_database_cut_anywhere_is_never_read_as_if_it_were_whole(whole, data):
    length = data.draw(st.integers(0, len(whole) - 1))
    with laid(whole[:length]) as path:
        assert_honest(path, list(range(ROWS)))


@pytest.mark.slow
@settings(max_examples=150)
@given(data=st.data())
def test_a_bit_that_turns_is_found_or_does_no_harm(whole, data):
    # the header and the tables' definitions as often as all the rest
    place = data.draw(st.one_of(st.integers(0, 99), st.integers(0, len(whole) - 1)))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(whole)
    damaged[place] ^= 1 << bit
    with laid(bytes(damaged)) as path:
        assert_honest(path, list(range(ROWS)))


@pytest.mark.slow
@pytest.mark.parametrize("bit", [0, 7])
def test_every_byte_of_the_header_may_turn(whole, bit):
    for place in range(bit % 2, 100, 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        with laid(bytes(damaged)) as path:
            assert_honest(path, list(range(ROWS)))


@pytest.mark.slow
@settings(max_examples=40)
@given(data=st.data())
def test_a_torn_or_damaged_log_gives_an_earlier_state_and_never_another(crashed, data):
    database, log = crashed
    if data.draw(st.booleans()):
        log = log[: data.draw(st.integers(0, len(log) - 1))]
    else:
        damaged = bytearray(log)
        damaged[data.draw(st.integers(0, len(log) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        log = bytes(damaged)
    with laid(database, log) as path:
        found, lost = look(path)
        assert not lost
        assert found == list(range(len(found)))
        assert len(found) >= 10


CHANGES = {
    "buckets": "UPDATE buckets SET sequencer = 0",
    "objects": "UPDATE objects SET etag = 'other' WHERE size = 3",
    "object_events": "UPDATE object_events SET key = x'00' WHERE size = 3",
    "intents": "UPDATE intents SET state = 'settled' WHERE made_ms = 3",
    "letters": "UPDATE letters SET document = x'00' WHERE intent = 3",
    "backlogs": "UPDATE backlogs SET last = 1",
    "invocations": "UPDATE invocations SET event = x'00' WHERE number = 3",
}


@pytest.mark.parametrize("table", CHANGES)
def test_a_value_that_changed_behind_our_back_breaks_its_seal(whole, table):
    with laid(whole) as path:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(CHANGES[table])
            connection.commit()
            found = [said for damage in schema.DAMAGES if (said := damage(connection))]
            assert found == [f"a row of {table} is damaged"]
        assert f"a row of {table} is damaged" in look(path)[1]


COLUMNS = {
    "intents": ("number", "id", "ranges", "last", "kind", "replays", "size"),
    "letters": ("intent", "place", "id", "key", "document", "attributes"),
    "invocations": (
        "number",
        "request_id",
        "due_ms",
        "failures",
        "event",
        "client_context",
        "trace",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("table", COLUMNS)
def test_every_column_is_sealed(whole, table):
    for column in COLUMNS[table]:
        with laid(whole) as path:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                query = (
                    f"UPDATE {table} SET {column} = coalesce({column}, '') || '77' WHERE rowid = 3"
                )
                connection.execute(query)
                connection.commit()
            assert f"a row of {table} is damaged" in look(path)[1], column


def test_a_database_that_may_not_be_read_is_no_damage(tmp_path):
    path = tmp_path / "streamfaas.db"
    path.mkdir()
    with pytest.raises(StoreError, match="not a regular file"):
        look(path)
    path.rmdir()
    path.symlink_to("/dev/null")
    with pytest.raises(StoreError, match="not a regular file"):
        look(path)
