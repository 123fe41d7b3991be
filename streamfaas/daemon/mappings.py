"""The mappings of a plan: those of its triggers, and those of events that nobody waits for."""

from __future__ import annotations

from collections.abc import Iterable

from anyio.abc import TaskGroup

from streamfaas.daemon.build import MappingPlan, Means, Plan
from streamfaas.daemon.deliveries import Destinations
from streamfaas.engine.lane import Surroundings
from streamfaas.engine.mapping import Mapping
from streamfaas.store.invocations import Queue
from streamfaas.telemetry import signals


class Mappings:
    """Triggers run from the start. The asynchronous invocations of a function run from the first
    of them on, since most functions never have any."""

    def __init__(
        self, plan: Plan, means: Means, letters: Destinations, surroundings: Surroundings
    ) -> None:
        self._plan = plan
        self._means = means
        self._letters = letters
        self._around = surroundings
        self._tasks: TaskGroup | None = None  # while something may begin
        self.running = {each.name: self._made(each) for each in plan.mappings}
        for each in plan.asynchronous.values():
            each.policy_maker(letters)  # so that what it sends to is opened with the others

    def start(self, tasks: TaskGroup, left: Iterable[Queue]) -> None:
        """All triggers, and the functions that an earlier life has `left` events of."""
        self._tasks = tasks
        for name, mapping in self.running.items():
            tasks.start_soon(mapping.run, name=name)
        for queue in left:
            if queue.events and queue.function in self._plan.asynchronous:
                self._begin(queue.function)
            elif queue.events:
                text = f"{queue.events:,} events wait for {queue.function}, which is not configured"
                self._means.emit(signals.DaemonStepped("warning:", text))

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
        )
        self._begin(function)

    def _begin(self, function: str) -> None:
        spec = self._plan.asynchronous[function]
        if self._tasks is not None and spec.name not in self.running:
            mapping = self.running[spec.name] = self._made(spec)
            self._tasks.start_soon(mapping.run, name=spec.name)

    def _made(self, spec: MappingPlan) -> Mapping:
        policy = spec.policy_maker(self._letters)
        maker, pause = spec.source_maker(self._means), self._means.pauses.get(spec.name)
        return Mapping(spec.name, maker, policy, self._around, pause)
