"""The whole path under a real Kafka, with workers and daemons killed at random moments: what was
produced, executed, committed and set aside is written down by outsiders, and then judged.

By hand, out of `tests/`: `python -m proof.river`, a million records and some four minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import anyio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from kafka_broker import Kafka
from proof import by_hand, ledgers
from proof.checker import Report, Wanted, check
from proof.ledgers import Committed, Produced, Writer
from proof.recorder.handler import POISON, fingerprint
from proof.victim import GRACE_SECONDS, Victim

SAMPLE_SECONDS = 0.05
DRAIN_SECONDS = 300
"""How long the rest may take, once everything is produced and nothing is harmed any more."""

CONFIG = """\
version: 1
state: {{path: ./state}}
shutdown: {{grace: {grace}s}}
connections:
  river: {{type: kafka, brokers: ["{bootstrap}"]}}
functions:
  recorder:
    code: recorder
    handler: handler.handle
    timeout: 60s
    isolation: best-effort
    concurrency: {{warm: {partitions}}}
    logging: {{platform: failures}}
    env:
      LEDGER: /mnt/ledger/executed.jsonl
      HOLD_SECONDS: "{hold_seconds}"
      FAILURE_RATE: "{failure_rate}"
      SEED: "{seed}"
    triggers:
      river:
        type: kafka
        connection: river
        topics: ["{topic}"]
        group: {group}
        start: earliest
        instance: river
        batch: {{size: {batch}, window: {window}s}}
        retries: {{max: {retries}, backoff: 10ms..100ms}}
        on_failure: {{type: file, path: set-aside.jsonl}}
      # nothing ever comes of it: it is how the function is given a directory to write to
      ledger: {{type: object-store, via: directory, path: ledger, bucket: ledger, prefix: none/,
                write: true, existing: ignore, interval: 60s}}
"""


@dataclass(frozen=True, slots=True)
class Course:
    """What a run goes through. The whole of it follows from `seed`, but for the scheduling.

    `replay_max` is what one kill of the daemon may run again: the batches in hand, and what was
    finished since the last commit (a fifth of a second, and the way to the broker) at full speed.
    """

    records: int = 1_000_000
    seconds: float = 200.0
    partitions: int = 4
    batch: int = 200
    worker_kills: int = 110
    daemon_kills: int = 3
    daemon_stops: int = 2
    poison: int = 8
    hold_seconds: float = 0.08
    failure_rate: float = 0.01
    replay_max: int = 10_000
    retries: int = 5
    window: float = 0.0
    ahead: int = 0  # 1: all is produced before the daemon is started
    seed: int = 0

    def wanted(self) -> Wanted:
        """What must have happened for the run to prove anything. A stop more than was asked for,
        the last; one kill in ten at least caught its worker at work."""
        return Wanted(
            records=self.records,
            faults={
                "worker-kill": self.worker_kills,
                "daemon-kill": self.daemon_kills,
                "daemon-stop": self.daemon_stops + 1,
            },
            cut=self.worker_kills // 10,
            replay_max={"worker-kill": self.batch, "daemon-kill": self.replay_max},
        )


@dataclass(slots=True)
class River:
    """One run, in a folder of its own, against a broker that stands."""

    course: Course
    kafka: Kafka
    folder: Path
    group: str = ""
    topic: str = ""
    command: tuple[str, ...] = ("-m", "streamfaas", "run")
    template: str = CONFIG
    besides: tuple[str, ...] = ()  # groups that read all of it too: what their names end with
    errand: Callable[[River], Awaitable[None]] | None = None  # in place of harm
    problems: list[str] = field(default_factory=list)
    _latest: dict[tuple[str, int], int] = field(default_factory=dict)
    _ends: dict[int, int] = field(default_factory=dict)
    _sent: int = 0
    _over: bool = False
    _victim: Victim = field(init=False)

    def __post_init__(self) -> None:
        self._victim = Victim(self.folder, self.command, self.problems)

    @property
    def groups(self) -> tuple[str, ...]:
        """The one that is judged, and those besides it."""
        return (self.group, *(f"{self.group}.{name}" for name in self.besides))

    @property
    def producing(self) -> bool:
        return self._sent < self.course.records

    async def run(self) -> Report:
        """Produces and harms, waits for the rest, stops the daemon, and judges."""
        self.topic = await self.kafka.create_topic("river", self.course.partitions)
        # of its own: what was killed in another run keeps its seat until its session ends
        self.group = f"streamfaas.{self.topic}"
        self._prepare()
        paths = ledgers.paths(self.folder)
        async with contextlib.AsyncExitStack() as stack:
            produced = stack.enter_context(Writer(paths["produced"], buffered=True))
            committed = stack.enter_context(Writer(paths["committed"]))
            set_aside = stack.enter_context(Writer(paths["set_aside"]))
            harmed = stack.enter_context(Writer(paths["harmed"]))
            admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
            await admin.start()
            stack.push_async_callback(admin.close)
            producer = self._producer()
            await producer.start()
            stack.push_async_callback(producer.stop)
            stack.callback(self._victim.end)
            if self.course.ahead:
                await self._produce(producer, produced)
            self._victim.start()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._sample, admin, committed, set_aside)
                async with anyio.create_task_group() as course:
                    if not self.course.ahead:
                        course.start_soon(self._produce, producer, produced)
                    if self.errand is not None:
                        course.start_soon(self.errand, self)
                    else:
                        course.start_soon(self._harm, harmed)
                await self._drained()
                await self._victim.stop(harmed)
                await anyio.sleep(SAMPLE_SECONDS * 4)  # a last look at what is committed
                self._over = True
        return check(self.ledgers(self.group, "executed.jsonl"), self.course.wanted())

    def ledgers(self, group: str, executed: str) -> ledgers.Ledgers:
        """What there is of one group."""
        found = ledgers.read(self.folder, self.folder / "ledger" / executed)
        return replace(found, committed=tuple(row for row in found.committed if row.group == group))

    def _prepare(self) -> None:
        code = Path(__file__).resolve().parent / "recorder"
        shutil.copytree(code, self.folder / "recorder", ignore=shutil.ignore_patterns("__*"))
        ledger = self.folder / "ledger"
        ledger.mkdir()
        ledger.chmod(0o777)  # a worker may be another user
        (self.folder / "streamfaas.yaml").write_text(self.text(self.template))

    def text(self, template: str) -> str:
        """A configuration for this run."""
        course = {f.name: getattr(self.course, f.name) for f in fields(self.course)}
        return template.format(
            bootstrap=self.kafka.bootstrap,
            topic=self.topic,
            group=self.group,
            grace=GRACE_SECONDS,
            **course,
        )

    # -- P

    def _producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self.kafka.bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=65536,
        )

    async def _produce(self, producer: AIOKafkaProducer, ledger: Writer) -> None:
        course, chance = self.course, random.Random(f"{self.course.seed} produce")
        poisoned = set(chance.sample(range(course.records), course.poison))
        started = time.monotonic()
        for number in range(course.records):
            pace = 0.0 if course.ahead else course.seconds
            ahead = number / course.records * pace - (time.monotonic() - started)
            if ahead > 0.01:
                await asyncio.sleep(ahead)
            await self._send(producer, ledger, number, chance, poisoned)
        await producer.flush()
        if self._sent != course.records:
            self.problems.append(f"{course.records - self._sent} records were not acknowledged")

    async def _send(
        self,
        producer: AIOKafkaProducer,
        ledger: Writer,
        number: int,
        chance: random.Random,
        poisoned: set[int],
    ) -> None:
        id_ = f"{number:09d}"
        value = (POISON if number in poisoned else b"") + id_.encode() + chance.randbytes(150)
        key = id_.encode() if number % 2 else None
        headers = [("id", id_.encode())] if number % 5 == 0 else []
        timestamp = int(time.time() * 1000)
        partition = number % self.course.partitions
        print_ = fingerprint(timestamp, key, value, headers).hex()

        def acknowledged(future: asyncio.Future) -> None:
            if future.cancelled() or future.exception() is not None:
                return
            offset = future.result().offset
            ledger.write(Produced(id_, self.topic, partition, offset, print_))
            self._ends[partition] = max(self._ends.get(partition, 0), offset + 1)
            self._sent += 1

        future = await producer.send(
            self.topic, value, key=key, partition=partition, timestamp_ms=timestamp, headers=headers
        )
        future.add_done_callback(acknowledged)

    # -- C and D

    async def _sample(
        self, admin: AIOKafkaAdminClient, committed: Writer, set_aside: Writer
    ) -> None:
        """What the group has committed, and the documents there are by then."""
        seen = 0
        while not self._over:
            await asyncio.sleep(SAMPLE_SECONDS)
            first: float | None = None
            for group in self.groups:
                try:
                    offsets = await admin.list_consumer_group_offsets(group)
                except KafkaError as error:
                    print(f"sampler: {error!r}", file=sys.stderr)
                    continue
                at = time.monotonic()
                first = at if first is None else first
                for place, given in offsets.items():
                    if place.topic == self.topic and given.offset >= 0:
                        committed.write(
                            Committed(at, group, self.topic, place.partition, given.offset)
                        )
                        self._latest[group, place.partition] = given.offset
            seen = self._documents(set_aside, time.monotonic() if first is None else first, seen)

    def _documents(self, ledger: Writer, at: float, seen: int) -> int:
        """Documents that were not there before. They lie on the disk before the commit that passes
        them, so they had come by the time of the sample."""
        path = self.folder / "set-aside.jsonl"
        if not path.exists():
            return seen
        with path.open("rb") as file:
            file.seek(seen)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                seen += len(line)
                with contextlib.suppress(ValueError):  # a line that a crash has cut short
                    ledger.write({"at": at, "document": json.loads(line)})
        return seen

    # -- K

    async def _harm(self, ledger: Writer) -> None:
        course, chance = self.course, random.Random(f"{self.course.seed} harm")
        started = time.monotonic()
        kinds = [
            *(["worker-kill"] * course.worker_kills),
            *(["daemon-kill"] * course.daemon_kills),
            *(["daemon-stop"] * course.daemon_stops),
        ]
        chance.shuffle(kinds)
        first, last = 0.05 * course.seconds, 0.95 * course.seconds
        moments = sorted(chance.uniform(first, last) for _ in kinds)
        for moment, kind in zip(moments, kinds, strict=True):
            await asyncio.sleep(max(0.0, started + moment - time.monotonic()))
            self._victim.look_after()
            if kind == "worker-kill":
                await self._victim.kill_worker(ledger, chance)
                continue
            if kind == "daemon-kill":
                await self._victim.kill(ledger)
            else:
                await self._victim.stop(ledger)
            self._victim.start()

    async def _drained(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while any(
            self._latest.get((group, partition), -1) < end
            for partition, end in self._ends.items()
            for group in self.groups
        ):
            self._victim.look_after()
            if time.monotonic() > deadline:
                self.problems.append(f"I-30: not through after {DRAIN_SECONDS} s")
                return
            await asyncio.sleep(0.1)


def prove(course: Course, kafka: Kafka, folder: Path, *command: str) -> tuple[Report, list[str]]:
    """Runs one course in a folder; the judgement, and what else went wrong. `command` is what is
    judged in place of our daemon: arguments of Python, before the path of the configuration."""
    river = River(course, kafka, folder, **({"command": command} if command else {}))
    report = asyncio.run(river.run())
    return report, river.problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.river", description=__doc__)
    by_hand.ask(parser, Course(seed=random.randrange(1 << 32)))
    parser.add_argument("--folder", type=Path, help="where the ledgers are kept (must not exist)")
    options = vars(parser.parse_args())
    folder = options.pop("folder")
    course = Course(**options)
    folder = by_hand.opened(folder or f"river-{course.seed}", course.seed)

    def judged(kafka: Kafka) -> int:
        started = time.monotonic()
        report, problems = prove(course, kafka, folder)
        return by_hand.tell(report, problems, time.monotonic() - started)

    return by_hand.with_broker(judged)


if __name__ == "__main__":
    sys.exit(main())
