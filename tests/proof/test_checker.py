"""A checker that never failed proves nothing: each mutant of sound ledgers must be rejected, for
the right reason."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proof.checker import WHAT_MUST_HOLD, Wanted, check
from proof.ledgers import Committed, Executed, Harmed, Ledgers, Produced, Scraped, SetAside
from proof.test_windows import MUTANTS as OF_WINDOWS

TOPIC, GROUP = "orders", "streamfaas.prove.orders"
PARTITIONS, BATCHES, BATCH_MAX = 3, 12, 5


@dataclass
class History:
    """A run that keeps every invariant, made up from a seed: batches in order, one at a time in
    each partition, some fail and run again, some are set aside, some are cut off, and after a
    crash some run again though they had succeeded."""

    seed: int
    produced: list[Produced] = field(default_factory=list)
    executed: list[Executed] = field(default_factory=list)
    committed: list[Committed] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    harmed: list[Harmed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._now = 100.0
        self._numbers = 0
        for partition in range(PARTITIONS):
            self._live(partition)

    def ledgers(self) -> Ledgers:
        return Ledgers(
            tuple(self.produced),
            tuple(self.executed),
            tuple(self.committed),
            tuple(self.set_aside),
            tuple(self.harmed),
        )

    def _live(self, partition: int) -> None:
        offset = self._chance.randrange(3)
        made: list[list[Produced]] = []
        for _ in range(BATCHES):
            batch = []
            for _ in range(self._chance.randint(1, BATCH_MAX)):
                print_ = hashlib.sha256(f"{partition} {offset}".encode()).hexdigest()
                id_ = f"{partition}-{offset}"
                batch.append(Produced(id_, TOPIC, partition, offset, print_, key="k"))
                # compaction and transaction markers leave gaps
                offset += self._chance.choice((1, 1, 1, 1, 2))
            self.produced += batch
            made.append(batch)
        # every kind of fate at least once, whatever the seed
        fates = [*FATES, *self._chance.choices(FATES, k=BATCHES - len(FATES))]
        self._chance.shuffle(fates)
        for batch, fate in zip(made, fates, strict=True):
            self._fate(batch, fate)

    def _fate(self, batch: list[Produced], fate: str) -> None:
        match fate:
            case "again":
                self.execute(batch, "failure")
            case "cut":
                began = self.execute(batch, None)
                self.crash("worker-kill", began.start)
            case "replayed":
                self.execute(batch, "success")
                self.crash("daemon-kill", self.tick())
            case "aside":
                self.execute(batch, "failure")
                self.aside(batch)
        if fate != "aside":
            self.execute(batch, "success")
        self.commit(batch)

    def tick(self) -> float:
        self._now += self._chance.uniform(0.001, 0.1)
        return self._now

    def execute(self, batch: list[Produced], outcome: str | None) -> Executed:
        self._numbers += 1
        digest = hashlib.sha256(b"".join(bytes.fromhex(p.fingerprint) for p in batch))
        execution = Executed(
            execution=f"x{self._numbers}",
            invocation=f"i{self._numbers}",
            worker="w",
            topic=TOPIC,
            partition=batch[0].partition,
            stretches=tuple((p.offset, p.offset) for p in batch),
            digest=digest.hexdigest(),
            start=self.tick(),
            end=None if outcome is None else self.tick(),
            outcome=outcome,
            owner="1/1",
        )
        self.executed.append(execution)
        return execution

    def crash(self, kind: str, since: float) -> None:
        self.harmed.append(Harmed(kind, "1", since, self.tick()))

    def aside(self, batch: list[Produced]) -> None:
        first, last = batch[0], batch[-1]
        self.set_aside.append(
            SetAside(
                at=self.tick(),
                id=f"{first.partition} {first.offset} {last.offset}",
                topic=TOPIC,
                partition=first.partition,
                first=first.offset,
                last=last.offset,
                size=len(batch),
                condition="RetryAttemptsExhausted",
                fingerprints=tuple((p.offset, p.fingerprint) for p in batch),
                invokes=1,
            )
        )

    def commit(self, batch: list[Produced]) -> None:
        last = batch[-1]
        for _ in range(2):  # the sampler sees most commits more than once
            at = self.tick()
            self.committed.append(Committed(at, GROUP, TOPIC, last.partition, last.offset + 1))


FATES = ("plain", "plain", "again", "cut", "replayed", "aside")

HISTORIES = st.integers(0, 1 << 32).map(History)


NOTHING_WANTED = Wanted()
ONE_ATTEMPT = Wanted(attempts_max=1)
LINEAGE = {(TOPIC, 1): ((TOPIC, 0),), (TOPIC, 2): ((TOPIC, 1),)}
"""Partitions are made up one after the other: each can be a child of the one before."""


def broken(history: History, wanted: Wanted = NOTHING_WANTED) -> frozenset[str]:
    return check(history.ledgers(), wanted).broken


@given(HISTORIES)
def test_a_sound_run_is_accepted(history):
    wanted = Wanted(
        records=PARTITIONS * BATCHES,
        faults={"worker-kill": PARTITIONS, "daemon-kill": PARTITIONS},
        cut=PARTITIONS,
        attempts_max=1,
        replay_max={"daemon-kill": BATCH_MAX, "worker-kill": 0},
        parents=LINEAGE,
    )
    report = check(history.ledgers(), wanted)
    assert not report.violations
    assert report.counts["records produced"] == len(history.produced)
    assert report.counts["executions"] == len(history.executed)


# -- mutants: each takes a sound run and a chance, and spoils one thing


def drop_a_record_of_p(history, chance):
    """Executed, never produced."""
    history.produced.remove(chance.choice(history.produced))


def drop_a_success(history, chance):
    history.executed.remove(plain_success(history, chance))


def end_a_success_never(history, chance):
    """Begun, committed, and its end never seen."""
    chosen = plain_success(history, chance)
    change(history.executed, chosen, end=None, outcome=None)


def drop_a_document(history, chance):
    history.set_aside.remove(chance.choice(history.set_aside))


def execute_what_was_never_produced(history, chance):
    chosen = chance.choice(history.executed)
    beyond = max(p.offset for p in history.produced) + 10
    change(history.executed, chosen, stretches=(*chosen.stretches, (beyond, beyond)))


def execute_other_bytes(history, chance):
    chosen = chance.choice(history.executed)
    change(history.executed, chosen, digest=hashlib.sha256(b"other").hexdigest())


def swap_two_records_within_a_batch(history, chance):
    chosen = chance.choice([e for e in history.executed if len(e.stretches) > 1])
    change(history.executed, chosen, stretches=chosen.stretches[::-1])


def swap_the_bytes_of_two_records(history, chance):
    one, two = chance.sample(history.produced, 2)
    change(history.produced, one, fingerprint=two.fingerprint)


def execute_in_another_partition(history, chance):
    chosen = chance.choice(history.executed)
    change(history.executed, chosen, partition=PARTITIONS + 1)


def set_other_bytes_aside(history, chance):
    chosen = chance.choice(history.set_aside)
    (offset, _), *rest = chosen.fingerprints
    change(history.set_aside, chosen, fingerprints=((offset, "00" * 32), *rest))


def commit_too_early(history, chance):
    """The checkpoint of a batch while that batch was still at work."""
    chosen = plain_success(history, chance)
    early = next(
        c for c in history.committed if c.place == chosen.place and c.at > chosen.end
    )  # the first sample after it
    change(history.committed, early, at=(chosen.start + chosen.end) / 2)


def commit_one_record_too_far(history, chance):
    """The first record of the next batch, before that has begun."""
    partition = chance.randrange(PARTITIONS)
    mine = [c for c in history.committed if c.partition == partition]
    chosen = chance.choice(mine[1:-2:2])  # the second sample of its commit, and not the last
    offsets = [p.offset for p in history.produced if p.partition == partition]
    following = min(offset for offset in offsets if offset >= chosen.offset)
    change(history.committed, chosen, offset=following + 1)


def commit_before_the_document_is_there(history, chance):
    chosen = chance.choice(history.set_aside)
    commit = next(c for c in history.committed if c.place == chosen.place and c.at > chosen.at)
    change(history.set_aside, chosen, at=commit.at + 0.0005)


def go_back(history, chance):
    """A commit of before is seen again."""
    later = [
        c
        for c in history.committed
        if any(b.partition == c.partition and b.offset < c.offset for b in history.committed)
    ]
    chosen = chance.choice(later)
    before = next(c for c in history.committed if c.partition == chosen.partition)
    history.committed.append(replace(chosen, at=chosen.at + 0.0001, offset=before.offset))


def run_again_twice_by_one_crash(history, chance):
    replayed = next(e for e in history.executed if is_replayed(history, e))
    crash = next(h for h in history.harmed if h.start > replayed.end)
    assert crash.end is not None
    step = (crash.end - crash.start) / 10
    history.executed.append(
        replace(replayed, execution="x", start=crash.end - 2 * step, end=crash.end - step)
    )


def run_again_without_a_crash(history, chance):
    """The second run is there, the crash is not."""
    replayed = next(e for e in history.executed if is_replayed(history, e))
    crash = next(h for h in history.harmed if h.start > replayed.end)
    history.harmed.remove(crash)


def run_again_after_a_clean_stop(history, chance):
    replayed = next(e for e in history.executed if is_replayed(history, e))
    crash = next(h for h in history.harmed if h.start > replayed.end)
    change(history.harmed, crash, kind="daemon-stop")


def duplicate_a_success(history, chance):
    chosen = plain_success(history, chance)
    width = (chosen.end - chosen.start) / 4
    change(history.executed, chosen, end=chosen.start + width)
    history.executed.append(
        replace(chosen, execution="x", start=chosen.start + 2 * width, end=chosen.start + 3 * width)
    )


def succeed_and_be_set_aside(history, chance):
    chosen = plain_success(history, chance)
    history.aside(of(history, chosen))
    change(history.set_aside, history.set_aside[-1], at=chosen.end + 0.0001)


def set_aside_twice(history, chance):
    chosen = chance.choice(history.set_aside)
    history.set_aside.append(replace(chosen, at=chosen.at + 0.0001))


def count_a_document_wrong(history, chance):
    chosen = chance.choice(history.set_aside)
    change(history.set_aside, chosen, size=chosen.size + 1)


def leave_a_record_out_of_a_document(history, chance):
    chosen = chance.choice(history.set_aside)
    change(history.set_aside, chosen, fingerprints=chosen.fingerprints[1:])


def fail_once_too_often(history, chance):
    chosen = chance.choice([e for e in history.executed if e.outcome == "failure"])
    width = (chosen.end - chosen.start) / 4
    change(history.executed, chosen, end=chosen.start + width)
    history.executed.append(replace(chosen, execution="x", start=chosen.start + 2 * width))


def give_up_too_late(history, chance):
    """A document that tells of more attempts than were to be."""
    chosen = chance.choice(history.set_aside)
    failed = next(e for e in history.executed if of(history, e)[:1] == at(history, chosen))
    history.executed.append(replace(failed, execution="x", start=failed.end, owner="another"))
    change(history.set_aside, chosen, invokes=2)


def tell_of_attempts_that_never_were(history, chance):
    chosen = chance.choice(history.set_aside)
    change(history.set_aside, chosen, invokes=9)


def say_that_it_was_too_large(history, chance):
    chosen = chance.choice(history.set_aside)
    change(history.set_aside, chosen, condition="MaximumPayloadSizeExceeded")


def set_a_large_one_aside_with_others(history, chance):
    several = [d for d in history.set_aside if d.size > 1]
    assume(several)
    chosen = chance.choice(several)
    for record in of_document(history, chosen):
        change(history.produced, record, large=True)
    change(history.set_aside, chosen, condition="MaximumPayloadSizeExceeded")


def swap_two_batches(history, chance):
    """Two successes of one partition change places in time."""
    one, two = two_plain_successes(history, chance)
    change(history.executed, one, start=two.start, end=two.end)
    change(history.executed, two, start=one.start, end=one.end)


def begin_before_the_lower_one_has_ended(history, chance):
    one, two = two_plain_successes(history, chance)
    change(history.executed, two, start=(one.start + one.end) / 2)


def commit_not_to_the_end(history, chance):
    last = max((c for c in history.committed if c.partition == 0), key=lambda c: c.at)
    history.committed = [c for c in history.committed if c.partition != 0 or c.offset < last.offset]


def produce_twice(history, chance):
    history.produced.append(chance.choice(history.produced))


def run_backwards(history, chance):
    chosen = chance.choice([e for e in history.executed if e.end is not None])
    change(history.executed, chosen, end=chosen.start - 0.0001)


def begin_a_child_before_an_ancestor_has_ended(history: History, chance: random.Random) -> None:
    lower, upper = sorted(chance.sample(range(PARTITIONS), 2))
    last = max(e.end for e in history.executed if e.partition == lower and e.succeeded)
    first = min((e for e in history.executed if e.partition == upper), key=lambda e: e.start)
    change(history.executed, first, start=last - 0.00001)


def run_a_parent_again_after_its_child_has_begun(history: History, chance: random.Random) -> None:
    chosen = chance.choice([e for e in history.executed if e.partition < PARTITIONS - 1])
    start = history.tick()
    history.executed.append(replace(chosen, execution="late", start=start, end=history.tick()))


MUTANTS: dict[Callable, set[str]] = {
    drop_a_record_of_p: {"I-02"},
    drop_a_success: {"I-01"},
    end_a_success_never: {"I-01"},
    drop_a_document: {"I-01"},
    execute_what_was_never_produced: {"I-02"},
    execute_other_bytes: {"I-02"},
    swap_two_records_within_a_batch: {"I-02"},
    swap_the_bytes_of_two_records: {"I-02"},
    execute_in_another_partition: {"I-02"},
    set_other_bytes_aside: {"I-02"},
    commit_too_early: {"I-03"},
    commit_one_record_too_far: {"I-03", "I-08"},
    go_back: {"I-04"},
    run_again_twice_by_one_crash: {"I-05"},
    run_again_without_a_crash: {"I-06"},
    run_again_after_a_clean_stop: {"I-06"},
    duplicate_a_success: {"I-06"},
    succeed_and_be_set_aside: {"I-07"},
    set_aside_twice: {"I-07"},
    commit_before_the_document_is_there: {"I-08"},
    count_a_document_wrong: {"I-09"},
    leave_a_record_out_of_a_document: {"I-09"},
    fail_once_too_often: {"I-12"},
    give_up_too_late: {"I-12"},
    tell_of_attempts_that_never_were: {"I-09"},
    say_that_it_was_too_large: {"I-13"},
    set_a_large_one_aside_with_others: {"I-13"},
    swap_two_batches: {"I-20"},
    begin_before_the_lower_one_has_ended: {"I-20"},
    begin_a_child_before_an_ancestor_has_ended: {"I-23"},
    run_a_parent_again_after_its_child_has_begun: {"I-23"},
    commit_not_to_the_end: {"I-30"},
    produce_twice: {"ledgers"},
    run_backwards: {"ledgers"},
}
"""What each mutant breaks: one of these at least must be named."""

ALONE = {
    execute_other_bytes, set_other_bytes_aside, commit_too_early, run_again_twice_by_one_crash,
    run_again_without_a_crash, run_again_after_a_clean_stop, duplicate_a_success, set_aside_twice,
    count_a_document_wrong, commit_not_to_the_end, give_up_too_late,
    commit_before_the_document_is_there, commit_one_record_too_far, succeed_and_be_set_aside,
}  # fmt: skip
"""Mutants that break nothing else: nothing else may be named."""


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
@given(seed=st.integers(0, 1 << 32))
def test_a_mutant_is_rejected_for_the_right_reason(mutant, seed):
    history = History(seed)
    mutant(history, random.Random(seed))
    lineage = LINEAGE if "I-23" in MUTANTS[mutant] else {}
    found = broken(history, replace(ONE_ATTEMPT, parents=lineage))
    assert found & MUTANTS[mutant], found
    if mutant in ALONE:
        assert found <= MUTANTS[mutant], found


@given(seed=st.integers(0, 1 << 32))
def test_what_is_out_of_order_in_a_lane_may_be_in_order_for_its_keys(seed):
    history = History(seed)
    swap_two_batches(history, random.Random(seed))
    assert "I-21" in broken(history, Wanted(order="key"))
    assert not broken(history, Wanted(order="none")) & {"I-20", "I-21"}
    history.produced = [p._replace(key=p.id) for p in history.produced]
    assert "I-21" not in broken(history, Wanted(order="key"))


@given(seed=st.integers(0, 1 << 32))
def test_where_batches_are_halved_none_is_given_up_whole_nor_what_cannot_fail(seed):
    history = History(seed)
    chance = random.Random(seed)
    chosen = chance.choice(history.set_aside)
    lost = frozenset(p.id for d in history.set_aside for p in of_document(history, d))
    alone = [d for d in history.set_aside if d.size == 1]
    wanted = Wanted(bisected=True, attempts_max=1, poison=lost)
    history.set_aside = [*alone, chosen]
    assert ("I-10" in broken(history, wanted)) is (chosen.size > 1)
    history.set_aside = alone
    assert ("I-10" in broken(history, replace(wanted, poison=frozenset()))) is bool(alone)


def test_a_bad_record_is_found_in_few_steps():
    history = History(0)
    batch = [p for p in history.produced if p.partition == 0][:4]
    history.set_aside = []
    history.executed = [history.execute(batch, "failure") for _ in range(7)]
    wanted = Wanted(bisected=True, attempts_max=1, poison=frozenset([batch[2].id]))
    assert "I-10" in broken(history, wanted)
    history.executed = history.executed[:6]  # the whole of it twice, and four halves
    assert "I-10" not in broken(history, wanted)


SAID = Scraped(5.0, "w", 9, 0, received=9, records=4, filtered=2, set_aside=1, expired=1,
               given_back=1, held=1)  # fmt: skip
"""What may be said by somebody who has one record in hand."""


@pytest.mark.parametrize(
    "wrong",
    [
        {"received": 10},  # more than it was handed
        {"records": 6},  # more has come to an end than began
        {"held": 2},
        {"held": -1},
        {"expired": 2},  # more than were set aside
        {"final": True},  # and one is in its hands
        {"final": True, "held": 0, "given_back": 2},  # four are said to be done: by nobody
    ],
)
def test_what_a_daemon_says_of_itself_must_add_up(wrong):
    ledgers = replace(Ledgers((), (), ()), scraped=(SAID,))
    assert not check(ledgers, Wanted(records=0)).broken
    ledgers = replace(ledgers, scraped=(replace(SAID, **wrong),))
    assert check(ledgers, Wanted(records=0)).broken == {"I-60"}


def test_every_invariant_has_a_mutant():
    apart = {"effect", "I-10", "I-21", "I-60"} | {invariant for _, invariant in OF_WINDOWS.values()}
    tested = set().union(*MUTANTS.values()) | apart
    assert tested == WHAT_MUST_HOLD.keys()


def test_a_run_that_went_through_too_little_proves_nothing():
    history = History(1)
    records = len(history.produced)
    assert broken(history, Wanted(records=records)) == set()
    assert broken(history, Wanted(records=records + 1)) == {"effect"}
    kills = sum(h.kind == "daemon-kill" for h in history.harmed)
    assert broken(history, Wanted(faults={"daemon-kill": kills})) == set()
    assert broken(history, Wanted(faults={"daemon-kill": kills + 1})) == {"effect"}
    cut = sum(e.end is None for e in history.executed)
    assert broken(history, Wanted(cut=cut)) == set()
    assert broken(history, Wanted(cut=cut + 1)) == {"effect"}


def test_a_fault_that_never_took_effect_does_not_count():
    history = History(1)
    wanted = Wanted(faults={"daemon-kill": PARTITIONS})
    assert broken(history, wanted) == set()
    history.harmed = [replace(h, end=None) for h in history.harmed]
    assert "effect" in broken(history, wanted)
    assert "I-06" in broken(history, wanted)


@given(seed=st.integers(0, 1 << 32), missing=st.integers(1, 2), kills=st.integers(0, 2))
def test_an_invocation_without_a_line_needs_a_kill_that_cut_off_nothing_else(seed, missing, kills):
    """A worker may be killed after the hand-over and before its handler has written a line."""
    history = History(seed)
    chosen = random.Random(seed).choice(history.set_aside)
    change(history.set_aside, chosen, invokes=1 + missing)
    for _ in range(kills):  # while nothing was in hand: every other fate has begun before
        history.harmed.append(Harmed("worker-kill", "w", 0.0001, 0.0002))
    found = broken(history, replace(ONE_ATTEMPT, attempts_max=1 + missing))
    assert ("I-09" in found) is (kills < missing)


def test_a_replay_over_its_bound_is_rejected():
    history = History(3)
    assert broken(history, Wanted(replay_max={"daemon-kill": BATCH_MAX})) == set()
    assert broken(history, Wanted(replay_max={"daemon-kill": 0})) == {"I-05"}


def test_a_filtered_record_is_not_lost_and_holds_nobody_up():
    history = History(4)
    chosen = plain_success(history, random.Random(4))
    unwanted = frozenset(p.id for p in of(history, chosen))
    history.executed.remove(chosen)
    assert "I-01" in broken(history)
    assert broken(history, Wanted(filtered=unwanted)) == set()


def test_records_that_need_not_run_may_be_lost_and_hold_nobody_up():
    history = History(4)
    end = max(p.offset for p in history.produced if p.partition == 2) - 5

    def is_left(row) -> bool:
        return row.partition < 2 or (getattr(row, "first", None) or row.stretches[0][0]) < end

    history.executed = [e for e in history.executed if is_left(e)]
    history.set_aside = [d for d in history.set_aside if is_left(d)]
    history.committed = [c for c in history.committed if c.partition < 2 or c.offset <= end]
    ran = {p.id for e in history.executed for p in of(history, e)}
    aside = {p.id for d in history.set_aside for p in of_document(history, d)}
    passed = frozenset(p.id for p in history.produced) - ran - aside
    assert passed
    assert broken(history) == {"I-01", "I-30"}
    assert broken(history, Wanted(passed=passed)) == set()


def test_a_reset_by_the_operator_may_go_back():
    history = History(5)
    go_back(history, random.Random(5))
    assert broken(history) == {"I-04"}
    back = history.committed[-1]
    history.harmed.append(Harmed("reset", "operator", back.at + 1, None))
    assert broken(history) == {"I-04"}, "a reset at another time is none"
    history.harmed.append(Harmed("reset", "operator", back.at - 0.00005, None))
    assert broken(history) == set()


def plain_success(history: History, chance: random.Random) -> Executed:
    """The only success of its batch."""
    return chance.choice([e for e in history.executed if e.succeeded and is_only(history, e)])


def two_plain_successes(history: History, chance: random.Random) -> tuple[Executed, Executed]:
    partition = chance.randrange(PARTITIONS)
    mine = [e for e in history.executed if e.partition == partition and e.succeeded]
    found = [e for e in mine if is_only(history, e)]
    one, two = sorted(chance.sample(found, 2), key=lambda e: e.start)
    return one, two


def is_only(history: History, execution: Executed) -> bool:
    twins = [e for e in history.executed if e.place == execution.place]
    return sum(e.stretches == execution.stretches for e in twins) == 1


def is_replayed(history: History, execution: Executed) -> bool:
    twins = [
        e for e in history.executed if e.place == execution.place and e.start > execution.start
    ]
    return execution.succeeded and any(e.stretches == execution.stretches for e in twins)


def of(history: History, execution: Executed) -> list[Produced]:
    offsets = {first for first, _ in execution.stretches}
    mine = [p for p in history.produced if p.partition == execution.partition]
    return [p for p in mine if p.offset in offsets]


def of_document(history: History, document: SetAside) -> list[Produced]:
    mine = [p for p in history.produced if p.partition == document.partition]
    return [p for p in mine if document.first <= p.offset <= document.last]


def at(history: History, document: SetAside) -> list[Produced]:
    return of_document(history, document)[:1]


def change(rows: list, row, **changes) -> None:
    changed = row._replace(**changes) if isinstance(row, Produced) else replace(row, **changes)
    rows[rows.index(row)] = changed
