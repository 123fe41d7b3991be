"""What a handler is told of its trace, and what its worker tells of those of its records."""

import anyio
import orjson
import pytest

from kafka_batches import Written, batch
from pool_scene import function, pool
from streamfaas.flow import trace
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.trace import Context

SOURCE = """
import os, subprocess, sys

def main(event, context):
    if event.get("records"):
        if any(not record["key"] for each in event["records"].values() for record in each):
            raise KeyError("key")
        return len(event["records"]["t-0"])
    if event["do"] == "spoil":
        os.environ.pop("TRACEPARENT", None)
        os.environ["_X_AMZN_TRACE_ID"] = "mine"
        os.environ = {}
    line = "import os; print(os.environ.get('TRACEPARENT'))"
    child = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True)
    return [
        os.environ.get("TRACEPARENT"), os.environ.get("_X_AMZN_TRACE_ID"), child.stdout.strip()
    ]
"""

pytestmark = pytest.mark.slow


async def told(s, context, do="tell"):
    event = Event(Encoding.JSON, (orjson.dumps({"do": do}),))
    outcome = await s.pool.call(Invocation("an-id", "f", event, context=context))
    return orjson.loads(outcome.answer)


def test_each_invocation_is_told_its_own_span_and_none_that_is_not(tmp_path):
    first, second = Context(77 << 64, 5, sampled=True), Context(78 << 64, 6)

    async def body(s):
        for context in (first, second):
            text = context.traceparent
            assert await told(s, context) == [text, context.xray, text]
        assert await told(s, None) == [None, "", "None"]
        await told(s, first, "spoil")
        assert (await told(s, second))[2] == second.traceparent

    pool(tmp_path, body, function(tmp_path, source=SOURCE, timeout_seconds=20.0))


def raw(*keys):
    """A raw event of records with these keys, each from a producer of its own."""
    written = [
        Written(at, 1, 0, key, b"v", (("traceparent", sent(at).traceparent.encode()),))
        for at, key in enumerate(keys)
    ]
    describe = {
        "topic": "t", "partition": 0, "first": 0, "last": len(keys) - 1, "servers": "k:1",
        "checked": False,
    }  # fmt: skip
    return Event(Encoding.KAFKA, (batch(written),), orjson.dumps(describe))


def sent(at):
    return Context(at // 2 + 1, at + 1, sampled=True)


@pytest.mark.parametrize(
    ("sampled", "keys", "links"),
    [
        (True, [b"k"] * 6, [sent(0), sent(2), sent(4)]),
        (False, [b"k"] * 6, []),
        (False, [b"k"] * 5 + [None], [sent(0), sent(2), sent(4)]),
        (True, [None] * 2, [sent(0)]),
        (None, [None] * 2, []),
    ],
)
def test_a_sampled_invocation_or_a_failed_one_tells_of_the_producers_of_raw_records(
    tmp_path, sampled, keys, links
):
    context = None if sampled is None else Context(9, 9, sampled)

    async def body(s):
        for _ in range(2):
            call = Invocation("an-id", "f", raw(*keys), context=context)
            outcome = await s.pool.call(call)
            found = trace.handed_back(outcome.report.producers)
            assert found == trace.Links(tuple(links))
            if None in keys:
                assert outcome.type == "KeyError"
            else:
                assert outcome.answer == b"%d" % len(keys)

    pool(tmp_path, body, function(tmp_path, source=SOURCE, timeout_seconds=20.0))


def test_a_large_event_finds_its_context_too(tmp_path):
    context = Context(77, 5, sampled=True)

    async def body(s):
        for size in (3_000, 5_000, 300_000):
            event = Event(Encoding.JSON, (orjson.dumps({"do": "tell", "pad": "x" * size}),))
            with anyio.fail_after(20):
                call = Invocation("an-id", "f", event, client_context=b"{}", context=context)
                outcome = await s.pool.call(call)
            assert orjson.loads(outcome.answer)[0] == context.traceparent

    pool(tmp_path, body, function(tmp_path, source=SOURCE, timeout_seconds=20.0))
