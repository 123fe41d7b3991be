from __future__ import annotations

import pytest
import uvloop

import broken_sources
import source_subjects
from streamfaas.testing import conformance
from streamfaas.testing.conformance import checks

MEMORY = checks(queue=False, revoke=True, unreachable=False, seek=True)
KAFKA = checks(queue=False, revoke=True, unreachable=True, seek=True, reread=True)
DIRECTORY = checks(queue=True, revoke=False, unreachable=True)
KINESIS = checks(queue=False, revoke=False, unreachable=True, reread=True)
SQS = checks(queue=True, revoke=False, unreachable=True)
BACKLOG = checks(queue=True, revoke=False, unreachable=True)
OBJECTS = checks(queue=True, revoke=False, unreachable=True)


def named(check):
    return check.__name__.removeprefix("check_")


@pytest.mark.slow
@pytest.mark.parametrize("check", MEMORY, ids=named)
def test_the_simulated_stream_keeps_the_contract(check):
    async def main():
        async with source_subjects.memory() as subject:
            await check(subject)

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("check", DIRECTORY, ids=named)
def test_the_directory_keeps_the_contract(check, tmp_path):
    async def main():
        async with source_subjects.directory(tmp_path) as subject:
            await check(subject)

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("check", BACKLOG, ids=named)
def test_the_backlog_keeps_the_contract(check, tmp_path):
    async def main():
        async with source_subjects.backlog(tmp_path) as subject:
            await check(subject)

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("check", OBJECTS, ids=named)
def test_notifications_of_object_stores_keep_the_contract(check, tmp_path):
    async def main():
        async with source_subjects.objects(tmp_path) as subject:
            await check(subject)

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("check", KINESIS, ids=named)
def test_kinesis_keeps_the_contract(check, kinesis, tmp_path):
    async def main():
        async with source_subjects.kinesis(kinesis, tmp_path) as subject:
            await check(subject)

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("check", KINESIS, ids=named)
def test_dynamodb_streams_keep_the_contract(check, aws_server, tmp_path):
    async def main():
        async with source_subjects.dynamodb(aws_server, tmp_path) as subject:
            await check(subject)

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("check", SQS, ids=named)
def test_a_standard_queue_keeps_the_contract(check, ministack):
    async def main():
        async with source_subjects.sqs(ministack) as subject:
            await check(subject)

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("check", SQS, ids=named)
def test_a_fifo_queue_keeps_the_contract(check, moto):
    async def main():
        async with source_subjects.sqs(moto, fifo=True) as subject:
            await check(subject)

    uvloop.run(main())


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("check", KAFKA, ids=named)
def test_kafka_keeps_the_contract_with_a_real_broker(check, kafka):
    async def main():
        async with source_subjects.kafka(kafka) as subject:
            await check(subject)

    uvloop.run(main())


def fails(subject_of, check, monkeypatch) -> bool:
    """Whether the check finds something."""
    monkeypatch.setattr(conformance, "PATIENCE_SECONDS", 1.0)

    async def main():
        async with subject_of() as subject:
            await check(subject)

    try:
        uvloop.run(main())
    except (AssertionError, TimeoutError, ExceptionGroup):
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("kind", broken_sources.OF_LOGS, ids=lambda kind: kind.__name__)
def test_a_broken_log_is_found(kind, monkeypatch):
    check = broken_sources.OF_LOGS[kind]
    assert check in MEMORY
    assert fails(lambda: source_subjects.memory(kind), check, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", broken_sources.OF_QUEUES, ids=lambda kind: kind.__name__)
def test_a_broken_queue_is_found(kind, monkeypatch, tmp_path):
    check = broken_sources.OF_QUEUES[kind]
    assert check in DIRECTORY
    assert fails(lambda: source_subjects.directory(tmp_path, kind), check, monkeypatch)
