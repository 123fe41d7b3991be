import asyncio
import contextlib
import http.client
import json
import time
from contextlib import closing

import anyio
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon_process import DaemonProcess, write_project
from lane_scene import BAD, WALL, Kept
from listed import LANE, Listed
from metrics_read import OPENMETRICS, Scrape
from server_process import free_port
from streamfaas.daemon.measured import PATIENCE_SECONDS, unready
from streamfaas.engine.lane import LanePolicy, Surroundings
from streamfaas.engine.mapping import Mapping
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.outcome import Success
from streamfaas.flow.record import Instant, Lane, Record, run_of_records
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources import Arrived, Closing, Opened
from streamfaas.telemetry.exposition import exposition
from streamfaas.telemetry.metrics import Metrics
from streamfaas.telemetry.process import usage
from streamfaas.testing.simulation import simulate

OTHER = Lane("f/t", "topic-1")
PLACE = {"function": "f", "trigger": "t"}


class FourOfFive:
    """A filter that counts what it does not want."""

    def __init__(self):
        self.refused = 0

    def wants(self, metadata, data):
        wanted = int(data) % 5 != 0
        self.refused += not wanted
        return wanted


class World:
    """A mapping whose every record is also counted by those around it: the source that hands it
    over, the filter, the function, the destination."""

    def __init__(self, *, strands, down, seconds):
        loop = asyncio.get_running_loop()
        self.source, self.kept, self.filter = Listed(), Kept(down), FourOfFive()
        self.handed, self.succeeded, self.seconds = 0, 0, seconds
        self.metrics = Metrics(["f/t"], per_partition=True)
        around = Surroundings(
            dispatch=self.dispatch,
            clock=loop.time,
            wall=lambda: WALL + loop.time(),
            jitter=lambda: 0.0,
            request_id=RequestIds(),
            emit=self.metrics,
        )
        retry = RetryPolicy(2, bisect=True, age_seconds_max=60.0)
        policy = LanePolicy(
            "f", "arn", BatchPolicy(4), retry, self.kept, self.kept,
            strands=strands, filter=self.filter,
        )  # fmt: skip
        self.mapping = Mapping("f/t", lambda: self.source, policy, around)
        self.open = set()
        self.next = {}
        self.last = None

    async def dispatch(self, invocation):
        values = orjson.loads(b"".join(invocation.event.parts))
        await anyio.sleep(self.seconds)
        if any(value % 7 == 3 for value in values):
            return BAD
        self.succeeded += len(values)
        return Success(b"")

    async def act(self, action, lane, count):
        arrivals = self.source.arrivals
        match action:
            case "put" if lane in self.open:
                self.put(lane, count)
            case "put":  # a lane begins after its checkpoint
                arrivals.put_nowait(Opened(lane))
                self.open.add(lane)
                checkpoints = self.mapping.view(Instant(0.0))["checkpoints"]
                self.next[lane] = checkpoints.get(lane.name, -1) + 1
                self.put(lane, count)
            case "old":
                await self.act("put", lane, count)
                self.put(lane, count, age=100.0)
            case "close" if lane in self.open:
                arrivals.put_nowait(Closing(lane, count / 10))
                self.open.remove(lane)
                await self.pass_by(count / 10 + 0.5)
            case "break":
                arrivals.put_nowait(Unreachable("no route"))
                self.open.clear()
                await self.pass_by(100)
            case _:
                await self.pass_by(count / 5)

    def put(self, lane, count, age=0.0):
        moment = int((WALL + asyncio.get_running_loop().time() - age) * 1000)
        first = self.next[lane]
        self.next[lane] += count
        made = tuple(
            Record(lane, at, str(at).encode(), b"k%d" % (at % 4), timestamp_ms=moment)
            for at in range(first, first + count)
        )
        self.source.arrivals.put_nowait(Arrived(run_of_records(made)))
        self.handed += count

    async def pass_by(self, seconds):
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            await anyio.sleep(seconds / 7)
            self.scrape()

    def scrape(self):
        trigger = self.mapping.view(Instant(asyncio.get_running_loop().time()))
        view = {
            "version": "1.0",
            "functions": {},
            "triggers": {"f/t": trigger},
            "export": {},
            "process": usage(),
        }
        scrape = Scrape(exposition(self.metrics.registry, view, openmetrics=True), OPENMETRICS)
        received, outcomes, in_flight = scrape.balance(**PLACE)
        # what others have counted
        aside = sum(each["ListedBatchInfo"]["batchSize"] for each in self.kept.documents)
        assert received <= self.handed
        assert outcomes["succeeded"] <= self.succeeded
        assert outcomes["filtered"] == self.filter.refused
        assert outcomes["failed"] + outcomes["expired"] == aside
        held = sum(lane["held_records"] + lane["in_flight"] for lane in trigger["lanes"])
        assert held <= in_flight
        if self.last is not None:  # counters never fall
            assert received >= self.last[0]
            assert all(count >= self.last[1][name] for name, count in outcomes.items())
        self.last = received, outcomes
        return received, outcomes, in_flight


ACTIONS = st.tuples(
    st.sampled_from(["put", "put", "put", "old", "close", "break", "wait"]),
    st.sampled_from([LANE, OTHER]),
    st.integers(1, 15),
)


@pytest.mark.slow
@settings(max_examples=20)
@given(
    st.lists(ACTIONS, min_size=2, max_size=10),
    st.sampled_from([1, 3]),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.05, 2.0]),
)
def test_at_every_moment_what_came_is_what_became_of_it_and_what_is_in_flight(
    actions, strands, down, seconds
):
    async def main():
        world = World(strands=strands, down=down, seconds=seconds)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.mapping.run)
            for action in actions:
                await world.act(*action)
                world.scrape()
            await world.pass_by(30)
            await world.mapping.stop(5.0)
        received, outcomes, in_flight = world.scrape()
        assert in_flight == 0
        assert received == world.handed
        assert outcomes["succeeded"] == world.succeeded

    simulate(main)


def trigger(state="running", *lanes, connected=True, reason="", unwell=None):
    return {
        "state": state,
        "reason": reason,
        "connected": connected,
        "lanes": lanes,
        "unwell_seconds": unwell,
    }


def seen(state="running", **triggers):
    return {"state": state, "triggers": {f"f/{name}": each for name, each in triggers.items()}}


def test_readiness_says_which_trigger_is_not_well_and_why():
    lane = {
        "name": "topic-0", "state": "blocked", "reason": "KeyError: 'total'", "by_key": False
    }  # fmt: skip
    message = {**lane, "name": "4f1c0a9e", "by_key": True}
    assert unready(seen(a=trigger(), b=trigger("retrying"))) == ()
    assert unready(seen(a=trigger("degraded", reason="cannot reach k1"), b=trigger())) == (
        "f/a is degraded: cannot reach k1",
    )
    assert unready(seen(a=trigger(), b=trigger("blocked", {**lane, "state": "idle"}, lane))) == (
        "f/b is blocked: topic-0: KeyError: 'total'",
    )
    assert unready(seen(a=trigger("blocked", message))) == (), "of a queue one holds nobody up"
    assert unready(seen(a=trigger("blocked", message, lane)))
    assert unready(seen(a=trigger("paused", lane))) == ()
    assert unready(seen(a=trigger("connecting"))) == ("f/a is connecting: no reason is known",)
    assert unready(seen(a=trigger("connecting", connected=False))) == ()
    for state in ("connecting", "degraded"):  # a blip of what ran before is not told
        assert unready(seen(a=trigger(state, unwell=3.0))) == ()
        assert unready(seen(a=trigger(state, unwell=PATIENCE_SECONDS)))
    for state in ("starting", "draining"):
        assert unready(seen(state, a=trigger())) == (f"the daemon is {state}",)


CONFIG = """
version: 1
state: {path: ./state}
shutdown: {grace: 5s}
telemetry: {metrics: {listen: "127.0.0.1:%d", per_partition: true}}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    timeout: 20s
    concurrency: {warm: 1, max: 2}
    triggers:
      stream: {type: memory, topic: orders, partitions: 2, %s}
"""
ORDERS = {"function": "orders", "trigger": "stream"}


@pytest.fixture
def port():
    return free_port()


def ask(port, path, method="GET", **headers):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers["content-type"]


def scraped(port):
    status, body, kind = ask(port, "/metrics", Accept=OPENMETRICS)
    assert status == 200
    return Scrape(body, kind)


def wait_answer(daemon, port, path, wanted, seconds=20.0):
    """Until a probe answers so; what it says then. Fails with the daemon's output."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and daemon.process.poll() is None:
        with contextlib.suppress(OSError):
            status, body, _ = ask(port, path)
            if status == wanted:
                return body.decode()
        time.sleep(0.02)
    raise AssertionError(f"{path} did not answer {wanted}\n{daemon.text}")


@pytest.mark.slow
def test_the_balance_is_exact_at_every_scrape_while_records_flow(tmp_path, port):
    source = """
import time
def main(event, context):
    time.sleep(0.002)
    offsets = [r["offset"] for rs in event["records"].values() for r in rs]
    if any(offset % 97 == 0 for offset in offsets):
        raise KeyError(offsets[0])
"""
    options = (
        "records: 4000, rate: 3000, batch: {size: 20}, filter: [{offset: [{numeric: ['>', 49]}]}], "
        "retries: {max: 1, backoff: 10ms..20ms}, on_failure: {type: file, path: dead.jsonl}"
    )
    config = write_project(tmp_path, CONFIG % (port, options), orders=source)
    with DaemonProcess(config, "--quiet") as daemon:
        wait_answer(daemon, port, "/startupz", 200)
        scrapes, busy = 0, 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            scrape = scraped(port)
            received, outcomes, in_flight = scrape.balance(**ORDERS)
            scrapes, busy = scrapes + 1, busy + bool(in_flight)
            if received == 4000 and not in_flight:
                break
            time.sleep(0.02)
        assert outcomes["filtered"] == 100
        assert outcomes["failed"] == 2 * len(range(97, 2000, 97))
        assert outcomes["succeeded"] == 4000 - outcomes["filtered"] - outcomes["failed"]
        assert scrapes > 20
        assert busy
        assert scrape.of("faas_errors_total", **ORDERS, error_type="function") > 0
        assert scrape.of("streamfaas_batch_splits_total", **ORDERS) > 0
        condition = {"condition": "RetryAttemptsExhausted"}
        assert scrape.of("streamfaas_set_aside_total", **ORDERS, **condition) == outcomes["failed"]
        assert scrape.of("streamfaas_source_age_seconds", **ORDERS, partition="orders-1") == 0
        status = daemon.status()["triggers"]["orders/stream"]
        assert status["records"] == outcomes["succeeded"]
        assert daemon.stop() == 0
    dead = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    assert sum(each["KafkaBatchInfo"]["batchSize"] for each in dead) == outcomes["failed"]


@pytest.mark.slow
def test_readiness_is_lost_while_a_lane_is_blocked_and_while_it_drains_and_comes_back(
    tmp_path, port
):
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    source = """
import os, time
def main(event, context):
    if not os.path.exists("/mnt/shared/healed"):
        raise KeyError("total")
    if os.path.exists("/mnt/shared/slow"):
        print("slow from here")
        time.sleep(1.5)
"""
    extra = "      shared: {type: object-store, via: directory, path: ./shared, bucket: shared, prefix: none/}\n"
    options = "records: 60000, rate: 100, batch: {size: 10}, retries: {backoff: 10ms..50ms}"
    config = write_project(tmp_path, CONFIG % (port, options) + extra, orders=source)
    with DaemonProcess(config) as daemon:
        assert "starting" in wait_answer(daemon, port, "/readyz", 503)
        assert ask(port, "/startupz")[0] in {200, 503}  # it may be through by now
        wait_answer(daemon, port, "/startupz", 200)
        daemon.wait_for(lambda s: s["triggers"]["orders/stream"]["state"] == "blocked")
        told = wait_answer(daemon, port, "/readyz", 503)
        assert told.startswith("orders/stream is blocked: orders-")
        assert "KeyError: 'total'" in told
        assert ask(port, "/livez")[:2] == (200, b"ok\n")
        assert scraped(port).all("streamfaas_lane_blocked", **ORDERS)
        (shared / "healed").touch()
        assert wait_answer(daemon, port, "/readyz", 200) == "ok\n"
        (shared / "slow").touch()
        daemon.wait_for(lambda _: "slow from here" in daemon.text)
        daemon.signal()
        assert wait_answer(daemon, port, "/readyz", 503) == "the daemon is draining\n"
        assert ask(port, "/startupz")[0] == 200
        assert ask(port, "/metrics")[0] == 200
        assert daemon.wait() == 0
        with pytest.raises(OSError):
            ask(port, "/livez")


@pytest.mark.slow
def test_without_credentials_there_is_nothing_but_get_of_metrics_and_probes(tmp_path, port):
    config = write_project(tmp_path, CONFIG % (port, "records: 0"), orders="def main(e, c): 1")
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        for path in ("/metrics", "/livez", "/readyz", "/startupz"):
            assert ask(port, path)[0] == 200
            assert ask(port, path, "POST")[0] == 405
            assert daemon.request("GET", path)[0] == 404
        for path in ("/status", "/dlq", "/invoke/orders", "/stop", "/"):
            assert ask(port, path)[0] == 404
            assert ask(port, path, "POST")[0] == 405
        daemon.request("POST", "/invoke/orders", b"{}")
        direct = {"function": "orders", "trigger": ""}
        assert scraped(port).of("faas_invocations_total", **direct) == 1
        with DaemonProcess(config) as second:  # of the same address
            assert second.wait(20) == 78
            assert "telemetry.metrics.listen" in second.text
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in second.text
        assert daemon.stop() == 0
