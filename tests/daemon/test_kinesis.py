"""A Kinesis stream through the whole daemon, killed in the middle."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from click.testing import CliRunner

from daemon_process import DaemonProcess
from kinesis_project import executed, ids, produced, project
from parts import CHECKOUT
from streamfaas.cli.main import main as command


@pytest.mark.slow
def test_ten_thousand_records_reach_the_function_over_a_kill(tmp_path, kinesalite):
    asyncio.run(kinesalite.create("through", 3))
    produced(kinesalite, "through", range(5_000))
    config = project(tmp_path, kinesalite, "through")
    env = {"SECRET": "a-secret"}
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: len(executed(tmp_path)) > 20, 60)
        daemon.process.kill()
        daemon.wait()
    before = len(ids(tmp_path))
    assert before < 10_000
    produced(kinesalite, "through", range(5_000, 10_000))
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: len(set(ids(tmp_path))) == 10_000, 90)
        daemon.signal()
        assert daemon.wait() == 0
    found = ids(tmp_path)
    assert set(found) == {str(number) for number in range(10_000)}
    assert len(found) - 10_000 <= 5_000  # what was not marked as done when it was killed
    with DaemonProcess(config, env=env) as daemon:  # and nothing comes again after a stop
        daemon.wait_ready()
        daemon.signal()
        assert daemon.wait() == 0
    assert len(ids(tmp_path)) == len(found)


@pytest.mark.slow
def test_the_example_counts_clicks_and_stops_at_the_one_that_it_cannot_read(tmp_path, kinesalite):
    """configs/kinesis.yaml as it stands: a bad click ends where bad clicks go, all others are
    counted."""
    config = tmp_path / "kinesis.yaml"
    text = (CHECKOUT / "configs" / "kinesis.yaml").read_text()
    config.write_text(text.replace("retries: {max: 5}", "retries: {max: 1, backoff: 10ms..20ms}"))
    shutil.copytree(CHECKOUT / "configs" / "functions", tmp_path / "functions")
    asyncio.run(kinesalite.create("clicks", 2))
    clicks = [(f"user {n % 5}", b'{"page": "/%d"}' % (n % 3)) for n in range(40)]
    clicks[17] = ("user 2", b"no click at all")
    asyncio.run(kinesalite.put("clicks", clicks))
    env = {"KINESIS_URL": kinesalite.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
           "AWS_REGION": "us-east-1"}  # fmt: skip
    with DaemonProcess(config, env=env) as daemon:
        done = daemon.wait_for(
            lambda status: (
                (counted := status["triggers"]["clicks/clicks"])["records"] == 39
                and counted["set_aside"] == 1
            )
        )
        assert done
        sent = [sys.executable, "-m", "streamfaas", "send", "clicks/clicks", '{"page": "/send"}']
        told = subprocess.run(
            [*sent, "--config", str(config)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **env},
        )
        assert told.returncode == 0, told.stderr
        assert "sent to stream clicks: shardId-" in told.stdout
        assert "→ clicks  200" in told.stdout
        daemon.signal()
        assert daemon.wait() == 0
    (letter,) = map(json.loads, (tmp_path / "dead-clicks.jsonl").read_text().splitlines())
    info = letter["KinesisBatchInfo"]
    assert info["batchSize"] == 1
    assert info["streamArn"].endswith(":stream/clicks")
    (record,) = letter["payload"]["Records"]
    assert record["kinesis"]["sequenceNumber"] == info["startSequenceNumber"]


@pytest.mark.slow
def test_who_sends_what_the_filter_leaves_out_is_told_so(tmp_path, kinesalite):
    asyncio.run(kinesalite.create("left-out", 1))
    path = project(tmp_path, kinesalite, "left-out")
    config = json.loads(path.read_text())
    config["functions"]["clicks"]["triggers"]["clicks"]["filter"] = {"data": {"id": [1]}}
    path.write_text(json.dumps(config))
    env = {"SECRET": "a-secret"}
    with DaemonProcess(path, env=env) as daemon:
        daemon.wait_ready()
        sent = [sys.executable, "-m", "streamfaas", "send", "clicks/clicks", '{"id": 2}']
        told = subprocess.run(
            [*sent, "--config", str(path)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **env},
        )
        daemon.signal()
        assert daemon.wait() == 0
    assert told.returncode == 0, told.stderr
    assert "filtered: the trigger's filter leaves it out" in told.stdout
    assert "not run yet" not in told.stdout


def asked(daemon, *arguments):
    socket = str(daemon.state / "streamfaas.sock")
    result = CliRunner().invoke(command, [*arguments, "--socket", socket])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_a_stream_is_read_again_over_kills_all_of_it_or_nothing(tmp_path, kinesalite):
    asyncio.run(kinesalite.create("again", 3))
    produced(kinesalite, "again", range(300))
    everything = {str(number) for number in range(300)}
    config, env = project(tmp_path, kinesalite, "again"), {"SECRET": "a-secret"}
    seek = ("seek", "clicks/clicks", "--to")

    def done(status):
        lanes = status["triggers"]["clicks/clicks"]["lanes"]
        return len(lanes) == 3 and all(lane["lag"] == 0 for lane in lanes)

    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda status: len(ids(tmp_path)) == 300 and done(status))
        told = asked(daemon, *seek, "earliest", "--dry-run")
        assert told.count("earliest") == 3
        assert told.endswith("how many records lie between two places no shard says (?)\n")
        asked(daemon, *seek, "earliest")
        daemon.process.kill()
        daemon.wait()
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(done)
        assert set(Counter(ids(tmp_path)[300:])) == everything
        before, socket = len(ids(tmp_path)), str(daemon.state / "streamfaas.sock")
        again = [*seek, "earliest", "--socket", socket]
        asking = threading.Thread(target=lambda: CliRunner().invoke(command, again))
        asking.start()
        time.sleep(0.02)
        daemon.process.kill()
        daemon.wait()
        asking.join()
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(done)
        assert set(ids(tmp_path)[before:]) in (set(), everything)
        asked(daemon, "pause", "clicks/clicks", "--wait")
        before = len(ids(tmp_path))
        produced(kinesalite, "again", range(300, 350))
        asked(daemon, *seek, "latest", "--yes")
        produced(kinesalite, "again", range(350, 370))
        asked(daemon, "resume", "clicks/clicks")
        daemon.wait_for(lambda status: len(ids(tmp_path)) >= before + 20 and done(status))
        assert sorted(map(int, ids(tmp_path)[before:])) == list(range(350, 370))
        daemon.wait_told("sought clicks/clicks shardId-000000000000: from after ")
        assert daemon.stop() == 0
