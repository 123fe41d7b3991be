import json

import pytest
import uvloop
from click.testing import CliRunner

from daemon_process import DaemonProcess, write_project
from streamfaas.cli.main import main
from streaming import listening

CONFIG = """
version: 1
state: {path: ./state}
connections:
  main: {type: kafka, brokers: ["%s"]}
functions:
  hello:
    code: hello
    handler: app.main
    isolation: best-effort
    triggers:
      orders: {type: kafka, connection: main, topics: [%s, %s], start: earliest}
"""
HANDLER = """
import base64

def main(event, context):
    for records in event["records"].values():
        for record in records:
            if record["value"] and base64.b64decode(record["value"]) == b"bad":
                raise KeyError("total")
"""
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


def run(command, *arguments):
    return CliRunner().invoke(main, [command, *map(str, arguments)])


def test_what_is_sent_to_a_topic_is_seen_to_pass_and_followed(tmp_path, kafka):
    async def topics():
        return [await kafka.create_topic(stem) for stem in ("orders", "returns")]

    orders, returns = uvloop.run(topics())
    config = write_project(tmp_path, CONFIG % (kafka.bootstrap, orders, returns), hello=HANDLER)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        daemon.wait_for(lambda status: status["triggers"]["hello/orders"]["lanes"])

        which = run("send", "hello/orders", "x", "-c", config)
        assert which.exit_code == 2
        assert orders in which.output
        assert "--topic" in which.output

        with listening(
            daemon.state / "streamfaas.sock", "/tap?target=hello/orders&payload=1"
        ) as tap:
            sent = run(
                "send", "hello/orders", "schön", "--topic", orders, "--key", "k", "-c", config,
                "-H", "a=b", "-H", f"traceparent={PARENT}",
            )  # fmt: skip
            assert json.loads(tap.readline()) == {"what": "watching"}
            passed = json.loads(tap.readline())
        assert sent.exit_code == 0, sent.output
        first, second = sent.output.splitlines()[:2]
        place = first.partition(": ")[2]
        assert first == f"sent to topic {orders} on {kafka.bootstrap}: {place}"
        assert second.startswith(f"  {place} → hello  200  ")

        lane, _, offset = place.partition("@")
        assert (passed["lane"], passed["first"], passed["ok"]) == (lane, int(offset), True)
        (record,) = passed["payload"]["records"][lane]
        assert (record["key"], record["value"]) == ("aw==", "c2Now7Zu")
        assert record["headers"] == [{"a": [98]}, {"traceparent": list(PARENT.encode())}]

        many = run(
            "send", "hello/orders", "--sample", "--topic", returns, "--count", 200, "-c", config
        )
        assert "200 succeeded" in many.output, many.output

        bad = run("send", "hello/orders", "bad", "--topic", returns, "-c", config)
        assert bad.exit_code == 1
        assert "KeyError: 'total'  app.py:8  attempt 1, next in" in bad.output
        daemon.stop()
