"""Histories that found a fault of ours, made small and kept. `--seed N --shrink` makes such a one."""

from __future__ import annotations

import pytest

from proof.simulation.history import live
from proof.simulation.plan import Fault, Plan, Trouble

KEPT = {
    "an answer that comes while the lane closes is told before it is let go": Plan(
        seed=25, daemons=2, lanes=1, records=6, spread=0.0, keys=1, batch=1, batch_bytes=6000,
        retries=1, backoff_max=2.0, answers=True, commit=0.0,
    ),
    "damage where no record lies does not stop the lane": Plan(
        seed=194, records=22, spread=0.0, keys=1, gaps=0.6, batch=3, batch_bytes=6000, retries=3,
        backoff_max=2.0, unwanted=0.3, commit=0.0, trouble=Trouble(damage=0.1),
    ),
    "damage where no record lies takes back nothing from other strands": Plan(
        seed=1412, records=42, spread=0.0, keys=10, gaps=0.2, batch=3, batch_bytes=6000,
        window=5.0, retries=1, backoff_max=2.0, strands=2, keyless=0.3, commit=0.0,
        trouble=Trouble(slow=0.3, damage=0.03),
        faults=(Fault(at=23.16, kind="stop", seconds=4.0, count=4),),
    ),
    "what nobody wants is no step forward of a partial answer": Plan(
        seed=169, lanes=4, records=81, spread=5.0, keys=1, poison=0.02, batch_bytes=6000,
        backoff_max=2.0, partial=True, lowest=True, unwanted=0.9, commit=0.0,
        trouble=Trouble(init=0.1, garble=0.1),
    ),
    "a disk that is full when a letter is ticked off does not end the daemon": Plan(
        lanes=1, records=2, spread=5.0, keys=1, poison=0.3, batch=3, batch_bytes=6000, retries=0,
        backoff_max=2.0, commit=2.0, faults=(Fault(at=2.0, kind="store-full", seconds=1.0),),
    ),
    "a letter of an earlier life is sent by one strand": Plan(
        seed=2113, lanes=1, records=98, spread=0.0, keys=3, poison=0.02, batch=25,
        batch_bytes=2000, retries=3, backoff_max=2.0, strands=4, grace=1.0,
        faults=(
            Fault(at=15.95, kind="destination-slow", seconds=25.0, count=22),
            Fault(at=17.67, kind="guest", seconds=25.0, count=6),
        ),
    ),
    "what retention took is told by the clock that dates the records": Plan(
        kind="shards", lanes=1, records=7, spread=90.0, keys=1, batch=25, batch_bytes=60000,
        retries=1, backoff_max=2.0, retention=3660.0,
        faults=(
            Fault(at=22.13, kind="down", seconds=3666.0), Fault(at=85.0, kind="wall", count=5),
        ),
    ),
    "what retention took of a shard that nothing was read of is told": Plan(
        seed=17, kind="shards", lanes=3, records=10, spread=90.0, batch=3, batch_bytes=60000,
        retries=1, backoff_max=2.0, retention=3660.0,
        faults=(Fault(at=36.0, kind="down", seconds=3680.0),),
    ),
    "what was done of an aggregate that retention took is not passed over in another": Plan(
        seed=3, kind="shards", lanes=1, records=60, spread=90.0, keys=1, batch=1,
        batch_bytes=60000, retries=1, backoff_max=2.0, aggregated=True, retention=3660.0,
        faults=(Fault(at=40.0, kind="down", seconds=3676.0),),
    ),
    "what came behind a failed message of its group goes back with it": Plan(
        seed=204, kind="messages", lanes=1, records=28, spread=0.0, keys=1, poison=0.02,
        batch_bytes=3000, retries=None, backoff_max=2.0, commit=0.0, fifo=True,
    ),
    "what came behind a failed part of a batch that was too large goes back with it": Plan(
        seed=101, kind="messages", lanes=1, records=27, spread=0.0, keys=1, poison=0.02,
        large=0.05, batch_bytes=60000, retries=None, backoff_max=2.0, commit=0.0, fifo=True,
        redrive=4,
    ),
    "a child has no row before all of its parents have one": Plan(
        seed=36, kind="shards", daemons=2, records=1, spread=0.0, keys=20, batch=1,
        batch_bytes=6000, retries=0, backoff_max=2.0, commit=0.0, wire=0.3, late=20.0,
        faults=(Fault(at=19.3, kind="merge", count=10),),
    ),
    "a shard that is newer than our list of them is not forgotten": Plan(
        seed=146, kind="shards", daemons=2, lanes=1, records=26, spread=90.0, keys=1, batch=1,
        batch_bytes=6000, retries=0, backoff_max=2.0, commit=0.0, late=20.0,
        trouble=Trouble(init=0.3),
        faults=(
            Fault(at=21.44, kind="kill-on", where=1, seconds=12.0, count=15),
            Fault(at=52.6, kind="split", count=24),
            Fault(at=54.47, kind="merge", where=1, seconds=4.0, count=22),
        ),
    ),
    "a lease is handed on once what was set aside under it stands in the table": Plan(
        seed=537, kind="shards", daemons=2, records=59, spread=40.0, batch_bytes=3000, retries=0,
        backoff_max=2.0, wire=0.3, trouble=Trouble(hang=0.3),
        faults=(Fault(at=7.17, kind="reload", where=1, seconds=0.5, count=34),),
    ),
    "all shards that are there begin from now on though the making of their rows was cut": Plan(
        seed=1225, kind="shards", daemons=2, records=1, spread=90.0, keys=1, batch=3,
        batch_bytes=6000, retries=None, backoff_max=2.0, commit=0.0, wire=0.3, start="latest",
    ),
    "the end of a shard is told until somebody has heard it": Plan(
        seed=593, kind="shards", daemons=2, lanes=1, records=96, spread=5.0, keys=1,
        batch_bytes=6000, retries=1, backoff_max=2.0, commit=2.0, wire=0.3, aggregated=True,
        faults=(Fault(at=2.73, kind="split", count=12),),
    ),
    "what retention took of a shard before anything at all was read is told": Plan(
        seed=705, kind="shards", lanes=3, records=1, spread=0.0, keys=1, batch=1,
        batch_bytes=6000, retries=0, backoff_max=2.0, commit=0.0, wire=0.3, retention=3660.0,
        faults=(Fault(at=1.12, kind="down", seconds=3691.13),),
    ),
    "what retention took of shards that followed one that has ended is told": Plan(
        seed=677, kind="shards", lanes=3, records=60, spread=90.0, poison=0.1, batch=1,
        batch_bytes=6000, retries=0, backoff_max=2.0, age=5.0, keyless=0.3, commit=0.0, wire=0.3,
        poll=0.5, aggregated=True, mute=True, retention=3660.0,
        faults=(
            Fault(at=16.17, kind="split", count=7), Fault(at=41.66, kind="down", seconds=3670.25),
        ),
    ),
    "what retention took while all who share a stream were down is told": Plan(
        seed=123, kind="shards", daemons=2, lanes=1, records=2, spread=90.0, keys=1,
        batch_bytes=6000, retries=1, backoff_max=2.0, commit=0.0, retention=3660.0,
        faults=(
            Fault(at=23.0, kind="down", seconds=3690.0),
            Fault(at=23.5, kind="down", where=1, seconds=3680.0),
        ),
    ),
    "of whom a lease is taken unasked both run what it had in hand": Plan(
        seed=363, kind="shards", daemons=2, records=96, spread=40.0, keys=1, poison=0.1,
        batch_bytes=6000, retries=0, backoff_max=2.0, bisect=True, partial=True, lowest=True,
        keyless=0.3, commit=8.0, wire=0.05,
    ),
    "of whom a lease is taken unasked goes on until it hears so": Plan(
        seed=404, kind="shards", daemons=2, records=28, spread=90.0, keys=20, batch=3,
        batch_bytes=6000, retries=3, backoff_max=2.0, partial=True, lowest=True, answers=True,
        commit=2.0, aggregated=True, trouble=Trouble(items=0.3),
        faults=(Fault(at=46.68, kind="stop", where=1, seconds=12.0, count=3),),
    ),
    "the last invocation in a window is the same when it is made again after a crash": Plan(
        seed=17, lanes=1, records=30, spread=90.0, keys=1, batch=3, batch_bytes=6000, retries=1,
        backoff_max=2.0, commit=0.0, tumbling=(10.0,), tardy=0.5,
        faults=(Fault(at=60.15, kind="kill-on", count=5),),
    ),
    "a letter about what ran again for the state of its window is sent once": Plan(
        seed=40, kind="shards", lanes=1, records=82, spread=0.0, keys=1, batch=25,
        batch_bytes=6000, retries=0, backoff_max=2.0, answers=True, commit=0.0, tumbling=(10.0,),
        faults=(Fault(at=2.86, kind="kill-on", count=25),),
    ),
    "no window begins before one that has ended, in another life neither": Plan(
        seed=67, kind="shards", lanes=1, records=92, spread=90.0, keys=1, batch=1,
        batch_bytes=6000, retries=None, backoff_max=2.0, unwanted=0.9, commit=0.0,
        tumbling=(10.0, 3.0),
        faults=(Fault(at=16.41, kind="reload"), Fault(at=18.3, kind="wall", count=4)),
    ),
    "what is damaged in a window does not end the daemon": Plan(
        seed=234, lanes=1, records=1, spread=0.0, keys=1, batch=1, batch_bytes=6000, retries=3,
        backoff_max=2.0, commit=0.0, tumbling=(10.0,), trouble=Trouble(damage=0.3),
    ),
    "a window of a shard that retention took has its last invocation": Plan(
        seed=333, kind="shards", lanes=1, records=12, spread=0.0, keys=1, batch=1,
        batch_bytes=6000, backoff_max=2.0, commit=0.0, retention=3660.0, tumbling=(10.0,),
        trouble=Trouble(hang=0.3),
        faults=(
            Fault(at=34.31, kind="split", count=28), Fault(at=59.3, kind="down", seconds=3686.72),
        ),
    ),
    "what only the letter about a window knows runs again once there are no windows": Plan(
        seed=608, kind="shards", lanes=3, records=2, spread=40.0, keys=1, batch_bytes=6000,
        retries=1, backoff_max=2.0, answers=True, commit=0.0, tumbling=(0.0, 10.0),
        faults=(
            Fault(at=11.1, kind="reload", where=1),
            Fault(at=33.9, kind="destination-refuses", seconds=12.0, count=10),
            Fault(at=42.48, kind="reload", where=1),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("plan", KEPT.values(), ids=[name.replace(" ", "-") for name in KEPT])
def test_a_history_that_once_failed(plan):
    history = live(plan)
    assert not history.broken, "\n".join(history.complaints)


def test_a_stream_that_was_quiet_is_not_said_to_have_lost_anything():
    """Longer than retention, as far as the last record tells; and it was seen to be quiet."""
    plan = Plan(
        kind="shards", lanes=2, records=20, spread=5.0, retention=5000.0,
        faults=(Fault(at=1700.0, kind="down", seconds=5.0), Fault(at=1720.0, kind="expire")),
    )  # fmt: skip
    history = live(plan)
    assert not history.broken, "\n".join(history.complaints)
    story = str(history.story)
    assert story.count("LaneOpened") == 4
    assert "may have been lost" not in story
