"""Queues, topics and buckets keep the contract of destinations, with ministack and with moto."""

from __future__ import annotations

import pytest

import aws_subjects
from delivery_subjects import each_check, judge
from streamfaas.testing.deliveries import CHECKS, FAULT_CHECKS

KINDS = {"sqs": aws_subjects.queue, "sns": aws_subjects.topic, "s3": aws_subjects.bucket}


@pytest.mark.slow
@each_check
@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_the_contract(kind, check, ministack_faults):
    judge(check, KINDS[kind](ministack_faults))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_another_server_agrees(kind, moto_faults):
    judge(CHECKS[0], KINDS[kind](moto_faults))


BREAKS, BEGINS, LEAVES = FAULT_CHECKS
TRIED = [
    *((BREAKS, fault) for fault in aws_subjects.FAULTS),
    (BEGINS, "gone"),
    (BEGINS, "hanging up"),
    (LEAVES, "slow"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("check", "fault"), TRIED, ids=lambda one: getattr(one, "__name__", one))
@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_the_contract_when_it_is_broken(kind, check, fault, ministack_faults):
    seconds = aws_subjects.SECONDS_IN_VAIN if fault == "slow" else aws_subjects.SECONDS
    judge(check, KINDS[kind](ministack_faults, seconds), fault, of=aws_subjects.FAULTS)
