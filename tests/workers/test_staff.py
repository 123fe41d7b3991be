"""A pool with real workers whose functions change while it runs."""

import contextlib
import os
import random
import signal
from dataclasses import replace
from functools import partial

import anyio
import anyio.lowlevel
import orjson
import pytest

from pool_scene import function, pool
from streamfaas.flow.admission import Share
from streamfaas.flow.errors import CannotIsolate, ConfigError
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.functions import Isolation, Mount

pytestmark = pytest.mark.slow

VERSIONED = """
import os, time
from pathlib import Path

VERSION = {version}

def main(event, context):
    if event["do"] == "sleep":
        time.sleep(event["seconds"])
    return [VERSION, os.getpid()]
"""


def versioned(folder, version, name="f", **options):
    return function(folder, name, source=VERSIONED.format(version=version), **options)


def write(folder, version, name="f"):
    (folder / name / "app.py").write_text(VERSIONED.format(version=version))


def version(outcome):
    assert isinstance(outcome, Success), outcome
    return orjson.loads(outcome.answer)[0]


async def prepare(scene, *functions, concurrency=100):
    return await scene.pool.prepare(functions, concurrency=concurrency, memory_bytes=8 << 30)


async def change(scene, *functions, concurrency=100):
    """Prepares and commits."""
    prepared = await prepare(scene, *functions, concurrency=concurrency)
    scene.pool.commit(prepared)
    return prepared


async def until(scene, **counts):
    """The function's workers and calls are so many."""
    with anyio.fail_after(10):
        while not counts.items() <= scene.pool.view()["f"]["workers"].items():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)


def launchers(scene):
    return len(scene.pool._ground.leaving) + sum(
        team.launcher is not None for team in scene.pool._teams.values()
    )


async def alone(scene, name="f", workers=1):
    """Until the function has no other workers than those."""
    with anyio.fail_after(10):
        while sum(scene.pool.view()[name]["workers"].values()) > workers or launchers(scene) > len(  # noqa: ASYNC110 - nobody tells
            scene.pool.view()
        ):
            await anyio.sleep(0.01)


def test_calls_in_hand_end_by_the_old_definition_and_all_others_by_the_new(tmp_path):
    async def body(s):
        assert version(await s.call("echo")) == 1
        async with anyio.create_task_group() as tasks:
            old, waiting = [], []

            async def call(into, do, **more):
                into.append(version(await s.call(do, **more)))

            write(tmp_path, 2)
            prepared = await prepare(s, replace(one, timeout_seconds=5.0))
            tasks.start_soon(partial(call, old, "sleep", seconds=3.0))
            tasks.start_soon(call, waiting, "echo")
            await until(s, busy=1, waiting=1)
            s.pool.commit(prepared)
            await until(s, busy=1, waiting=1)
            assert not old
        assert (old, waiting) == ([1], [2])
        assert version(await s.call("echo")) == 2
        assert s.pool.view()["f"]["invocations"] == 4
        await alone(s, workers=2)

    one = versioned(tmp_path, 1, share=Share(maximum=1))
    pool(tmp_path, body, one)


def test_the_first_workers_are_there_before_they_are_wanted(tmp_path):
    async def body(s):
        outcome = await s.call("echo")
        assert outcome.report.init_seconds is not None
        prepared = await prepare(
            s, replace(one, env={"A": "1"}), versioned(tmp_path, 7, "g", share=Share(warm=1))
        )
        assert "g" not in s.pool.view()
        s.pool.commit(prepared)
        assert version(await s.call("echo")) == 1
        assert version(await s.call("echo", "g")) == 7
        assert s.pool.view()["f"]["invocations"] == 2

    one = versioned(tmp_path, 1)
    pool(tmp_path, body, one)


def test_code_that_changed_in_place_is_taken_by_new_workers_and_idle_ones_leave(tmp_path):
    async def body(s):
        assert version(await s.call("echo")) == 1
        write(tmp_path, 2)
        (tmp_path / "f" / "extra.py").write_text("")
        await s.pool.renew("f")
        assert version(await s.call("echo")) == 2
        code = tmp_path / "f"
        code.rename(tmp_path / "before")  # as a deployment does that swaps whole directories
        versioned(tmp_path, 3)
        await s.pool.renew("f")
        assert version(await s.call("echo")) == 3
        await alone(s, workers=2)
        ended = {x.reason for x in s.signals if type(x).__name__ == "WorkerEnded"}
        assert ended == {"replaced"}
        isolated = [x for x in s.signals if type(x).__name__ == "FunctionIsolated"]
        assert len(isolated) == 1, "nothing new is told"

    pool(tmp_path, body, versioned(tmp_path, 1))


def test_who_waits_for_a_function_that_is_removed_is_told_and_who_runs_goes_on(tmp_path):
    async def body(s):
        await s.call("echo")
        outcomes = []

        async def call(do, **more):
            outcomes.append(await s.call(do, **more))

        async with anyio.create_task_group() as tasks:
            prepared = await prepare(s, versioned(tmp_path, 1, "g"))
            tasks.start_soon(partial(call, "sleep", seconds=2.0))
            tasks.start_soon(call, "echo")
            await until(s, busy=1, waiting=1)
            steps = s.pool.motion().steps
            s.pool.commit(prepared)
            assert s.pool.motion().steps > steps
            assert (await s.call("echo")).fault is Fault.ABORTED
            assert list(s.pool.view()) == ["g"]
        assert [type(each) for each in outcomes] == [Failure, Success]
        assert "no longer configured" in outcomes[0].message
        await alone(s, "g")

    pool(tmp_path, body, versioned(tmp_path, 1, share=Share(maximum=1)))


def test_what_cannot_be_prepared_leaves_all_as_it_was(tmp_path):
    async def body(s):
        first = orjson.loads((await s.call("echo")).answer)
        good = versioned(tmp_path, 1, "g", share=Share(warm=1))
        for wrong, error in (
            (replace(one, code=tmp_path / "nowhere"), ConfigError),
            (replace(one, mounts=(bad_mount,), isolation=strict), CannotIsolate),
        ):
            with pytest.raises(error):
                await prepare(s, wrong, good)
            assert orjson.loads((await s.call("echo")).answer) == first
            assert list(s.pool.view()) == ["f"]
            assert s.pool.view()["f"]["last_error"] == "", "it is no fault of what runs"
        await alone(s, workers=2)

    strict, bad_mount = Isolation(enforce=True), Mount(tmp_path / "missing", "/mnt/missing")
    one = versioned(tmp_path, 1)
    pool(tmp_path, body, one)


def test_a_handler_that_does_not_load_does_not_hold_a_change_up_and_is_told_of(tmp_path):
    async def body(s):
        await s.call("echo")
        (tmp_path / "f" / "app.py").write_text("import nowhere_to_be_found\n")
        prepared = await change(s, replace(one, env={"A": "1"}))
        assert "nowhere_to_be_found" in prepared.troubles["f"]
        assert (await s.call("echo")).fault is Fault.INIT
        write(tmp_path, 2)
        await s.pool.renew("f")
        assert version(await s.call("echo")) == 2

    one = versioned(tmp_path, 1)
    pool(tmp_path, body, one)


def test_a_change_that_is_abandoned_or_cancelled_leaves_nothing(tmp_path):
    async def body(s):
        first = orjson.loads((await s.call("echo")).answer)
        before = set(s.below())
        other = [replace(one, env={"A": "1"}), versioned(tmp_path, 1, "g", share=Share(warm=2))]
        for seconds in (0, 0.01, 0.05, 0.1, 0.2, 5):
            prepared = None
            with anyio.move_on_after(seconds):
                prepared = await prepare(s, *other)
            if prepared is not None:
                await s.pool.abandon(prepared)
                await s.pool.abandon(prepared)
        await alone(s, workers=2)
        with anyio.fail_after(5):
            while set(s.below()) - before:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
        assert orjson.loads((await s.call("echo")).answer) == first

    one = versioned(tmp_path, 1)
    pool(tmp_path, body, one)


def test_a_pool_that_is_closed_in_the_middle_of_a_change_leaves_nothing(tmp_path):
    async def body(s):
        await s.call("echo")
        other = [replace(one, env={"A": "1"}), versioned(tmp_path, 1, "g", share=Share(warm=2))]

        async def change_all():
            with contextlib.suppress(CannotIsolate):
                prepared = await prepare(s, *other)
                s.pool.commit(prepared)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change_all)
            tasks.start_soon(partial(s.call, "sleep", seconds=0.2))
            await anyio.sleep(0.05)
            await s.pool.close(1.0)

    one = versioned(tmp_path, 1)
    pool(tmp_path, body, one)


def test_another_share_keeps_the_workers(tmp_path):
    async def body(s):
        first = orjson.loads((await s.call("echo")).answer)
        prepared = await change(s, replace(one, share=Share(maximum=3)))
        assert not prepared.teams
        assert orjson.loads((await s.call("echo")).answer) == first

    one = versioned(tmp_path, 1, share=Share(maximum=1))
    pool(tmp_path, body, one)


def test_an_old_worker_is_killed_when_its_time_is_over_and_its_launcher_leaves(tmp_path):
    async def body(s):
        await s.call("echo")
        async with anyio.create_task_group() as tasks:
            outcomes = []

            async def call():
                outcomes.append(await s.call("sleep", seconds=60))

            prepared = await prepare(s, replace(one, timeout_seconds=60.0))
            tasks.start_soon(call)
            await until(s, busy=1)
            s.pool.commit(prepared)
        assert outcomes[0].fault is Fault.TIMEOUT
        assert "after 1.00 seconds" in outcomes[0].message
        await alone(s, workers=2)

    one = versioned(tmp_path, 1, timeout_seconds=1.0)
    pool(tmp_path, body, one)


COUNTED = """
import os, time

def main(event, context):
    with open("/mnt/shared/begun", "ab", buffering=0) as file:
        file.write(f"{event['id']}\\n".encode())
    time.sleep(event["seconds"])
    return event["id"]
"""


class Storm:
    """Calls, changes and kills at the same time, by one seed."""

    def __init__(self, scene, folder, seed):
        self.scene, self.folder, self.random = scene, folder, random.Random(seed)
        self.outcomes, self.asked, self.over = {}, 0, False

    def functions(self):
        """Sometimes without g; the shares of all that may be are the same, so that they hold."""
        names = self.random.choice((("f",), ("f", "g"), ("f", "g"), ("f", "g", "h")))
        return [counted(self.folder, name, self.random.choice("ABC")) for name in names]

    async def caller(self):
        while not self.over:
            self.asked += 1
            name, number = self.random.choice("ffgh"), str(self.asked)
            body = orjson.dumps({"id": number, "seconds": self.random.choice((0, 0.002, 0.05))})
            event = Event(Encoding.JSON, (body,))
            assert number not in self.outcomes
            self.outcomes[number] = await self.scene.pool.call(Invocation(number, name, event))
            self.check()
            await anyio.sleep(0 if self.random.random() < 0.7 else 0.01)

    async def changes(self, count):
        pool = self.scene.pool
        for _ in range(count):
            await anyio.sleep(self.random.random() * 0.1)
            match self.random.randrange(5):
                case 0:
                    with contextlib.suppress(CannotIsolate):  # its launcher was killed
                        await pool.renew("f")
                case 1:
                    with anyio.move_on_after(self.random.random() * 0.3):
                        await self.change(commit=False)
                case _:
                    await self.change(commit=self.random.random() < 0.8)
            self.check()
        self.over = True

    async def change(self, *, commit):
        with contextlib.suppress(CannotIsolate):
            prepared = await self.scene.pool.prepare(
                self.functions(), concurrency=4, memory_bytes=2 << 30
            )
            if commit:
                self.scene.pool.commit(prepared)
            else:
                await self.scene.pool.abandon(prepared)

    async def kills(self):
        while not self.over:
            await anyio.sleep(self.random.random() * 0.6)
            below = self.scene.below()
            with contextlib.suppress(ProcessLookupError):
                if below:
                    os.kill(self.random.choice(below), signal.SIGKILL)

    def check(self):
        workers = self.scene.pool._workers.values()
        busy = [worker.function.name for worker in workers if worker.call is not None]
        assert busy.count("f") <= 3
        assert busy.count("g") <= 2
        assert len(busy) <= 4


def counted(folder, name="f", env="A"):
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    return function(
        folder,
        name,
        source=COUNTED,
        env={"ENV": env},
        mounts=(Mount(shared, "/mnt/shared", writable=True),),
        share={"f": Share(3, reserved=1, warm=1), "g": Share(2), "h": Share()}[name],
    )


@pytest.mark.parametrize("seed", [1])
def test_under_a_storm_of_changes_and_kills_no_call_is_lost_or_runs_twice(tmp_path, seed):
    async def body(s):
        storm = Storm(s, tmp_path, seed)
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(storm.caller)
            tasks.start_soon(storm.kills)
            tasks.start_soon(storm.changes, 12)
        begun = (tmp_path / "shared" / "begun").read_text().split()
        assert len(begun) == len(set(begun)), "a call ran twice"
        assert len(storm.outcomes) == storm.asked, "a call was lost"
        done = {n for n, outcome in storm.outcomes.items() if isinstance(outcome, Success)}
        assert done <= set(begun)
        assert len(done) > 10
        failed = [each for each in storm.outcomes.values() if isinstance(each, Failure)]
        assert {each.fault for each in failed} <= {
            Fault.CRASH,
            Fault.ABORTED,
            Fault.MEMORY,
            Fault.INIT,
        }
        await change(s, counted(tmp_path), concurrency=4)
        with anyio.fail_after(20):
            while not isinstance(await s.call("echo", id="last", seconds=0), Success):  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.1)
        await alone(s, workers=4)

    pool(tmp_path, body, counted(tmp_path), concurrency=4)
