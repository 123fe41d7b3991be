import json
import re

import pytest
from click.testing import CliRunner

from daemon_process import DaemonProcess, write_project
from streamfaas.cli.main import main
from streamfaas.cli.send import _told_at_the_end

CONFIG = """
version: 1
state: {{path: ./state}}
functions:
  hello:
    code: hello
    handler: app.main
    isolation: best-effort
    asynchronous: {{retries: 0}}
    triggers:
      orders:
        type: memory
        topic: orders
        partitions: 2
        records: 0
        filter: {{value: {{total: [{{numeric: [">=", 0]}}]}}}}
        retries: {{max: 1, backoff: 100ms..100ms}}
        on_failure: {{type: file, path: {folder}/dead.jsonl}}
      stuck: {{type: memory, topic: stuck, records: 0, retries: {{backoff: 30s..30s}}}}
      inbox:
        type: object-store
        via: directory
        path: {folder}/inbox
        bucket: inbox
        prefix: in/
        suffix: .txt
        settle: 0s
"""
HANDLER = """
import base64, json

def main(event, context):
    if "Records" in event:
        return event["Records"][0]["s3"]["object"]["key"]
    for records in event.get("records", {}).values():
        for record in records:
            order = json.loads(base64.b64decode(record["value"]))
            print("customer", order["customer"])
    return event
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("send")
    (folder / "inbox").mkdir()
    config = write_project(folder, CONFIG.format(folder=folder), hello=HANDLER)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        yield config
        assert daemon.stop() == 0


@pytest.fixture
def send(project):
    def run(*arguments, stdin=None):
        return CliRunner().invoke(main, ["send", *map(str, arguments), "-c", project], input=stdin)

    return run


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_record_is_followed_until_it_is_settled(send):
    result = send("hello/orders", '{"customer": "c", "total": 1}', "--key", "c", "--partition", 1)
    assert result.exit_code == 0
    sent, done = result.output.splitlines()[:2]
    place = sent.removeprefix("sent to simulated topic orders: ")
    assert place.startswith("orders-1@")
    assert done.startswith(f"  {place} → hello  200  ")


def test_what_the_handler_sees_is_what_was_sent(send, project):
    result = send(
        "hello/orders", "-e", "-", "-k", "schlüssel", "-H", "a=b", "-o", "json",
        stdin='{"customer": "c", "total": 2}',
    )  # fmt: skip
    assert [row["what"] for row in rows(result)] == ["sent", "attempt", "succeeded", "end"]
    parent = "00-11111111111111111111111111111111-2222222222222222-01"
    given = send(
        "hello/orders", '{"customer": 1, "total": 1}', "-H", f"traceparent={parent}", "-o", "json"
    )
    assert rows(given)[0]["trace_id"] == ""


def test_a_failure_tells_what_where_and_what_comes_next(send, project):
    result = send("hello/orders", '{"total": 1}')
    assert result.exit_code == 1
    assert (
        "✗ hello  KeyError: 'customer'  app.py:10  attempt 1 of 2, next in 0.1 s" in result.output
    )
    assert f"mend {project.parent}/hello/app.py:10 " in result.output
    assert "streamfaas tap hello -e -p " in result.output
    trace_id = re.search("streamfaas traces ([0-9a-f]{12})", result.output)[1]
    traced = CliRunner().invoke(main, ["traces", trace_id, "-c", str(project)])
    assert "hello" in traced.output, traced.output


@pytest.mark.parametrize(
    ("trigger", "returned", "skipped"),
    [("f/orders", 0, 1), ("f/mails", 1, 0), ("f/asynchronous", 1, 0)],
)
def test_to_skip_is_advised_where_others_are_held_up(capsys, trigger, returned, skipped):
    row = {"trigger": trigger, "failing": True, "returned": returned, "code": "/f",
           "watches": False, "trace_id": ""}  # fmt: skip
    _told_at_the_end(
        {**row, "set_aside": False, "waiting": False, "why": ""}, {"place": "app.py:3"}
    )
    told = capsys.readouterr().out
    assert "streamfaas logs f " in told
    assert told.count("streamfaas skip") == skipped


def test_a_failure_can_be_waited_through_until_it_is_set_aside(send):
    result = send("hello/orders", '{"total": 1}', "--through")
    assert result.exit_code == 1
    assert "attempt 2 of 2" in result.output
    assert "set aside" in result.output
    assert "streamfaas dlq list hello/orders" in result.output


def test_who_waits_behind_a_failure_is_told_so_before_long(send):
    assert send("hello/stuck", '{"total": 1}').exit_code == 1
    result = send("hello/stuck", '{"customer": "c"}')
    assert result.exit_code == 1
    assert "not run yet: stuck-0 is retrying, 2 records behind: KeyError" in result.output


def test_a_trigger_that_is_paused_runs_it_later(send, project):
    assert CliRunner().invoke(main, ["pause", "hello/orders", "-c", str(project)]).exit_code == 0
    result = send("hello/orders", "--sample")
    assert result.exit_code == 1
    assert "paused: streamfaas resume hello/orders" in result.output
    assert CliRunner().invoke(main, ["resume", "hello/orders", "-c", str(project)]).exit_code == 0


def test_what_the_filter_leaves_out_is_told_and_is_no_failure(send):
    result = send("hello/orders", '{"total": -1}')
    assert result.exit_code == 0
    assert "filtered" in result.output


def test_many_are_summed_up(send):
    result = send("hello/orders", "--sample", "--count", 300)
    assert (result.exit_code, result.output) == (
        0,
        "300 sent to simulated topic orders: 300 succeeded\n",
    )


def test_a_rate_is_kept(send):
    result = send("hello/orders", "--sample", "--count", 3, "--rate", 10, "-o", "json")
    times = [row["send_ms"] for row in rows(result) if row["what"] == "sent"]
    assert len(times) == 3
    assert rows(result)[-1]["succeeded"] == 3


def test_a_file_is_written_and_its_event_followed(send, project):
    result = send("hello/inbox", "-e", project, "--key", "in/a/b.txt")
    assert result.exit_code == 0
    assert "in/a/b.txt → hello  200" in result.output
    written = project.parent / "inbox" / "in" / "a" / "b.txt"
    assert written.read_bytes() == project.read_bytes()
    assert [path.name for path in written.parent.iterdir()] == ["b.txt"]
    again = send("hello/inbox", "other", "--key", "in/a/b.txt")
    assert again.exit_code == 2
    assert "is there: choose another key" in again.output
    assert send("hello/inbox", "--sample").exit_code == 0


@pytest.mark.parametrize(
    "key",
    ["in/../../x.txt", "/in/x.txt", "in//x.txt", "in/.x.txt", "x.txt", "in/x.jpg", "in/x\0.txt"],
)
def test_a_file_stays_in_the_bucket_and_is_one_that_the_trigger_tells_of(send, project, key):
    before = sorted(project.parent.rglob("*.txt"))
    result = send("hello/inbox", "x", "--key", key)
    assert result.exit_code == 2
    assert sorted(project.parent.rglob("*.txt")) == before


def test_no_link_leads_a_file_out_of_the_bucket(send, project):
    outside = project.parent / "outside"
    outside.mkdir()
    (project.parent / "inbox" / "in").mkdir(exist_ok=True)
    (project.parent / "inbox" / "in" / "link").symlink_to(outside)
    result = send("hello/inbox", "x", "--key", "in/link/x.txt")
    assert result.exit_code == 1
    assert list(outside.iterdir()) == []


def test_an_asynchronous_invocation_is_followed_too(send):
    result = send("hello/async", '{"a": 1}')
    assert result.exit_code == 0
    assert "→ hello  200" in result.output
    failed = send("hello/asynchronous", '{"records": {"a": [{"value": ""}]}}', "--through")
    assert failed.exit_code == 1
    assert "JSONDecodeError" in failed.output


def test_who_does_not_wait_is_told_where_it_lies(send):
    result = send("hello/orders", "--sample", "--no-wait")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) <= 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["hello", "x"], "is no FUNCTION/TRIGGER"),
        (["hello/orders"], "give one of"),
        (["hello/orders", "x", "--sample"], "give one of"),
        (["hello/orders", "x", "-H", "a"], "is no header"),
        (["hello/order", "x"], "did you mean hello/orders?"),
        (["hello/orders", "x", "--topic", "other"], "there is no other"),
        (["hello/orders", "x", "--partition", 2], "there are 2 partitions"),
        (["hello/orders", "-e", "/nowhere"], "cannot read the event"),
        (["hello/async", "x"], "the event is not JSON"),
        (["hello/async", "{}", "--key", "k"], "nothing beside it"),
        (["hello/inbox", "x", "-H", "a=b"], "no headers"),
        (["hello/inbox", "x", "--topic", "t"], "has no topics"),
    ],
)
def test_what_cannot_be_sent_is_said(send, arguments, told):
    result = send(*arguments)
    assert result.exit_code == 2
    assert told in result.output
