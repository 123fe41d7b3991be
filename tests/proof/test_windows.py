"""The judge of tumbling windows: a sound history passes, and each thing that goes wrong is seen."""

from dataclasses import replace

import pytest

from proof import windows
from proof.crashes import Crashes
from proof.judgement import Wanted
from proof.lanes import lanes_of
from proof.ledgers import Executed, Forgone, Harmed, Ledgers, Pane, Parting, Produced

AT = (0.0, 1.0, 10.0, 11.0)
WANTED = Wanted(windows=frozenset({10_000}))


def ran(number, stretches, pane, start, **more):
    """An execution, a second long; the wall clock shows what the other does."""
    given = {"outcome": "success", "owner": "daemon-0.1/1", "wall": start, "end": start + 0.5}
    where = (f"x{number}", "i", "daemon-0.1", "orders", 0, stretches, "")
    return Executed(*where, start=start, pane=pane, **given | more)


def pane(start, seen, after="", *, final=False, size=2, early=False):
    return Pane(start, start + 10_000, seen, after, size, final, early)


FIRST = ran(1, ((0, 1),), pane(0, ()), 2.0)
FIRST_ENDS = ran(2, (), pane(0, (0, 1), "x1", final=True), 12.0)
SECOND = ran(3, ((2, 2),), pane(10_000, ()), 13.0)
THIRD = ran(4, ((3, 3),), pane(10_000, (2,), "x3"), 14.0)
SECOND_ENDS = ran(5, (), pane(10_000, (2, 3), "x4", final=True), 23.0)
SOUND = Ledgers(
    produced=tuple(Produced(f"r{n}", "orders", 0, n, "00", at=at) for n, at in enumerate(AT)),
    executed=(FIRST, SECOND, THIRD),
    committed=(),
    finals=(FIRST_ENDS, SECOND_ENDS),
)
LOST = Forgone(14.7, "daemon-0.1", "orders", 0, 10_000, "somebody has read on")
KILLED = Harmed("daemon-kill", "daemon-0.1", 23.2, 23.2)


def broken(ledgers, wanted=WANTED):
    lanes = lanes_of(ledgers, wanted)
    return {
        violation.invariant
        for violation in windows.judged(ledgers, lanes, Crashes(ledgers.harmed), wanted)
    }


def with_last(last):
    return replace(SOUND, finals=(FIRST_ENDS, last))


def with_third(**values):
    return replace(SOUND, executed=(FIRST, SECOND, replace(THIRD, **values)))


AGAIN = replace(SECOND_ENDS, execution="x6", start=24.0, end=24.5, wall=24.0)
MUTANTS = {
    "a window never ends": (replace(SOUND, finals=(FIRST_ENDS,)), "I-40"),
    "its last invocation never succeeds": (
        with_last(replace(SECOND_ENDS, outcome="failure")),
        "I-40",
    ),
    "a state is said to be lost that nothing took": (replace(SOUND, forgone=(LOST,)), "I-40"),
    "a record is in two last states": (
        replace(
            SOUND,
            finals=(*SOUND.finals, replace(AGAIN, pane=replace(AGAIN.pane, seen=(1, 2, 3)))),
            harmed=(KILLED,),
        ),
        "I-40",
    ),
    "the state of before is handed on": (with_third(pane=pane(10_000, ())), "I-41"),
    "a state of nobody is handed on": (with_third(pane=pane(10_000, (1,), "x9")), "I-41"),
    "what is in the state is given again": (with_third(stretches=((2, 3),)), "I-41"),
    "a state of another window is handed on": (with_third(pane=pane(10_000, (0, 1), "x1")), "I-41"),
    "a record is in the window before": (
        replace(SOUND, executed=(replace(FIRST, stretches=((0, 2),), wall=11.0), SECOND, THIRD)),
        "I-42",
    ),
    "a record is in the window after": (
        replace(SOUND, executed=(replace(FIRST, pane=pane(10_000, ())), SECOND, THIRD)),
        "I-42",
    ),
    "a window begins before the other is over": (
        replace(SOUND, executed=(FIRST, replace(SECOND, pane=pane(5_000, ())), THIRD)),
        "I-42",
    ),
    "a window is longer than was asked": (
        with_third(pane=Pane(10_000, 25_000, (2,), "x3", 2, final=False, early=False)),
        "I-42",
    ),
    "a window ends before its time": (with_last(replace(SECOND_ENDS, wall=15.0)), "I-43"),
    "a window ends twice": (replace(SOUND, finals=(*SOUND.finals, AGAIN)), "I-43"),
    "it is not said that it is the last": (
        with_last(replace(SECOND_ENDS, pane=replace(SECOND_ENDS.pane, final=False))),
        "I-43",
    ),
    "it is said of a small state that it is too large": (
        with_last(replace(SECOND_ENDS, pane=replace(SECOND_ENDS.pane, early=True))),
        "I-43",
    ),
    "a state is too large, and goes on": (
        with_third(pane=pane(10_000, (2,), "x3", size=windows.STATE_BYTES_MAX + 1)),
        "I-43",
    ),
}


def test_a_sound_history_passes():
    assert broken(SOUND) == set()


@pytest.mark.parametrize(("ledgers", "invariant"), MUTANTS.values(), ids=MUTANTS)
def test_what_goes_wrong_is_seen(ledgers, invariant):
    assert invariant in broken(ledgers)


def test_what_is_told_is_accounted_for():
    lost = replace(SOUND, finals=(FIRST_ENDS,), forgone=(LOST,))
    assert broken(lost, replace(WANTED, shared=True)) == set()
    given_up = Parting(24.0, "orders", 0, (10_000, 20_000), (2, 3), "RetryAttemptsExhausted")
    failed = with_last(replace(SECOND_ENDS, outcome="failure"))
    assert broken(replace(failed, partings=(given_up,))) == set()


def test_after_a_crash_the_end_of_a_window_may_come_again():
    assert broken(replace(SOUND, finals=(*SOUND.finals, AGAIN), harmed=(KILLED,))) == set()
