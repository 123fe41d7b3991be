"""A daemon that is killed, stopped and started anew: the real engine over simulated ends."""

from __future__ import annotations

from collections.abc import Mapping as Mapping_
from typing import Any

import anyio
import orjson

from proof.ledgers import Forgone, Scraped
from proof.simulation.disk import Disk
from proof.simulation.faces import value_in
from proof.simulation.parts import Parts
from proof.simulation.shelf import Shelf
from proof.simulation.world import EPOCH, MAPPING, TOPIC, Backing, Dead, Process, World
from streamfaas.engine.lane import LanePolicy, Surroundings
from streamfaas.engine.mapping import Mapping, Pause
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.errors import WorldError
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.telemetry import signals

RESTART_SECONDS = 1.5
STOP_SECONDS = 20.0


class Wants:
    """A filter that knows what the world thinks of a record."""

    def __init__(self, world: World) -> None:
        self._world = world

    def wants(self, metadata: Mapping_[str, object], data: bytes | None) -> bool:
        assert data is not None
        changes = self._world.plan.changes
        value = value_in(orjson.loads(data)) if changes else data
        return not self._world.unwanted(self._world.name_of(value))


class Daemon:
    """One place where a daemon runs, life after life."""

    def __init__(
        self, world: World, slot: int, parts: Parts, shelf: Shelf, backing: Backing
    ) -> None:
        self._world = world
        self._slot = slot
        self._parts = parts
        self._shelf = shelf
        self.backing = backing
        self.process = Process(world, slot, 0, alive=False)
        self.mapping: Mapping | None = None
        self.source: Any = None
        self._stopping = False
        self._reloading = False
        self._down_until = 0.0
        self._reloads = 0

    async def run(self) -> None:
        life = 0
        await anyio.sleep(self._world.plan.late)
        while not self._world.over:
            life += 1
            await self._live(Process(self._world, self._slot, life))
            await anyio.sleep(max(RESTART_SECONDS, self._down_until - self._world.now))

    async def _live(self, process: Process) -> None:
        self.process, self._stopping, self._reloading = process, False, False
        process.emit = lambda signal: _tell(self._world, process, signal)
        self._world.story.tell(process.name, "starts")
        self.mapping = self._made(process)
        try:
            with process.scope:
                await self.mapping.run()
                while self._reloading and not self._stopping:
                    self.mapping = self._successor(process, self.mapping)
                    await self.mapping.run()
            if process.alive:
                self.scrape(final=True)
        except* Dead:
            pass
        finally:
            self.mapping = None
        process.alive = False
        self.backing.noticed(f"{process.name}/")

    def _made(self, process: Process) -> Mapping:
        return self._parts.mapping(
            MAPPING,
            lambda: self._source(process),
            self._parts.policy(self._policy(process)),
            self._around(process),
            process.paused,
        )

    def _successor(self, process: Process, past: Mapping) -> Mapping:
        """Begins once the other has ended, and counts on from there."""
        self._reloading = False
        self._reloads += 1
        self._world.story.tell(process.name, "has reloaded")
        made = self._made(process)
        made.inherit(past)
        return made

    def _source(self, process: Process) -> Any:
        self.source = getattr(self._parts, self._world.plan.kind)(process, self.backing)
        return self.source

    def _policy(self, process: Process) -> LanePolicy:
        plan = self._world.plan
        sender = self._parts.sender(process, self._shelf)
        return LanePolicy(
            function="checkout",
            function_arn="arn:aws:lambda:local:000000000000:function:checkout",
            batch=BatchPolicy(plan.batch, plan.batch_bytes, plan.window),
            retry=RetryPolicy(plan.retries, plan.backoff, plan.backoff_max, plan.bisect, plan.age),
            set_aside=sender,
            last_resort=sender,
            on_success=sender if plan.answers else None,
            partial=plan.partial,
            strands=plan.strands,
            filter=Wants(self._world) if plan.unwanted else None,
            window_seconds=self._window_seconds,
        )

    @property
    def _window_seconds(self) -> float:
        lengths = self._world.plan.tumbling
        return lengths[self._reloads % len(lengths)] if lengths else 0.0

    def _around(self, process: Process) -> Surroundings:
        world = self._world

        def number(purpose: str) -> int:
            return world.time_of((purpose, process.name))

        return Surroundings(
            dispatch=self._parts.workers(process),
            clock=lambda: Instant(world.now),
            wall=lambda: world.wall,
            jitter=lambda: world.chance("jitter", process.name, number("jitter")),
            request_id=lambda: f"{process.name}-{number('request')}",
            emit=process.emit,
            outbox=self._parts.outbox(
                Disk(process), emit=process.emit, wall_clock=lambda: world.wall
            ),
            windows=self._parts.windows(Disk(process)),
        )

    # -- what is done to it

    def scrape(self, *, final: bool = False) -> None:
        """Asks it how it stands."""
        process, mapping = self.process, self.mapping
        if mapping is None or not process.alive:
            return
        view = mapping.view(Instant(self._world.now))
        counts = ("received", "records", "filtered", "set_aside", "expired", "given_back")
        self._world.books.scraped.append(
            Scraped(
                at=self._world.now,
                owner=process.name,
                handed=process.received,
                again=process.again,
                **{name: view[name] for name in counts},
                held=sum(lane["held_records"] + lane["in_flight"] for lane in view["lanes"]),
                final=final,
            )
        )

    def kill_on(self, step: str) -> None:
        """When it next takes such a step."""
        self.process.dies_on = step

    def skip(self) -> None:
        """A person gives up what waits to be tried again."""
        if self.process.alive and self.mapping is not None:
            for skipped in self.mapping.skip(None, dry_run=False):
                self._world.story.tell(self.process.name, "is told to skip {}", skipped)

    async def seek(self, number: int) -> None:
        """A person sends its shards elsewhere: all, or one and what came out of it."""
        process, mapping, source = self.process, self.mapping, self.source
        if mapping is None or not process.alive:
            return
        self._world.books.sought = True
        to = ("earliest", "latest", int(1000 * (EPOCH + self._world.now / 2)))[number % 3]
        try:
            lanes = sorted(source.standing())
            if not number % 4 and lanes:
                lanes = [lanes[number % len(lanes)]]
            spots = await source.places(lanes, to)
            onward = {lane for lane, spot in spots.items() if not source.is_past(lane, spot)}
            gone = await mapping.seek(spots, self._world.plan.grace, onward=onward)
        except (WorldError, Dead) as error:
            self._world.story.tell(process.name, "does not seek to {}: {!r}", to, error)
        else:
            self._world.story.tell(process.name, "has sought {}: {}", to, gone)

    def pause(self, seconds: float) -> None:
        """A person wants it to rest for a while."""
        process = self.process
        if process.alive and self.mapping is not None:
            process.paused = Pause(0, "somebody")
            self.mapping.pause(process.paused)
            self._world.story.tell(process.name, "is paused for {} s", seconds)
            self._world.later(seconds, self._resume, process)

    def _resume(self, process: Process) -> None:
        process.paused = None
        if process is self.process and process.alive and self.mapping is not None:
            self._world.story.tell(process.name, "is resumed")
            self.mapping.resume()

    def stir(self) -> None:
        """Something has happened to its connection."""
        if self.process.alive and self.source is not None:
            self.source.wake()

    def kill(self, steps: int) -> None:
        """At one of its next steps; if it takes none, in a while."""
        process = self.process
        if process.alive:
            process.dies_at = process.steps + steps
            self._world.later(3.0, process.die, "nothing in particular")

    def fall(self, seconds: float) -> None:
        """It is killed, and nobody starts it anew for so long."""
        self._down_until = self._world.now + seconds
        self.process.die("it is down for long")

    async def reload(self) -> None:
        """Its mapping ends, and another begins in the same process."""
        process, mapping = self.process, self.mapping
        if not process.alive or self._stopping or self._reloading or mapping is None:
            return
        self._reloading = True
        self._world.story.tell(process.name, "is told to reload")
        await mapping.stop(self._world.plan.grace)

    async def stop(self) -> None:
        process, mapping = self.process, self.mapping
        if not process.alive or self._stopping or mapping is None:
            return
        self._stopping, start = True, self._world.now
        self._world.story.tell(process.name, "is told to stop")
        await mapping.stop(self._world.plan.grace)
        if not process.killed:
            self._world.books.harm("daemon-stop", process.name, start)
            self._world.story.tell(process.name, "has stopped")


def _tell(world: World, process: Process, signal: signals.Signal) -> None:
    if not process.alive:
        return
    match signal:
        case signals.DaemonStepped("warning:", text):
            world.warned.append(text)
            world.story.tell(process.name, "warns: {}", text)
        case signals.InvocationEnded() | signals.BatchSetAside():
            return  # told by those who did it
        case signals.WindowLost(lane, start_ms, _, reason):
            place = TOPIC, world.partition(lane)
            world.books.forgone.append(Forgone(world.now, process.name, *place, start_ms, reason))
            world.story.tell(process.name, "{}", signal)
        case signals.LaneRetrying():
            world.story.tell(
                process.name, "{} {}..{} again in {:.3f} s (attempt {}): {}",
                signal.lane.name, signal.first, signal.last, signal.wait_seconds,
                signal.attempt, signal.reason,
            )  # fmt: skip
        case signals.LaneOpened() | signals.LaneHealed():
            world.story.tell(process.name, "{} {}", signal.lane.name, type(signal).__name__)
        case _:
            world.story.tell(process.name, "{}", signal)
