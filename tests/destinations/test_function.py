from __future__ import annotations

import anyio
import pytest

import delivery_subjects
from delivery_subjects import SECONDS_IN_VAIN, each_check, each_check_of_faults, judge
from streamfaas.destinations.function import Function
from streamfaas.flow.errors import Refused
from streamfaas.flow.event import EVENT_BYTES_MAX
from streamfaas.flow.letters import Attribute, Letter
from streamfaas.testing.simulation import simulate


@each_check
def test_it_keeps_the_contract(check):
    judge(check, delivery_subjects.function(), loop=anyio.run)


@pytest.mark.parametrize("fault", ["full", "lost", "slow"])
@each_check_of_faults
def test_it_keeps_the_contract_when_it_is_broken(check, fault):
    judge(check, delivery_subjects.function(seconds=SECONDS_IN_VAIN), fault, loop=simulate)


def test_the_function_is_told_the_hops_the_trace_and_a_request_id_that_stays():
    async def main():
        told = []

        async def accept(function, event, request_id, *, hops, trace):
            told.append((function, event, request_id, hops, trace))

        stamp = Attribute("traceparent", "String", "00-a-b-01")
        letter = Letter("0123456789abcdef0123456789abcdef", b"{}", b"k", 7, (stamp,))
        await Function("next", accept).send([letter])
        assert told == [("next", b"{}", "01234567-89ab-cdef-0123-456789abcdef", 7, "00-a-b-01")]

    anyio.run(main)


def test_an_id_of_another_form_gives_a_request_id_that_stays():
    async def main():
        backlog = delivery_subjects.Accepting()
        for id_ in ("0" * 32 + "-dead", "0" * 32 + "-dead", "0" * 32):
            await Function("next", backlog).send([Letter(id_, b"{}")])
        first, again, other = (one.id for one in backlog.kept)
        assert first == again != other

    anyio.run(main)


def test_a_document_that_is_too_large_for_an_event_is_refused_by_its_limit():
    async def main():
        backlog = delivery_subjects.Accepting()
        large = Letter("0" * 32, b"x" * (EVENT_BYTES_MAX + 1))
        with pytest.raises(Refused, match=rf"over the limit of an event, {EVENT_BYTES_MAX}"):
            await Function("next", backlog).send([large])
        assert backlog.kept == []

    anyio.run(main)
