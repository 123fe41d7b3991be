"""Leases are shared: never held by two, always by somebody, and in the end by all alike."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lease_world import TERMS, Library, Worker, World
from streamfaas.flow.leases import (
    LATEST,
    SHARD_END,
    TRIM_HORIZON,
    Lease,
    Tenure,
    Watch,
    done_with,
    of_another,
    to_be_made,
)

SEEDS = st.integers(0, 1 << 32)
ENOUGH = TERMS.failover_seconds + 2 * TERMS.scan_seconds


def rows(count):
    return [Lease(f"s{number}") for number in range(count)]


def spread(world):
    """How many leases each worker that lives has, by the table."""
    owners = [lease.owner for lease in world.table.values()]
    return {each.name: owners.count(each.name) for each in world.workers if not each.dead}


@settings(max_examples=60, deadline=None)
@given(
    SEEDS,
    st.integers(1, 6),
    st.lists(st.floats(0.95, 1.05), min_size=2, max_size=4),
    st.floats(0, 0.4),
    st.floats(0.01, 4.0),
)
def test_no_two_think_at_once_that_a_lease_is_theirs(seed, count, rates, lost, slow):
    world = World(seed, rows(count), lost=lost, slow=slow)
    for number, rate in enumerate(rates):
        Worker(world, f"w{number}", rate=rate, grace=world.chance.random() * 5)

    def check():
        for key, owners in world.sure().items():
            assert len(owners) == 1, (world.now, key, owners)

    for _ in range(6):
        world.run(world.now + world.chance.random() * 40, check)
        worker = world.chance.choice(world.workers)
        if world.chance.random() < 0.6:
            worker.frozen_until = world.now + world.chance.random() * 40
        elif not worker.dead:
            worker.dead = True
            worker.tenures.clear()
            Worker(world, f"{worker.name}+", rate=worker.rate)
    world.run(world.now + 60, check)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 12), st.lists(st.floats(0.0, 60.0), min_size=1, max_size=4))
def test_every_lease_is_owned_in_the_end_and_all_have_their_share(seed, count, joins):
    world = World(seed, rows(count))
    for number, when in enumerate(joins):
        world.at(when, lambda number=number: Worker(world, f"w{number}"))
    world.run(60 + 60 * count)
    assert all(lease.owner for lease in world.table.values())
    loads = spread(world).values()
    assert sum(loads) == count
    assert max(loads) - min(loads) <= 1
    before = len(world.takes)
    world.run(world.now + 100)
    assert len(world.takes) == before, "it does not come to rest"


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 8), st.integers(1, 3))
def test_what_a_dead_worker_had_is_taken_within_failover_and_two_looks(seed, count, others):
    world = World(seed, rows(count), slow=0.1)
    for number in range(others + 1):
        Worker(world, f"w{number}")
    world.run(60 + 40 * count)
    dead = world.workers[0]
    theirs = {key for key, lease in world.table.items() if lease.owner == dead.name}
    dead.dead, died = True, world.now
    dead.tenures.clear()
    world.run(died + ENOUGH + 1)
    late = {key: lease for key, lease in world.table.items() if lease.owner == dead.name}
    assert not late
    assert {key for when, key, _ in world.takes if when > died} >= theirs
    assert all(when <= died + ENOUGH + 1 for when, _, _ in world.takes)


@settings(max_examples=60, deadline=None)
@given(
    SEEDS,
    st.integers(1, 9),
    st.lists(st.tuples(st.booleans(), st.floats(0, 90)), min_size=1, max_size=4),
)
def test_with_workers_of_the_library_all_have_their_share_too_and_come_to_rest(seed, count, joins):
    world = World(seed, rows(count))
    for number, (ours, when) in enumerate(joins):
        kind = Worker if ours else Library
        world.at(when, lambda number=number, kind=kind: kind(world, f"w{number}"))
    world.run(150 + 60 * count)
    loads = spread(world).values()
    assert sum(loads) == count
    assert max(loads) - min(loads) <= 1
    before = len(world.takes)
    world.run(world.now + 100)
    assert len(world.takes) == before, "it does not come to rest"
    dead = world.workers[0]
    dead.dead = True
    dead.tenures.clear()
    world.run(world.now + 60 + 60 * count)
    assert sum(spread(world).values()) == (count if len(joins) > 1 else 0)


@st.composite
def tables(draw):
    """Of some workers, of which some are the library's."""
    owners = draw(st.dictionaries(st.sampled_from("abcd"), st.booleans(), min_size=1))
    found = []
    for number in range(draw(st.integers(1, 9))):
        owner = draw(st.sampled_from(sorted(owners)))
        heeds = owner if owners[owner] else draw(st.sampled_from(("", "me", "a+")))
        wanted = draw(st.sampled_from(("", "me", "z")))
        found.append(Lease(f"s{number}", owner=owner, gives_way=heeds, wanted_by=wanted))
    return found


@given(tables(), st.floats(0, 1, exclude_max=True))
def test_of_who_heeds_nothing_is_taken_and_who_does_not_is_not_asked(found, chance):
    watch = Watch("me", TERMS)
    watch.saw(found, 0.0)
    plan = watch.plan(watch.may_be_read({}), (), 1.0, chance)
    assert len(plan.take) <= 1
    assert not any(lease.heeded for lease in plan.take)
    assert plan.ask is None or (plan.ask.heeded and not plan.take)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 8))
def test_what_is_handed_over_is_never_taken_while_its_owner_is_sure_of_it(seed, count):
    world = World(seed, rows(count))
    Worker(world, "old", grace=3.0)
    world.run(30)
    taken = len(world.takes)
    Worker(world, "new")
    world.run(40 + 30 * count)
    moved = world.takes[taken:]
    assert len(moved) == count // 2
    assert {by for _, _, by in moved} == {"new"}


@st.composite
def families(draw):
    """Shards as splits and merges make them, older ones first."""
    known = {}
    for number in range(draw(st.integers(1, 10))):
        older = sorted(known)
        parents = draw(st.lists(st.sampled_from(older), max_size=2, unique=True)) if older else []
        known[f"s{number:02}"] = tuple(parents)
    return known


@given(families(), st.randoms())
def test_all_shards_are_read_once_children_after_parents_and_their_rows_go(known, chance):
    """Rows are made, read, ended and removed in any order that is allowed, and the stream forgets
    shards when they are ended."""
    watch, table, order, now = Watch("w", TERMS), {}, [], 0.0
    family = dict(known)
    for _ in range(400):
        now += 1
        step = chance.choice(("make", "read", "clean", "forget"))
        if step == "make":
            for shard, _ in to_be_made(table, known):
                assert shard not in order, "read a second time"
                table[shard] = Lease(shard, parents=frozenset(known[shard]))
        elif step == "clean":
            for lease in done_with(table, known):
                assert lease.ended
                del table[lease.key]
        elif step == "forget" and known and chance.random() < 0.3:
            oldest = next(iter(known))
            if oldest in order and (oldest not in table or table[oldest].ended):
                known = {shard: parents for shard, parents in known.items() if shard != oldest}
        watch.saw(table.values(), now)
        if step == "read" and (due := watch.may_be_read(known)):
            shard = chance.choice(due)
            assert all(parent in order for parent in family[shard])
            table[shard] = Lease(
                shard,
                checkpoint=chance.choice(("49", SHARD_END)),
                parents=frozenset(family[shard]),
            )
            if table[shard].ended:
                order.append(shard)
    assert len(order) == len(set(order))


def test_a_child_waits_for_all_its_parents():
    watch = Watch("w", TERMS)
    child = Lease("c", parents=frozenset({"a", "b"}))
    ended = Lease("a", checkpoint=SHARD_END)
    known = {"a": (), "b": (), "c": ("a", "b")}
    watch.saw([child, ended, Lease("b", checkpoint="7")], 0.0)
    assert watch.may_be_read(known) == ["b"]
    watch.saw([child, ended, Lease("b", checkpoint=SHARD_END)], 1.0)
    assert watch.may_be_read(known) == ["c"]


def test_a_row_that_is_new_waits_for_a_look_that_must_show_its_parents():
    """The library's own rows of a stream that was read from LATEST have no parents beside them."""
    watch = Watch("w", TERMS)
    known = {"a": (), "c": ("a",)}
    watch.saw([Lease("c", checkpoint=LATEST, parents=frozenset({"a"}))], 0.0)
    assert watch.may_be_read(known) == []
    watch.saw([Lease("c", checkpoint=LATEST, parents=frozenset({"a"}))], 1.0)
    assert watch.may_be_read(known) == ["c"]


def test_one_that_has_begun_goes_on_whatever_became_of_its_parents():
    watch = Watch("w", TERMS)
    watch.saw([Lease("c", checkpoint="49", parents=frozenset({"a"}))], 0.0)
    assert watch.may_be_read({"a": (), "c": ("a",)}) == ["c"]


def test_no_row_is_made_for_a_shard_whose_children_have_one():
    known = {"a": (), "b": ("a",), "c": ("b",), "other": ()}
    assert to_be_made({"b": Lease("b", parents=frozenset({"a"}))}, known) == [
        ("c", True),
        ("other", False),
    ]
    assert to_be_made({}, {"c": ("b",), "b": ()}) == [("b", False), ("c", False)]


def test_a_row_stays_until_its_children_have_begun():
    known = {"a": (), "b": ("a",), "c": ("a",)}
    end, begun = Lease("a", checkpoint=SHARD_END), Lease("b", checkpoint="49")
    table = {"a": end, "b": begun, "c": Lease("c", checkpoint=TRIM_HORIZON)}
    assert done_with(table, known) == []
    table["c"] = Lease("c", checkpoint="50")
    assert done_with(table, known) == [end]
    del table["c"]
    assert done_with(table, known) == []  # it has not been made yet
    assert done_with(table, {"b": (), "c": ()}) == [end]  # the stream has forgotten it


def test_a_write_that_was_refused_may_have_been_our_own():
    tenure = Tenure(Lease("s", counter=4, owner="me"), 10.0)
    late = Lease("s", counter=5, owner="me", wanted_by="other")
    assert tenure.read_back(late) == Tenure(late, 10.0)
    assert tenure.read_back(Lease("s", counter=5, owner="other")) is None
    assert tenure.read_back(None) is None


def test_of_an_owner_that_does_not_heed_one_is_taken_at_a_time_until_it_is_even():
    watch, theirs = Watch("me", TERMS), {f"s{n}": Lease(f"s{n}", owner="library") for n in range(4)}
    for now in range(1, 30):  # it renews, and does not answer
        theirs = {key: replace(lease, counter=now) for key, lease in theirs.items()}
        watch.saw(theirs.values(), float(now))
        ours = [key for key, lease in theirs.items() if lease.owner == "me"]
        plan = watch.plan(watch.may_be_read({}), ours, float(now), 0.5)
        assert plan.ask is None
        assert len(plan.take) == (now <= 2)
        theirs |= {e.key: replace(e, owner="me", gives_way="me") for e in plan.take}
    assert [lease.owner for lease in theirs.values()].count("me") == 2


def test_one_that_was_taken_from_us_by_the_library_is_not_heeded():
    ours = Lease("s", owner="me", gives_way="me")
    assert ours.heeded
    assert not replace(ours, owner="library").heeded


def test_who_was_asked_and_lost_the_lease_meanwhile_is_asked_again():
    watch = Watch("me", TERMS)
    theirs = [Lease(f"s{n}", owner="other", gives_way="other") for n in range(4)]
    watch.saw(theirs, 0.0)
    watch.asked("s0", 0.0)
    taken = replace(theirs[0], counter=9)  # by itself, once it could write again
    watch.saw([taken, *theirs[1:]], 1.0)
    assert watch.plan(watch.may_be_read({}), (), 1.0, 0.0).ask == taken


def test_who_was_given_a_lease_asks_for_the_next_at_once():
    watch = Watch("me", TERMS)
    theirs = [Lease(f"s{n}", owner="other", gives_way="other") for n in range(4)]
    watch.saw(theirs, 0.0)
    watch.asked("s0", 0.0)
    watch.saw([replace(theirs[0], wanted_by="me"), *theirs[1:]], 1.0)
    assert watch.plan(watch.may_be_read({}), (), 1.0, 0.0).ask is None
    given = replace(theirs[0], counter=1, owner="")
    watch.saw([given, *theirs[1:]], 2.0)
    assert watch.plan(watch.may_be_read({}), (), 2.0, 0.0).take == (given,)
    watch.saw([replace(given, counter=2, owner="me"), *theirs[1:]], 3.0)
    assert watch.plan(watch.may_be_read({}), ["s0"], 3.0, 0.0).ask == theirs[1]


def test_what_was_given_to_somebody_is_not_taken_back_at_once():
    watch = Watch("me", TERMS)
    watch.gave("s", 0.0)
    watch.saw([Lease("s")], 0.0)
    assert watch.plan(watch.may_be_read({}), (), 1.0, 0.0).take == ()
    assert watch.plan(watch.may_be_read({}), (), 10.0, 0.0).take == (Lease("s"),)
    watch.gave("s", 20.0)
    watch.saw([Lease("s", owner="other")], 20.1)  # who has let go of it, in turn
    watch.saw([Lease("s")], 20.2)
    assert watch.plan(watch.may_be_read({}), (), 20.2, 0.0).take == (Lease("s"),)


def test_a_table_of_another_stream_is_told_from_one_of_an_earlier_life():
    def another(*leases, of="arn:stream/a ", known=("s0",)):
        return of_another(leases, of, known)

    ours = Lease("s0", owner="x", stream="arn:stream/a 1")
    theirs = Lease("s0", stream="arn:stream/ab 1")
    assert another() == another(ours) == another(Lease("s0", owner="x")) == ""
    assert another(ours, theirs) == "arn:stream/ab"
    assert another(Lease("s7", stream="arn:stream/a 2", owner="x")) == ""
    for of in ("arn:table/t/stream/", "arn:table/t/stream/2"):
        assert another(Lease("s7", stream="arn:table/t/stream/1"), of=of) == ""
        assert another(Lease("s7", stream="arn:table/u/stream/1"), of=of)


def test_shards_of_the_library_that_nobody_knows_tell_of_another_stream():
    owned, left = Lease("s7", owner="x"), Lease("s8")
    assert of_another([owned, left], "arn ", {"s0"}) == "that of s7, of x"
    assert of_another([left], "arn ", {"s0"}) == ""
    assert of_another([owned, Lease("s0")], "arn ", {"s0"}) == ""
    assert of_another([owned], "arn ", ()) == ""
