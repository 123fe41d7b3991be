"""Listings and notifications of one bucket, in any order: what becomes an event, and how often."""

import sqlite3
from collections import Counter
from contextlib import closing

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamfaas.sources.objects.listing import GONE_MS, LATELY_MS, Difference, Look, differences
from streamfaas.store import known as rows
from streamfaas.store.known import GONE, PERHAPS, THERE, UNKNOWN, Known, Step, Told
from streamfaas.store.listings import Listings
from streamfaas.wire.s3_event import CREATED, REMOVED
from streamfaas.wire.s3_listing import Listed

KEYS = (b"a", b"b", b"b/c")
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.sampled_from("xy")),
    st.tuples(st.just("delete"), st.sampled_from(KEYS), st.sampled_from([GONE, PERHAPS])),
    st.tuples(st.just("drop"), st.sampled_from(KEYS)),
    st.tuples(st.just("list")),
    st.tuples(st.just("hear"), st.integers(0, 5)),
    st.tuples(st.just("lose"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.integers(1, 10_000)),
)


class World:
    """A bucket, its notifications on their way, and what is known of it in a real database."""

    def __init__(self, connection, *, alone=False):
        self.connection = connection
        self.alone = alone
        for statement in rows.SCHEMA:
            connection.execute(statement)
        self.listings = Listings(None, "f/t")
        row = (1, "f/t", "bucket", 0, 1, 0)
        connection.execute("INSERT INTO listings VALUES (?,?,?,?,?,?,0)", row)
        self.now = 1_000_000
        self.bucket = {}
        self.on_their_way = []
        self.events = []

    def put(self, key, etag):
        self.now += 1
        self.bucket[key] = Listed(key, 1, etag, self.now)
        self.on_their_way.append(Told("bucket", key, THERE, 1, etag, self.now))

    def delete(self, key, gone=GONE):
        """Or the only version of it."""
        if key in self.bucket:
            self.now += 1
            del self.bucket[key]
            self.on_their_way.append(Told("bucket", key, gone, UNKNOWN, "", self.now))

    def drop(self, key):
        """A version that is not the latest."""
        if key in self.bucket:
            self.now += 1
            self.on_their_way.append(Told("bucket", key, PERHAPS, UNKNOWN, "", self.now))

    def tells_of(self, key):
        return any(told.key == key for told in self.on_their_way)

    def hear(self, number):
        if self.on_their_way and not self.alone:
            told = self.on_their_way.pop(number % len(self.on_their_way))
            self.now += 1
            if self.listings.hear(self.connection, told, self.now):
                self.events.append((told.key, "" if told.gone else told.etag))
                return told
        return None

    def lose(self, number):
        if self.on_their_way:
            del self.on_their_way[number % len(self.on_their_way)]

    def list(self):
        self.now += 1
        shown = [self.bucket[key] for key in sorted(self.bucket)]
        found = self.connection.execute(f"SELECT {rows.COLUMNS} FROM listed ORDER BY key")
        known = [Known(*row) for row in found]
        listing = self.listings.advance(self.connection, "bucket", self.now)
        made = self.now // 1000 * 1000 + 999  # the store tells whole seconds
        look = Look(self.now, made, alone=self.alone)
        for step, name, listed in differences(shown, known, look):
            assert self.listings.step(self.connection, listing, step)
            if name:
                assert (name == REMOVED) == (listed is None)
                key = (step.before or step.after).key
                self.events.append((key, "" if listed is None else listed.etag))

    def wait(self, milliseconds):
        self.now += milliseconds

    def run(self, operations):
        for name, *arguments in operations:
            getattr(self, name)(*arguments)


@settings(max_examples=300)
@given(st.lists(OPERATIONS, max_size=30))
def test_after_a_listing_everybody_has_been_told_of_every_object_as_it_is(operations):
    for alone in (False, True):
        with closing(sqlite3.connect(":memory:")) as connection:
            there = World(connection, alone=alone)
            there.run(operations)
            there.wait(LATELY_MS)
            there.list()
            there.wait(LATELY_MS)
            there.list()
            last = dict(there.events)
            for key, listed in there.bucket.items():
                assert (key, listed.etag) in there.events
                if alone:
                    assert last[key] == listed.etag
            for key in last.keys() - there.bucket.keys():
                assert (key, "") in there.events
            told = len(there.events)
            there.wait(LATELY_MS)
            there.list()
            assert len(there.events) == told  # nothing has changed


def test_an_older_version_that_is_removed_leaves_the_object_there():
    with closing(sqlite3.connect(":memory:")) as connection:
        there = World(connection)
        there.run([("put", b"a", "x"), ("hear", 0), ("wait", LATELY_MS), ("list",)])
        there.run([("drop", b"a"), ("hear", 0), ("wait", LATELY_MS), ("list",), ("list",)])
        assert there.events == [(b"a", "x"), (b"a", "")]
        # and what happens to it afterwards is found
        there.run([("delete", b"a"), ("lose", 0), ("wait", LATELY_MS), ("list",), ("list",)])
        assert there.events == [(b"a", "x"), (b"a", ""), (b"a", "")]
        there.run([("put", b"a", "x"), ("lose", 0), ("wait", LATELY_MS), ("list",)])
        assert there.events[3:] == [(b"a", "x")]


def test_the_only_version_that_is_removed_is_told_once():
    with closing(sqlite3.connect(":memory:")) as connection:
        there = World(connection)
        there.run([("put", b"a", "x"), ("hear", 0), ("wait", LATELY_MS), ("list",)])
        gone = ("delete", b"a", PERHAPS)
        there.run([gone, ("hear", 0), ("wait", LATELY_MS), ("list",), ("list",)])
        assert there.events == [(b"a", "x"), (b"a", "")]
        there.run([("put", b"a", "x"), ("lose", 0), ("wait", LATELY_MS), ("list",)])
        assert there.events[2:] == [(b"a", "x")]


def test_what_was_heard_by_a_clock_that_was_ahead_is_compared_all_the_same():
    look = Look(1_000_000, 1_000_999, alone=False)
    shown = [Listed(b"a", 1, "new", 1_000_000)]
    for taken_ms, found in ((999_000, 0), (1_500_000, 0), (90_000_000, 1), (900_000, 1)):
        row = Known(b"a", 1, "old", told_ms=1, taken_ms=taken_ms)
        assert len(list(differences(shown, [row], look))) == found


LOST = [("put", b"a", "x"), ("lose", 0), ("list",)]


@settings(max_examples=300)
@given(st.lists(OPERATIONS, max_size=30))
@example([*LOST, ("put", b"a", "y"), ("hear", 0)])
@example([*LOST, ("delete", b"a"), ("hear", 0)])
@example([*LOST, ("delete", b"a"), ("hear", 0), ("put", b"a", "x"), ("hear", 0)])
def test_nothing_is_told_more_often_than_it_happened(operations):
    """Where a key rests until what happened to it has been told, or is lost: of a state that was
    replaced meanwhile, a late notification is news."""
    with closing(sqlite3.connect(":memory:")) as connection:
        there = World(connection)
        happened = Counter()
        for name, *arguments in operations:
            if name in {"put", "delete", "drop"} and there.tells_of(arguments[0]):
                continue
            if name == "put":
                happened[arguments[0], arguments[1]] += 1
            elif name in {"delete", "drop"}:
                happened[arguments[0], ""] += arguments[0] in there.bucket
            getattr(there, name)(*arguments)
        there.list()
        while there.on_their_way:
            there.hear(0)
        there.wait(LATELY_MS)
        there.list()
        assert not Counter(there.events) - happened


@settings(max_examples=300)
@given(st.lists(OPERATIONS, max_size=30))
def test_what_a_notification_tells_is_told_once_it_has_come(operations):
    with closing(sqlite3.connect(":memory:")) as connection:
        there = World(connection)
        for name, *arguments in operations:
            before = list(there.on_their_way)
            getattr(there, name)(*arguments)
            if name == "hear" and before:
                (came,) = set(before) - set(there.on_their_way)
                assert (came.key, "" if came.gone else came.etag) in there.events


def test_of_the_second_of_a_listing_each_notification_is_told():
    with closing(sqlite3.connect(":memory:")) as connection:
        there = World(connection)
        there.run([*LOST, ("delete", b"a"), ("hear", 0), ("put", b"a", "x"), ("hear", 0)])
        assert there.events == [(b"a", "x"), (b"a", ""), (b"a", "x")]


# -- examples

LOOK = Look(asked_ms=1_000_000, made_ms=1_000_000)
A = Listed(b"a", 7, "tag", 900_000)
KNOWN_A = Known(b"a", 7, "tag", 900_000, 950_000)


def news(shown, known, look=LOOK):
    return [(each.name, each.step) for each in differences(shown, known, look)]


def test_an_object_that_is_not_known_is_new():
    state = Known(b"a", 7, "tag", 900_000, 1_000_000)
    assert list(differences([A], [], LOOK)) == [Difference(Step(None, state), CREATED, A)]


def test_one_that_is_as_it_was_is_nothing():
    assert news([A], [KNOWN_A]) == []


def test_size_entity_tag_and_time_tell_that_it_was_written_again():
    for changed in (A._replace(size=8), A._replace(etag="x"), A._replace(modified_ms=900_001)):
        assert [name for name, _ in news([changed], [KNOWN_A])] == [CREATED]


def test_one_that_is_missing_is_gone_and_forgotten_where_nobody_else_tells_of_it():
    assert news([], [KNOWN_A]) == [(REMOVED, Step(KNOWN_A, None))]
    others = LOOK._replace(alone=False)
    ((name, step),) = news([], [KNOWN_A], others)
    assert (name, step.after.gone, step.after.listed_ms) == (REMOVED, 1, 1_000_000)
    assert news([], [step.after], others) == []
    later = others._replace(made_ms=1_000_001 + GONE_MS, asked_ms=1_000_001 + GONE_MS)
    assert news([], [step.after], later) == [("", Step(step.after, None))]


def test_what_was_told_of_lately_is_left_to_the_next_listing():
    heard = Known(b"a", 9, "newer", told_ms=999_999, taken_ms=1_000_000 - LATELY_MS + 1)
    assert news([A], [heard]) == []
    assert news([], [heard]) == []
    assert news([A], [heard._replace(gone=1)]) == []
    (one,) = news([A], [heard._replace(taken_ms=0)])
    assert one[0] == CREATED


def test_a_listing_adds_to_what_was_told_without_an_event():
    heard = Known(b"a", UNKNOWN, "", told_ms=900_001, taken_ms=900_002)
    ((name, step),) = news([A], [heard])
    assert name == ""
    assert step.after == Known(b"a", 7, "tag", 900_000, 0, 900_001)


def test_what_was_there_at_birth_is_known_without_an_event():
    look = LOOK._replace(silent_ms=900_000)
    later = Listed(b"b", 1, "x", 900_001)
    assert [name for name, _ in news([A, later], [], look)] == ["", CREATED]
