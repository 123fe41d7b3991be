"""A daemon whose configuration is changed a thousand times while a real topic flows through it: no
record is lost, none runs twice, and a trigger that nothing was changed of does not notice.

By hand, out of `tests/`: `python -m proof.reloads`, a thousand reloads and some ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from daemon_process import ask
from kafka_broker import Kafka
from proof import by_hand
from proof.checker import Report, check
from proof.ledgers import Executed
from proof.river import Course, River

CONFIG = """\
version: 1
state: {{path: ./state}}
shutdown: {{grace: {grace}s}}
connections:
  river: {{type: kafka, brokers: ["{bootstrap}"]}}
functions:
  recorder: # its trigger is changed
    code: recorder
    handler: handler.handle
    timeout: 60s
    isolation: best-effort
    memory: <memory>MB
    concurrency: {{warm: {partitions}}}
    logging: {{platform: failures}}
    env:
      LEDGER: /mnt/ledger/executed.jsonl
      HOLD_SECONDS: "{hold_seconds}"
      FAILURE_RATE: "{failure_rate}"
      ROUND: "<round>"
    triggers:
      river:
        type: kafka
        connection: river
        topics: ["{topic}"]
        group: {group}
        start: earliest
        batch: {{size: <batch>, window: {window}s}}
        retries: {{max: {retries}, backoff: 10ms..100ms}}
        on_failure: {{type: file, path: set-aside.jsonl}}
        <filter>
      ledger: {{type: object-store, via: directory, path: ledger, bucket: ledger, prefix: none/,
                write: true, existing: ignore, interval: 60s}}
      <other>
  witness: # nothing of its trigger is
    code: recorder
    handler: handler.handle
    timeout: 60s
    isolation: best-effort
    concurrency: {{warm: {partitions}}}
    logging: {{platform: failures}}
    env:
      LEDGER: /mnt/ledger/witnessed.jsonl
      HOLD_SECONDS: "{hold_seconds}"
      ROUND: "<witness_round>"
    triggers:
      still:
        type: kafka
        connection: river
        topics: ["{topic}"]
        group: {group}.still
        start: earliest
        batch: {{size: {batch}, window: {window}s}}
      ledger: {{type: object-store, via: directory, path: ledger, bucket: ledger, prefix: neither/,
                write: true, existing: ignore, interval: 60s}}
"""
OTHER = "other: {{type: memory, topic: other, rate: 1, records: 0, batch: {{size: %d}}}}"
FILTER = 'filter: {{offset: [{{numeric: [">=", 0]}}]}}'  # all are wanted, but all are looked at

AFTER_SECONDS = 1.0
"""After its workers were replaced: all of them have started by then."""

FIRST = 0.05
"""Of the time, before the first reload: how long the untouched trigger pauses by itself."""

LAST = 0.8
"""Of the time, when the last one is due: a machine that has other work is slower."""

LOADED = 0.75
"""Of the reloads: so many at least must be done before the last record is produced."""


@dataclass(slots=True)
class Changes:
    """Every next configuration, and what is expected of it. `kafka` of `reloads` change how the
    topic is read."""

    reloads: int
    kafka: int
    seed: int
    told: Counter[str] = field(default_factory=Counter)
    replaced: list[tuple[float, float]] = field(default_factory=list)  # the witness's workers
    slowest: float = 0.0
    first: float = 0.0
    last: float = 0.0
    problems: list[str] = field(default_factory=list)

    def texts(self) -> Iterator[tuple[str, str]]:
        """What kind of change it is, and the configuration."""
        chance = random.Random(f"{self.seed} reloads")
        kinds = ["kafka"] * self.kafka
        kinds += chance.choices(OTHERS, k=self.reloads - self.kafka)
        chance.shuffle(kinds)
        now = dict(START)
        for number, kind in enumerate(kinds):
            match kind:
                case "kafka" if chance.random() < 0.5:
                    now["filter"] = FILTER if now["filter"] == "" else ""
                case "kafka":
                    now["batch"] = str(int(now["batch"]) % 190 + 10)
                case "env":
                    now["round"] = str(number)
                case "witness":
                    now["witness_round"] = str(number)
                case "memory":
                    now["memory"] = str(int(now["memory"]) % 256 + 128)
                case "trigger":
                    now["other"] = chance.choice(["", OTHER % (number + 1), OTHER % 7])
            yield kind, filled(now)

    async def carry_out(self, river: River) -> None:
        """Spread over the time in which something is produced."""
        folder, seconds = river.folder, river.course.seconds
        began = time.monotonic()
        await asyncio.to_thread(_ready, folder)
        self.first = began + seconds * FIRST
        for number, (kind, text) in enumerate(self.texts()):
            due = began + seconds * (FIRST + (LAST - FIRST) * number / self.reloads)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            _put(folder / "streamfaas.yaml", river.text(text))
            start = time.monotonic()
            status, told = await asyncio.to_thread(_reload, folder)
            if kind == "witness":
                self.replaced.append((start, time.monotonic() + AFTER_SECONDS))
            self.told[kind] += 1
            self._judge(kind, status, told)
            self.told["under load"] += river.producing
        self.last = time.monotonic()
        if self.told["under load"] < LOADED * self.reloads:
            few = f"{self.told['under load']} of {self.reloads} reloads were under load"
            self.problems.append(f"{few}: give more seconds")

    def _judge(self, kind: str, status: int, told: dict) -> None:
        self.slowest = max(self.slowest, told.get("seconds", 0.0))
        if status != 200:
            self.problems.append(f"a reload ({kind}) failed: {status} {told.get('error')}")
            return
        self.told[told["state"]] += 1
        changes = told["changes"]
        touched = {each["name"] for each in changes["triggers"]}
        wanted = {"kafka": {"recorder/river"}, "trigger": {"recorder/other"}}.get(kind, set())
        if not touched <= wanted:
            self.problems.append(f"a change of {kind} touched {touched}")


OTHERS = ("env", "witness", "memory", "trigger", "nothing")
"""What else is changed; `witness` is the function of the trigger that is not touched."""
START = {
    "memory": "256", "round": "0", "witness_round": "0", "batch": "50", "filter": "", "other": "",
}  # fmt: skip


def filled(values: dict[str, str]) -> str:
    text = CONFIG
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    return text


def _put(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def _ready(folder: Path) -> None:
    """Until the daemon is; not for ever."""
    for _ in range(600):
        with suppress(OSError, http.client.HTTPException, ValueError):
            if _asked(folder, "GET", "/status")[1]["state"] in {"running", "degraded"}:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the daemon is not ready: {(folder / 'daemon.log').read_text()[-2000:]}")


def _reload(folder: Path) -> tuple[int, dict]:
    return _asked(folder, "POST", "/reload")


def _asked(folder: Path, method: str, path: str) -> tuple[int, dict]:
    status, _, body = ask(folder / "state" / "streamfaas.sock", method, path, timeout=120)
    return status, json.loads(body)


@dataclass(frozen=True, slots=True)
class Proof:
    """Both judgements, what else went wrong, and how long the untouched trigger ran nothing."""

    changed: Report
    untouched: Report
    problems: list[str]
    changes: Changes
    pauses: Mapping[str, float]


def prove(changes: Changes, course: Course, kafka: Kafka, folder: Path) -> Proof:
    """Runs one course in a folder."""
    river = River(
        course,
        kafka,
        folder,
        template=filled(START),
        besides=("still",),
        errand=changes.carry_out,
    )
    changed = asyncio.run(river.run())
    return _judged(river, changed, changes)


def _judged(river: River, changed: Report, changes: Changes) -> Proof:
    still = replace(river.ledgers(f"{river.group}.still", "witnessed.jsonl"), set_aside=())
    return Proof(
        changed,
        check(still, river.course.wanted()),
        [*river.problems, *changes.problems],
        changes,
        longest_pauses(still.executed, changes),
    )


def longest_pauses(executed: Iterable[Executed], changes: Changes) -> dict[str, float]:
    """The longest times in which nothing of it ran: before the first reload, while its function's
    workers were replaced, and while anything else was changed."""
    found = {"before": 0.0, "its workers replaced": 0.0, "else": 0.0}
    busy_until: float | None = None
    for start, end in sorted((e.start, e.end or e.start) for e in executed):
        if busy_until is not None and start > busy_until and start < changes.last:
            own = any(a < start and busy_until < b for a, b in changes.replaced)
            when = "before" if start < changes.first else "its workers replaced" if own else "else"
            found[when] = max(found[when], start - busy_until)
        busy_until = max(end, busy_until or 0.0)
    return found


COURSE = Course(
    records=400_000,
    seconds=600.0,
    batch=100,
    worker_kills=0,
    daemon_kills=0,
    daemon_stops=0,
    poison=0,
    hold_seconds=0.02,
    failure_rate=0.002,
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.reloads", description=__doc__)
    parser.add_argument("--reloads", type=int, default=1_000)
    parser.add_argument("--kafka-changes", type=int, default=50)
    course = replace(COURSE, seed=random.randrange(1 << 32))
    by_hand.ask(parser, course, "records", "seconds", "partitions", "seed")
    options = vars(parser.parse_args())
    reloads, of_kafka = options.pop("reloads"), options.pop("kafka_changes")
    course = replace(course, **options)
    folder = by_hand.opened(f"reloads-{course.seed}", course.seed)

    def judged(kafka: Kafka) -> int:
        began = time.monotonic()
        proof = prove(Changes(reloads, of_kafka, course.seed), course, kafka, folder)
        return told(proof, time.monotonic() - began)

    return by_hand.with_broker(judged)


def told(proof: Proof, seconds: float) -> int:
    """Prints all of it; the exit status."""
    for name, count in sorted(proof.changes.told.items()):
        print(f"{'reloads: ' + name:44} {count:>12,}")
    print(f"{'slowest reload, in seconds':44} {proof.changes.slowest:>12.2f}")
    for name, seconds_ in proof.pauses.items():
        print(f"{f'untouched, longest pause, in ms: {name}':52} {seconds_ * 1000:>4,.0f}")
    print("-- the trigger that is changed")
    status = by_hand.tell(proof.changed, proof.problems, seconds)
    print("-- the trigger that is not")
    return by_hand.tell(proof.untouched, [], seconds) or status


if __name__ == "__main__":
    sys.exit(main())
