from __future__ import annotations

import pytest
import uvloop

import source_subjects
from streamfaas.testing.conformance import checks

MEMORY = checks(queue=False, revoke=True, unreachable=False)
DIRECTORY = checks(queue=True, revoke=False, unreachable=True)


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
