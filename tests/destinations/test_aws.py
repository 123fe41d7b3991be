"""Queues, topics and buckets keep the contract of destinations, with ministack and with moto."""

from __future__ import annotations

import pytest

import aws_subjects
import delivery_subjects
from streamfaas.testing.deliveries import CHECKS, FAULT_CHECKS

KINDS = {"sqs": aws_subjects.queue, "sns": aws_subjects.topic, "s3": aws_subjects.bucket}


def named(check):
    return check.__name__.removeprefix("check_")


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=named)
@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_the_contract(kind, check, ministack_faults):
    async def main():
        async with KINDS[kind](ministack_faults) as (subject, _):
            await check(subject)

    delivery_subjects.run(main)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_another_server_agrees(kind, moto_faults):
    async def main():
        async with KINDS[kind](moto_faults) as (subject, _):
            await CHECKS[0](subject)

    delivery_subjects.run(main)


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

    async def main():
        async with KINDS[kind](ministack_faults, seconds) as (subject, faults):
            assert sorted(faults) == sorted(aws_subjects.FAULTS)
            await check(subject, faults[fault])

    delivery_subjects.run(main)
