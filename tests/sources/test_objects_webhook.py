"""What is posted to a trigger: who may, what is answered, and when."""

import io
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
import anyio
import orjson
import pytest
import uvloop

from daemon_process import free_address
from object_worlds import driven, taken
from source_subjects import loop_clock
from streamfaas.daemon.desks import DeskRoom
from streamfaas.sources.objects import Objects, ObjectsOptions
from streamfaas.sources.objects.webhook import Webhook, WebhookOptions
from streamfaas.store import Store
from streamfaas.telemetry.signals import SourceChanged

SECRET = "wenn-der-hahn-kräht"
BEARER = {"authorization": f"Bearer {SECRET}"}
PUT = "ObjectCreated:Put"


def record(key="a.jpg", sequencer="0A", **changed):
    told = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "s3:ObjectCreated:Put",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "s3": {
            "bucket": {"name": "uploads"},
            "object": {"key": key, "size": 1, "eTag": "e", "sequencer": sequencer},
        },
    }
    return {**told, **changed}


def document(*records):
    return orjson.dumps({"Records": records or [record()]})


class Served:
    """A trigger, the address where it is posted to, and what it says."""

    def __init__(self, url, session, driver, told, source):
        self.url = url
        self.session = session
        self.driver = driver
        self.told = told
        self.source = source

    async def post(self, body=b"", method="POST", query="", **headers):
        if not isinstance(body, bytes):
            body = orjson.dumps(body)
        sent = {"content-type": "application/json", **headers}
        async with self.session.request(
            method, self.url + query, data=io.BytesIO(body), headers=sent
        ) as answer:
            return answer.status, (await answer.text()).strip(), answer.headers

    def remarks(self):
        return [each.reason for each in self.told if isinstance(each, SourceChanged)]


@asynccontextmanager
async def serving(folder, **options):
    pending_max = options.pop("pending_max", 1_000)
    address = free_address()
    desks = DeskRoom({address: frozenset({"/uploads", "/not-there"})})
    listener = desks.listener(address)
    listener.open()
    store = await Store.open(folder / "state" / "streamfaas.db")
    told = []
    asked = WebhookOptions(address, "/uploads", **options)
    source = Objects(
        "photos/uploads",
        ObjectsOptions(("uploads",), (partial(Webhook, asked),), pending_max=pending_max),
        store=store,
        clock=loop_clock,
        emit=told.append,
        desks=desks,
    )
    try:
        async with anyio.create_task_group() as tasks, aiohttp.ClientSession() as session:
            tasks.start_soon(listener.serve)
            async with driven(source) as driver:
                while source.view().state != "running":  # noqa: ASYNC110 - it tells nobody
                    await anyio.sleep(0.01)
                yield Served(f"http://{address}/uploads", session, driver, told, source)
            tasks.cancel_scope.cancel()
    finally:
        listener.close()
        await store.close()


def run(tmp_path, work, **options):
    async def main():
        async with serving(tmp_path, **options) as served:
            await work(served)

    uvloop.run(main())


@pytest.mark.slow
def test_what_is_posted_is_answered_once_it_is_kept_and_runs_once(tmp_path):
    async def work(served):
        assert (await served.post(document()))[:2] == (200, "1 new of 1")
        assert (await served.post(document()))[:2] == (200, "0 new of 1")
        assert (await served.post(document(record("b.jpg"), record("c.jpg"))))[0] == 200
        assert sorted(await taken(served.driver, 3)) == [
            (PUT, "a.jpg"), (PUT, "b.jpg"), (PUT, "c.jpg"),
        ]  # fmt: skip
        assert served.source.view().details["duplicates"] == 1

    run(tmp_path, work)


@pytest.mark.slow
def test_what_asks_whether_somebody_is_there_is_answered(tmp_path):
    async def work(served):
        assert (await served.post(method="HEAD"))[0] == 200
        assert (await served.post(method="GET"))[:2] == (200, "notifications are posted here")
        event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads"}
        assert (await served.post(event, **BEARER))[:2] == (200, "0 new of 0")

    run(tmp_path, work, secret=SECRET)


@pytest.mark.slow
def test_who_does_not_know_the_secret_is_refused_and_it_is_never_shown(tmp_path):
    async def work(served):
        for headers, query in (
            ({}, ""),
            ({"authorization": "Bearer nobody-knows"}, ""),
            ({"authorization": "Basic bm9ib2R5"}, ""),
            ({}, "?token=nobody-knows"),
        ):
            status, told, _ = await served.post(document(), query=query, **headers)
            assert (status, told) == (401, "the secret is missing or wrong: send it as a bearer")
        assert (await served.post(document(), **BEARER))[0] == 200
        token = "?token=wenn-der-hahn-kr%C3%A4ht"
        assert (await served.post(document(record("b")), query=token))[0] == 200
        assert len(await taken(served.driver, 2)) == 2
        (remark,) = [each for each in served.remarks() if "refused" in each]
        assert "the secret is missing or wrong" in remark
        assert "nobody" not in remark
        assert SECRET not in repr(served.source._options) + "".join(served.remarks())

    run(tmp_path, work, secret=SECRET)


@pytest.mark.slow
def test_what_cannot_be_a_notification_is_refused_with_what_is_wrong(tmp_path):
    async def work(served):
        async def refused(status, told, body=None, **asked):
            answer = await served.post(document() if body is None else body, **asked)
            assert answer[0] == status
            assert told in answer[1], answer[1]

        await refused(405, "are posted", method="PUT")
        await refused(405, "are posted", method="DELETE")
        await refused(403, "a page in a browser", origin="https://evil.example")
        await refused(415, "application/json", **{"content-type": "multipart/form-data"})
        await refused(415, "not compressed", **{"content-encoding": "gzip"})
        await refused(413, "2000 bytes at most", b"x" * 2_001)
        await refused(413, "2000 bytes at most", b"x" * 10_000_000)
        await refused(400, "malformed: is no JSON", b"")
        await refused(400, "malformed: is no JSON", b"\xff\xfe")
        await refused(400, "Records[1].s3.object.key", document(record(), record(key=7)))
        await refused(400, "1,025 bytes", document(record("x" * 1_025)))
        await refused(400, "is no notification of an object store", b'{"a": 1}')
        assert (await served.post(document(record("x" * 1_024))))[0] == 200
        assert await taken(served.driver, 1) == [(PUT, "x" * 1_024)]
        assert len([each for each in served.remarks() if "so far" in each]) == 1  # not one each
        served.url = served.url.replace("/uploads", "/not-there")
        status, _, headers = await served.post(document())
        assert (status, headers["retry-after"]) == (503, "5")
        served.url = served.url.replace("/not-there", "/else")
        await refused(404, "no trigger has this path")

    run(tmp_path, work, body_bytes_max=2_000)


@pytest.mark.slow
def test_while_too_many_wait_a_store_is_told_to_come_again(tmp_path):
    async def work(served):
        for number in range(3):
            assert (await served.post(document(record(f"{number}"))))[0] == 200
        status, told, headers = await served.post(document(record("3")))
        assert (status, told, headers["retry-after"]) == (503, "3 events wait already", "10")
        await taken(served.driver, 1)
        assert (await served.post(document(record("3"))))[0] == 200

    run(tmp_path, work, pending_max=3)


@pytest.mark.slow
def test_a_topic_that_asks_to_be_confirmed_is_told_of_and_not_followed(tmp_path):
    url = "http://169.254.169.254/latest/meta-data"

    async def work(served):
        body = {"Type": "SubscriptionConfirmation", "SubscribeURL": url, "Token": "x"}
        status, told, _ = await served.post(body, **{"content-type": "text/plain; charset=UTF-8"})
        assert (status, told) == (202, "addresses are not followed: somebody has to open it")
        (remark,) = [each for each in served.remarks() if url in each]
        assert "open its address yourself" in remark
        wrapped = {"Type": "Notification", "Message": document().decode()}
        assert (await served.post(wrapped))[:2] == (200, "1 new of 1")

    run(tmp_path, work)


@pytest.mark.slow
def test_hundreds_post_at_the_same_time(tmp_path):
    async def work(served):
        async def one(number):
            connector = aiohttp.TCPConnector(force_close=True)
            async with aiohttp.ClientSession(connector=connector) as alone:
                mine = Served(served.url, alone, None, None, None)
                assert (await mine.post(document(record(f"{number:03}"))))[0] == 200

        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(one, number)
        keys = [key for _, key in await taken(served.driver, 500)]
        assert sorted(keys) == [f"{number:03}" for number in range(500)]

    run(tmp_path, work)
