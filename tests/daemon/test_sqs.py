"""A queue through the whole daemon: killed in the middle, throttled, shared, and in order."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict

import pytest

from daemon_process import DaemonProcess
from parts import CHECKOUT
from sqs_project import bodies, created, executed, left, project, ran, sent

ENV = {"SECRET": "a-secret"}
_NUMBERS = itertools.count()


def a_queue(kind=""):
    return f"daemon-{os.getpid()}-{next(_NUMBERS)}{kind}"


@pytest.mark.slow
def test_ten_thousand_messages_reach_the_function_over_a_kill(tmp_path, ministack):
    queue = a_queue()
    url = created(ministack, queue)
    sent(ministack, url, range(5_000))
    config = project(tmp_path, ministack, queue, visibility_timeout="3s")
    with DaemonProcess(config, env=ENV) as daemon:
        daemon.wait_for(lambda _: len(executed(tmp_path)) > 20, 60)
        daemon.process.kill()
        daemon.wait()
    before = len(bodies(tmp_path))
    assert before < 10_000
    sent(ministack, url, range(5_000, 10_000))
    with DaemonProcess(config, env=ENV) as daemon:
        daemon.wait_for(lambda _: len(set(bodies(tmp_path))) == 10_000, 120)
        daemon.wait_for(lambda _: left(ministack, url) == (0, 0), 60)
        daemon.signal()
        assert daemon.wait() == 0
    found = bodies(tmp_path)
    assert set(found) == {str(number) for number in range(10_000)}
    assert len(found) - 10_000 <= 500  # what was in hand when it was killed


@pytest.mark.slow
def test_a_function_that_is_at_its_limit_has_every_message_at_its_first_receive(tmp_path, moto):
    """No message is received that no worker is free for: none comes near a dead-letter queue, and
    a stop gives nothing back that could have waited in the queue, but for what a receive may bring
    that is cut off then."""
    queue = a_queue()
    url = created(moto, queue, VisibilityTimeout="2")
    sent(moto, url, range(30))
    config = project(tmp_path, moto, queue, env={"PAUSE": "0.25"}, concurrency=1, batch={"size": 1})
    with DaemonProcess(config, env=ENV) as daemon:
        daemon.wait_for(lambda _: len(ran(tmp_path)) >= 3, 60)
        daemon.signal()
        assert daemon.wait() == 0
    with DaemonProcess(config, env=ENV) as daemon:
        daemon.wait_for(lambda _: len(set(bodies(tmp_path))) == 30, 60)
        daemon.signal()
        assert daemon.wait() == 0
    found = ran(tmp_path)
    assert len(found) == 30
    assert sum(receives != 1 for _, receives in found) <= 1
    assert left(moto, url) == (0, 0)


@pytest.mark.slow
def test_groups_stay_in_order_over_failures_and_a_kill(tmp_path, ministack):
    """And with two daemons on the queue."""
    queue = a_queue(".fifo")
    url = created(ministack, queue)
    sent(ministack, url, range(200), groups=5)
    asked = {"visibility_timeout": "2s", "retries": {"backoff": "1s..1s"}}
    failing = {"FAILING": "50 73"}
    first = project(tmp_path, ministack, queue, env=failing, **asked)
    with DaemonProcess(first, env=ENV) as daemon:
        daemon.wait_for(lambda _: {"73", "50"} <= set(bodies(tmp_path)), 60)
        time.sleep(1.5)  # and they fail once more
        daemon.process.kill()
        daemon.wait()
    for group, number in ((0, 50), (3, 73)):
        after = {str(each) for each in range(number + 5, 200, 5) if each % 5 == group}
        tried = [pairs for who, pairs, _ in executed(tmp_path) if who == f"g{group}"]
        assert len([each for each in tried if str(number) in dict(each)]) >= 2
        # what is behind it may have been in a batch with it, but never in one of its own
        assert all(str(number) in dict(each) for each in tried if after & {b for b, _ in each})
    mended = project(tmp_path, ministack, queue, **asked)
    other = project(tmp_path, ministack, queue, name="other", **asked)
    with DaemonProcess(mended, env=ENV) as daemon, DaemonProcess(other, env=ENV) as second:
        daemon.wait_for(lambda _: len(set(bodies(tmp_path))) == 200, 90)
        daemon.wait_for(lambda _: left(ministack, url) == (0, 0), 60)
        for each in (daemon, second):
            each.signal()
            assert each.wait() == 0
    done = defaultdict(list)
    for group, pairs, _ in executed(tmp_path):
        for body, _ in pairs:
            if body not in done[group]:
                done[group].append(body)
    for number in range(5):
        assert done[f"g{number}"] == [str(each) for each in range(number, 200, 5)]


@pytest.mark.slow
def test_the_example_sends_mails_and_puts_the_one_aside_that_it_cannot_read(tmp_path, moto):
    """configs/sqs.yaml as it stands."""
    config = tmp_path / "sqs.yaml"
    text = (CHECKOUT / "configs" / "sqs.yaml").read_text()
    config.write_text(text.replace("retries: {max: 3}", "retries: {max: 1, backoff: 10ms..20ms}"))
    shutil.copytree(CHECKOUT / "configs" / "functions", tmp_path / "functions")
    url = created(moto, "mails")
    created(moto, "mails-in-order.fifo")
    sent(moto, url, [*(json.dumps({"to": f"user{n}@example.com"}) for n in range(20)), "no mail"])
    env = {"SQS_URL": moto.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
           "AWS_REGION": "us-east-1"}  # fmt: skip
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(
            lambda status: (
                (counted := status["triggers"]["mails/mails"])["records"] == 20
                and counted["set_aside"] == 1
            )
        )
        for trigger in ("mails", "in-order"):
            command = [sys.executable, "-m", "streamfaas", "send", f"mails/{trigger}"]
            told = subprocess.run(
                [*command, '{"to": "me@example.com"}', "--config", str(config)],
                check=False,
                capture_output=True,
                text=True,
                env={**os.environ, **env},
            )
            assert told.returncode == 0, told.stderr
            assert "sent to queue mails" in told.stdout
            assert "→ mails  200" in told.stdout
        daemon.signal()
        assert daemon.wait() == 0
    (letter,) = map(json.loads, (tmp_path / "dead-mails.jsonl").read_text().splitlines())
    info = letter["SQSBatchInfo"]
    assert info["batchSize"] == 1
    assert info["queueArn"].endswith(":mails")
    (record,) = letter["payload"]["Records"]
    assert record["messageId"] == info["messageIds"][0]
    assert record["body"] == "no mail"
