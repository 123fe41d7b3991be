"""The mappings of a plan: those of its triggers, and those of events that nobody waits for."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from collections.abc import Mapping as Table
from dataclasses import dataclass

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from streamfaas.daemon.build import MappingPlan, Plan
from streamfaas.daemon.deliveries import Destinations
from streamfaas.daemon.sources import Means
from streamfaas.engine.lane import Surroundings
from streamfaas.engine.mapping import Mapping
from streamfaas.flow.errors import StoreError
from streamfaas.store import inbox
from streamfaas.store.invocations import Queue
from streamfaas.store.windows import Windows
from streamfaas.telemetry import signals

_NOTHING: Table[str, Mapping] = {}


@dataclass(frozen=True, slots=True)
class Succession:
    """Mappings that come, ready to run, in the place of those that go. `left` are the events that
    wait in the store."""

    plan: Plan
    letters: Destinations
    goes: frozenset[str]
    comes: tuple[Mapping, ...]
    left: tuple[Queue, ...]


class Mappings:
    """Triggers run from the start. The asynchronous invocations of a function run from the first
    of them on, since most functions never have any."""

    def __init__(
        self, plan: Plan, means: Means, letters: Destinations, surroundings: Surroundings
    ) -> None:
        self._plan = plan
        self._means = means
        self.letters = letters
        self._around = surroundings
        self._tasks: TaskGroup | None = None  # while something may begin
        self._going: frozenset[str] = frozenset()  # none of these begins
        self._asked: set[str] = set()  # and for these functions, one should have
        self._left: tuple[Queue, ...] = ()  # what waited in the store when it was counted last
        self._notices: Table[str, int] = {}  # and what for triggers on object stores
        self.unclaimed: Table[str, int] = {}  # of that, what is of those that there are not
        self._windows: Table[str, int] = {}  # which are open, of those
        self.running = {each.name: self._made(each, letters) for each in plan.mappings}
        _reserve(plan, letters)

    def start(self, tasks: TaskGroup, left: Iterable[Queue], notices: Table[str, int]) -> None:
        """All triggers, and the functions that an earlier life has `left` events of. `notices` are
        those that it has of triggers."""
        self._tasks = tasks
        for name, mapping in self.running.items():
            tasks.start_soon(mapping.run, name=name)
        self._left, self._notices = tuple(left), notices
        for queue in self._left:
            self._wake(queue)
        self._tell_unclaimed()

    def stop(self) -> tuple[Mapping, ...]:
        """All that run; none begins from here on. What is accepted waits for the next start."""
        self._tasks = None
        return tuple(self.running.values())

    async def accept(
        self,
        function: str,
        event: bytes,
        request_id: str,
        *,
        hops: int = 0,
        replays: int = 0,
        client_context: bytes = b"",
        order_key: str = "",
        trace: str = "",
    ) -> None:
        """Takes an event for a function: it is kept for good when this returns. `Busy` where the
        function has too many of them, `StoreError` where they cannot be written."""
        await self._means.backlog.accept(
            function,
            event,
            request_id,
            hops=hops,
            replays=replays,
            client_context=client_context,
            order_key=order_key,
            trace=trace,
        )
        self._begin(function)

    # -- others in their place

    async def prepare(
        self, plan: Plan, letters: Destinations, goes: Collection[str], comes: Collection[str]
    ) -> Succession:
        """Makes all that comes. Nothing of it runs, and nothing has changed."""
        # patterns are compiled, and kinds imported: what runs is not to wait for it
        await anyio.to_thread.run_sync(_reserve, plan, letters)
        made = [self._made(each, letters) for each in plan.mappings if each.name in comes]
        left = await self._means.backlog.queues()
        return Succession(plan, letters, frozenset(goes), tuple(made), tuple(left))

    async def leave(self, succession: Succession, grace_seconds: float) -> None:
        """What goes finishes what it has in hand, and settles it. It stays in sight."""
        self._going = succession.goes
        async with anyio.create_task_group() as tasks:
            for name in self._going & self.running.keys():
                tasks.start_soon(self.running[name].stop, grace_seconds)

    def commit(self, succession: Succession) -> None:
        """What comes begins where that which went has ended."""
        past = {name: self.running.pop(name) for name in self._going & self.running.keys()}
        before, self._plan, self.letters = self._plan, succession.plan, succession.letters
        self._going = frozenset()
        for mapping in succession.comes:
            self._run(mapping, past)
        for function, each in before.asynchronous.items():
            if each.name in past:
                self._begin(function, past)
        self._begin_asked()
        self._left = succession.left
        for queue in self._left:
            if queue.function not in before.asynchronous:
                self._wake(queue)

    async def waiting(self) -> dict[str, int]:
        """How many events each function, and each trigger on an object store, has that are not
        done with."""
        accepted = {each.function: each.events for each in await self._means.backlog.queues()}
        return accepted | await inbox.waiting(self._means.store)

    async def recount(self) -> None:
        """What waits for functions that are gone is counted, now that they have ended."""
        with contextlib.suppress(StoreError):  # then it is as it was when they began to end
            self._left = tuple(await self._means.backlog.queues())
            self._notices = await inbox.waiting(self._means.store)
        self._tell_unclaimed()
        await self.tell_windows()

    async def tell_windows(self) -> None:
        """Tumbling windows are open, and nobody ends them."""
        before, ours = self._windows, {each.name for each in self._plan.mappings}
        with contextlib.suppress(StoreError):  # it is told when the store answers again
            found = await Windows(self._means.store).open()
            self._windows = {name: count for name, count in found.items() if name not in ours}
        for name in self._windows.keys() - before.keys():
            text = f"{self._windows[name]:,} windows of {name} are open, which is not configured"
            self._means.emit(signals.DaemonStepped("warning:", text))

    def resume(self) -> None:
        """What went begins anew: nothing comes in its place."""
        past = {name: each for name, each in self.running.items() if each.stopping}
        self._going = frozenset()
        for each in (*self._plan.mappings, *self._plan.asynchronous.values()):
            if each.name in past:
                self._run(self._made(each, self.letters), past)
        self._begin_asked()

    def _wake(self, queue: Queue) -> None:
        """Events wait for their function."""
        if queue.events and queue.function in self._plan.asynchronous:
            self._begin(queue.function)

    def _tell_unclaimed(self) -> None:
        """Events wait for nobody."""
        before, plan = self.unclaimed, self._plan
        claimed = {each.name for each in plan.mappings if each.kind == "object-store"}
        self.unclaimed = {
            each.function: each.events
            for each in self._left
            if each.events and each.function not in plan.asynchronous
        } | {name: events for name, events in self._notices.items() if name not in claimed}
        for name in self.unclaimed.keys() - before.keys():
            text = f"{self.unclaimed[name]:,} events wait for {name}, which is not configured"
            self._means.emit(signals.DaemonStepped("warning:", text))

    def _begin_asked(self) -> None:
        asked, self._asked = self._asked, set()
        for function in asked:
            self._begin(function)

    def _begin(self, function: str, past: Table[str, Mapping] = _NOTHING) -> None:
        """Where nobody can begin, what was accepted is kept for whoever does."""
        spec = self._plan.asynchronous.get(function)
        if spec is None or spec.name in self.running:
            self._asked |= {function} if spec is not None and spec.name in self._going else set()
        elif self._tasks is not None:
            self._run(self._made(spec, self.letters), past)

    def _run(self, mapping: Mapping, past: Table[str, Mapping]) -> None:
        if self._tasks is None:
            return
        mapping.paused = self._means.pauses.get(mapping.name)  # somebody may have, meanwhile
        if mapping.name in past:
            mapping.inherit(past[mapping.name])
        self.running[mapping.name] = mapping
        self._tasks.start_soon(mapping.run, name=mapping.name)

    def _made(self, spec: MappingPlan, letters: Destinations) -> Mapping:
        policy = spec.policy_maker(letters)
        maker, pause = spec.source_maker(self._means), self._means.pauses.get(spec.name)
        return Mapping(spec.name, maker, policy, self._around, pause)


def _reserve(plan: Plan, letters: Destinations) -> None:
    """So that what anybody sends to is there, and opened with the others."""
    for each in (*plan.mappings, *plan.asynchronous.values()):
        each.policy_maker(letters)
