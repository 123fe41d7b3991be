"""Marks of shards survive the store, and what is damaged of one is found."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.store import shards
from streamfaas.store.rows import seal
from streamfaas.store.shards import COLUMNS, Mark, damage, mark_of, sealed

NUMBERS = st.integers(0, 1 << 62)
MARKS = st.builds(
    Mark,
    *(st.text(max_size=3), st.text(max_size=3), NUMBERS, st.sampled_from(["AT", "AFTER"])),
    *(st.text(max_size=3), NUMBERS, NUMBERS, st.booleans(), NUMBERS),
)
MARK = Mark("shard-0", "stream 7", 5, "AFTER", "49", 0, 7_000, ended=True, seen_ms=9_000)


def connected(*statements):
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    return closing(connection)


def put(connection, mark, given):
    places = ", ".join("?" * 11)
    connection.execute(
        f"INSERT INTO shards (mapping, {COLUMNS}, seal) VALUES ({places})",
        ("m", *mark, given),
    )


@given(MARKS)
def test_a_mark_comes_back_as_it_was_and_is_sound(mark):
    with connected(*shards.SCHEMA, *shards.SEEN) as connection:
        put(connection, mark, sealed("m", mark))
        (row,) = connection.execute(f"SELECT {COLUMNS} FROM shards").fetchall()
        assert mark_of(row) == mark
        assert not damage(connection)


@pytest.mark.parametrize("change", ["position = 4", "at_ms = 1", "ended = 3", "seen_ms = 0"])
def test_a_mark_that_has_another_value_than_was_written_is_found(change):
    with connected(*shards.SCHEMA, *shards.SEEN) as connection:
        put(connection, MARK, sealed("m", MARK))
        connection.execute(f"UPDATE shards SET {change}")
        assert damage(connection) == "a row of shards is damaged"


def test_a_mark_of_before_there_was_a_time_is_sound_and_has_none():
    old = ("m", *MARK[:-2], 1)
    with connected(*shards.SCHEMA) as connection:
        places = ", ".join("?" * 10)
        connection.execute(f"INSERT INTO shards VALUES ({places})", (*old, seal(*old)))
        for statement in shards.SEEN:
            connection.execute(statement)
        assert not damage(connection)
        (row,) = connection.execute(f"SELECT {COLUMNS} FROM shards").fetchall()
        assert mark_of(row) == MARK._replace(seen_ms=0)
