"""The events of tumbling windows, as AWS documents them."""

import json

from streamfaas.flow.pane import Pane, Window
from streamfaas.wire.window_event import framed


def test_the_members_of_a_window_stand_behind_the_records():
    pane = Pane(Window(1607497440000, 1607497560000), b'{"1": "state 1"}')
    event = framed(b'{"Records":[]}', pane, "shardId-000000000006", "arn:aws:kinesis:…")
    assert event.decode() == (
        '{"Records":[],"window":{"start":"2020-12-09T07:04:00Z","end":"2020-12-09T07:06:00Z"},'
        '"state":{"1": "state 1"},"shardId":"shardId-000000000006",'
        '"eventSourceARN":"arn:aws:kinesis:…",'
        '"isFinalInvokeForWindow":false,"isWindowTerminatedEarly":false}'
    )


def test_the_last_event_says_so_and_moments_that_are_no_seconds_are_told_exactly():
    pane = Pane(Window(1500, 3000), b"{}", final=True, early=True)
    event = json.loads(framed(b'{"records":{}}', pane, "orders-0", ""))
    assert event["window"] == {"start": "1970-01-01T00:00:01.500Z", "end": "1970-01-01T00:00:03Z"}
    assert event["isFinalInvokeForWindow"] is True
    assert event["isWindowTerminatedEarly"] is True
