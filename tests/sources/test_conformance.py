from __future__ import annotations

import pytest

import broken_sources
import source_subjects
from source_subjects import each_check, judge
from streamfaas.testing.conformance import checks, driving


@pytest.mark.slow
@each_check(queue=False, revoke=True, unreachable=False, seek=True)
def test_the_simulated_stream_keeps_the_contract(check):
    judge(check, source_subjects.memory())


@pytest.mark.slow
@each_check(queue=True, revoke=False, unreachable=True)
def test_the_directory_keeps_the_contract(check, tmp_path):
    judge(check, source_subjects.directory(tmp_path))


@pytest.mark.slow
@each_check(queue=True, revoke=False, unreachable=True)
def test_the_backlog_keeps_the_contract(check, tmp_path):
    judge(check, source_subjects.backlog(tmp_path))


@pytest.mark.slow
@each_check(queue=True, revoke=False, unreachable=True)
def test_notifications_of_object_stores_keep_the_contract(check, tmp_path):
    judge(check, source_subjects.objects(tmp_path))


@pytest.mark.slow
@each_check(queue=False, revoke=False, unreachable=True, seek=True, reread=True)
def test_kinesis_keeps_the_contract(check, kinesis, tmp_path):
    judge(check, source_subjects.kinesis(kinesis, tmp_path))


@pytest.mark.slow
@each_check(queue=False, revoke=False, unreachable=True, seek=True, reread=True)
def test_dynamodb_streams_keep_the_contract(check, aws_server, tmp_path):
    judge(check, source_subjects.dynamodb(aws_server, tmp_path))


@pytest.mark.slow
@each_check(queue=True, revoke=False, unreachable=True)
def test_a_standard_queue_keeps_the_contract(check, ministack):
    judge(check, source_subjects.sqs(ministack))


@pytest.mark.slow
@each_check(queue=True, revoke=False, unreachable=True)
def test_a_fifo_queue_keeps_the_contract(check, moto):
    judge(check, source_subjects.sqs(moto, fifo=True))


@pytest.mark.kafka
@pytest.mark.slow
@each_check(queue=False, revoke=True, unreachable=True, seek=True, reread=True)
def test_kafka_keeps_the_contract_with_a_real_broker(check, kafka):
    judge(check, source_subjects.kafka(kafka))


def fails(check, subject, monkeypatch) -> bool:
    """Whether the check finds something."""
    monkeypatch.setattr(driving, "PATIENCE_SECONDS", 1.0)
    try:
        judge(check, subject)
    except (AssertionError, TimeoutError, ExceptionGroup):
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("kind", broken_sources.OF_LOGS, ids=lambda kind: kind.__name__)
def test_a_broken_log_is_found(kind, monkeypatch):
    check = broken_sources.OF_LOGS[kind]
    assert check in checks(queue=False, revoke=True, unreachable=False, seek=True)
    assert fails(check, source_subjects.memory(kind), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", broken_sources.OF_QUEUES, ids=lambda kind: kind.__name__)
def test_a_broken_queue_is_found(kind, monkeypatch, tmp_path):
    check = broken_sources.OF_QUEUES[kind]
    assert check in checks(queue=True, revoke=False, unreachable=True)
    assert fails(check, source_subjects.directory(tmp_path, kind), monkeypatch)
