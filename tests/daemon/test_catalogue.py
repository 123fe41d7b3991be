from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon_process import DaemonProcess, write_project
from store_rows import intent
from streamfaas.api.server import Request
from streamfaas.cli.main import main as command
from streamfaas.daemon.catalogue import Catalogue
from streamfaas.flow.letters import Attribute, Letter
from streamfaas.store import Store
from streamfaas.store.outbox import Outbox


@asynccontextmanager
async def catalogue(folder, told=None):
    """A catalogue of six failures, the last of which is still on its way."""
    store = await Store.open(folder / "state" / "streamfaas.db")
    emit = (told if told is not None else []).append
    outbox = Outbox(store, emit=emit, wall_clock=lambda: 100.0)
    for number in range(1, 7):
        mapping = "shop/orders" if number % 2 else "shop/files"
        await outbox.intend(replace(intent(number), mapping=mapping))
        await outbox.delivered(f"id-{number}")
    await outbox.settled_ids(f"id-{number}" for number in range(1, 6))
    try:
        yield outbox, Catalogue(outbox, emit=emit, wall_clock=lambda: 100.0)
    finally:
        await store.close()


async def ask(made, method, path, body=b""):
    answer = await made.handle(Request(method, path, body))
    return answer.status, json.loads(answer.body)


async def purge(made, **asked):
    return await ask(made, "POST", "/dlq/purge", json.dumps(asked).encode())


def test_pages_follow_each_other_to_the_end(tmp_path):
    async def main():
        async with catalogue(tmp_path) as (_, made):
            found, path = [], "/dlq?limit=4"
            while path:
                status, page = await ask(made, "GET", path)
                assert status == 200
                found.append([entry["id"] for entry in page["entries"]])
                path = page["next"] and f"/dlq?limit=4&before={quote(page['next'])}"
            assert found == [["id-6", "id-5", "id-4", "id-3"], ["id-2", "id-1"]]
            _, page = await ask(made, "GET", "/dlq?mapping=shop%2Ffiles")
            assert [entry["id"] for entry in page["entries"]] == ["id-6", "id-4", "id-2"]
            assert page["entries"][0] == {
                "id": "id-6",
                "mapping": "shop/files",
                "lane": "orders-0",
                "ranges": [[6, 6]],
                "records": 1,
                "kind": "failure",
                "condition": "RetryAttemptsExhausted",
                "state": "delivered",
                "destination": "the file dead.jsonl",
                "made_ms": 6,
                "hops": 1,
                "replays": 0,
                "bytes": intent(6).size_bytes,
            }

    asyncio.run(main())


def test_an_entry_is_shown_whole_and_what_is_no_json_as_text(tmp_path):
    async def main():
        async with catalogue(tmp_path) as (outbox, made):
            status, found = await ask(made, "GET", "/dlq/id-3")
            assert (status, found["event"]) == (200, {"Records": ["000003"]})
            document = {"number": "000003"}
            letter = {"id": "letter-3", "key": "key 3", "attributes": {}, "document": document}
            assert found["letters"] == [letter]
            odd = (
                Letter("a", b"no json \xfe", b"\xff"),
                Letter("b", b"{}", attributes=(Attribute("RequestID", "String", "r"),)),
            )
            await outbox.intend(replace(intent(9), id="a+1/b", letters=odd, event=None))
            _, found = await ask(made, "GET", f"/dlq/{quote('a+1/b', safe='')}")
            assert found["event"] is None
            assert [tuple(each.values()) for each in found["letters"]] == [
                ("a", "\\xff", {}, "no json \\xfe"),
                ("b", None, {"RequestID": "r"}, {}),
            ]
            status, found = await ask(made, "GET", "/dlq/nobody")
            assert (status, found) == (404, {"error": "there is no entry 'nobody'"})

    asyncio.run(main())


def test_entries_are_purged_by_name_trigger_and_age_but_not_what_is_on_its_way(tmp_path):
    told = []

    async def main():
        async with catalogue(tmp_path, told) as (_, made):
            assert await purge(made, ids=["id-1", "id-6", "nobody"]) == (200, {"purged": 1})
            assert await purge(made, mapping="shop/files") == (200, {"purged": 2})
            assert await purge(made, older_than_seconds=99.9955) == (200, {"purged": 1})
            assert await purge(made, older_than_seconds=0) == (200, {"purged": 1})
            assert await purge(made, older_than_seconds=0) == (200, {"purged": 0})
            assert await purge(made, ids=["id-6"], force=True) == (200, {"purged": 1})

    asyncio.run(main())
    assert [signal.detail for signal in told if signal.step == "catalogue purged"] == [
        "1 entries, as was asked",
        "2 entries, as was asked",
        "1 entries, as was asked",
        "1 entries, as was asked",
        "1 entries, as was asked",
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("GET", "/dlq?limit=0", b"", 400, "limit: "),
        ("GET", "/dlq?limit=many", b"", 400, "limit: "),
        ("GET", "/dlq?order=up", b"", 400, "order: "),
        ("GET", "/dlq?before=yesterday", b"", 400, "before: "),
        ("POST", "/dlq/purge", b"{", 400, "Invalid JSON"),
        ("POST", "/dlq/purge", b"[]", 400, "Input should be an object"),
        ("POST", "/dlq/purge", b"{}", 400, "which ones?"),
        ("POST", "/dlq/purge", b'{"force":true}', 400, "which ones?"),
        ("POST", "/dlq/purge", b'{"ids":[1]}', 400, "ids.0: "),
        ("POST", "/dlq/purge", b'{"older_than_seconds":-1}', 400, "older_than_seconds: "),
        ("POST", "/dlq/purge", b'{"older_than_seconds":"1"}', 400, "older_than_seconds: "),
        ("POST", "/dlq/purge", b'{"all":true}', 400, "all: "),
        ("PUT", "/dlq", b"", 405, "PUT is not for /dlq"),
        ("DELETE", "/dlq/id-1", b"", 405, "DELETE is not for /dlq/id-1"),
    ],
)
def test_what_cannot_be_understood_is_told_and_changes_nothing(
    tmp_path, method, path, body, status, told
):
    async def main():
        async with catalogue(tmp_path) as (outbox, made):
            found, answer = await ask(made, method, path, body)
            assert found == status
            assert told in answer["error"]
            assert len(await outbox.list()) == 6

    asyncio.run(main())


def test_a_store_that_fails_is_told(tmp_path):
    async def main():
        async with catalogue(tmp_path) as (outbox, made):
            await outbox._store.close()
            status, answer = await ask(made, "GET", "/dlq")
            assert (status, "closed" in answer["error"]) == (503, True)

    asyncio.run(main())


@pytest.mark.slow
@settings(max_examples=40)
@given(st.text(max_size=40), st.binary(max_size=40))
def test_any_request_is_answered(path, body):
    class Nothing:
        async def list(self, *arguments, **named):
            return ()

        async def show(self, id_):
            return None

        async def purge(self, **asked):
            return 0

    made = Catalogue(Nothing(), emit=lambda signal: None)
    for method in ("GET", "POST"):
        for start in ("/dlq/", "/dlq?", "/dlq/purge?"):
            answer = asyncio.run(made.handle(Request(method, start + path, body)))
            assert answer.status in {200, 400, 404, 405}
            assert json.loads(answer.body)


CONFIG = """
version: 1
state: {path: ./state}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream:
        type: memory
        topic: orders
        records: 40
        rate: 2000
        batch: {size: 10, window: 1s}
        retries: {max: 1, backoff: 10ms..20ms, bisect: false}
        on_failure: {type: file, path: ./dead.jsonl}
"""


@pytest.mark.slow
def test_what_a_running_daemon_put_aside_is_listed_shown_and_purged_by_the_command(tmp_path):
    source = "def main(event, context):\n    raise KeyError('total')\n"
    config = write_project(tmp_path, CONFIG, orders=source)

    def dlq(*arguments):
        result = CliRunner().invoke(command, ["dlq", *arguments, "-c", str(config), "-o", "json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda status: status["triggers"]["orders/stream"]["set_aside"] == 40)
        entries = dlq("list", "-m", "orders/stream")["entries"]
        assert sorted(entry["ranges"] for entry in entries) == [
            [[first, first + 9]] for first in (0, 10, 20, 30)
        ]
        whole = dlq("show", entries[0]["id"])
        assert whole["condition"] == "RetryAttemptsExhausted"
        assert len(whole["event"]["records"]["orders-0"]) == 10
        documents = [
            json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()
        ]
        assert whole["letters"][0]["document"] in documents
        assert dlq("purge", entries[0]["id"], "--force") == {"purged": 1}
        assert daemon.stop() == 0
        assert "catalogue purged" in daemon.text
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        kept = {entry["id"] for entry in dlq("list")["entries"]}
        assert {entry["id"] for entry in entries[1:]} <= kept
        assert daemon.stop() == 0
