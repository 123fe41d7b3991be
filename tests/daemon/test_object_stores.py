"""Triggers on object stores made into feeds, one for each way and bucket."""

import json

import anyio
import pytest

from source_subjects import loop_clock, silent
from streamfaas.config.check import check
from streamfaas.daemon import object_stores
from streamfaas.daemon.desks import DeskRoom
from streamfaas.sources.objects.feed import Means
from streamfaas.store import Store

STORE = {"type": "aws", "region": "us-east-1", "endpoint_url": "http://127.0.0.1:1",
         "access_key_id": "a", "secret_access_key": "${SECRET}"}  # fmt: skip
KAFKA = {"type": "kafka", "brokers": ["127.0.0.1:1"]}
BEHIND = {"reconcile": "10m", "store": "s"}
CASES = {
    "webhook": ({}, ["webhook at 127.0.0.1:9001/f/t"], False),
    "webhook, listed": (
        {"via": "webhook", "path": "/x", **BEHIND},
        ["webhook at 127.0.0.1:9001/x", "listing of one", "listing of two"],
        True,
    ),
    "sqs, listed": (
        {"via": "sqs", "connection": "s", "queue": "q", "reconcile": "10m"},
        ["the queue q", "listing of one", "listing of two"],
        True,
    ),
    "kafka, listed": (
        {"via": "kafka", "connection": "k", "topics": ["t"], "start": "latest", **BEHIND},
        ["the topic t", "listing of one", "listing of two"],
        True,
    ),
    "listen": (
        {"via": "listen", "connection": "s"},
        ["stream of one", "stream of two", "listing of one", "listing of two"],
        True,
    ),
    "poll": ({"via": "poll", "connection": "s"}, ["listing of one", "listing of two"], True),
}


def loaded(folder, trigger):
    (folder / "code").mkdir()
    (folder / "code" / "app.py").write_text("def main(event, context): pass\n")
    asked = {"type": "object-store", "via": "webhook", "bucket": ["one", "two"], **trigger}
    function = {"code": "code", "handler": "app.main", "triggers": {"t": asked}}
    config = {"version": 1, "connections": {"s": STORE, "k": KAFKA}, "functions": {"f": function}}
    made, problems = check(json.dumps(config), name="c", base_dir=folder, environ={"SECRET": "x"})
    assert made is not None, problems
    return made


@pytest.mark.parametrize("case", CASES)
def test_each_way_has_its_feeds_and_a_listing_for_each_bucket_where_there_is_one(case, tmp_path):
    trigger, names, listed = CASES[case]
    config = loaded(tmp_path, trigger)

    async def main():
        store = await Store.open(tmp_path / "state" / "streamfaas.db")
        try:
            options = object_stores.options(config, config.functions["f"].triggers["t"])
            desks = DeskRoom({})
            means = Means("f/t", store, loop_clock, silent, lambda: None, desks)
            return options, [make(means).name for make in options.feeds]
        finally:
            await store.close()

    options, found = anyio.run(main)
    assert found == names
    assert options.listed == listed


def test_the_addresses_are_those_of_all_triggers_with_their_paths(tmp_path):
    assert object_stores.posted(loaded(tmp_path, {})) == {"127.0.0.1:9001": frozenset({"/f/t"})}
