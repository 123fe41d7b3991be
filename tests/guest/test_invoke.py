"""A worker's conversation with whoever started it."""

import json
import os
import socket
import time

import pytest

from sandbox_users import code, need
from zygote_harness import RESULT, Zygote

pytestmark = pytest.mark.slow

MEASURE = "def handler(event, context):\n    return len(event['pad'])\n"


@pytest.fixture(scope="module")
def zygote():
    uid = need(os.getuid())
    with code(uid, {"app.py": MEASURE}) as folder, Zygote(folder, uid=uid) as zygote:
        yield zygote


@pytest.mark.parametrize("cuts", [[1], [15], [16], [20], [31, 32], [5, 40], [40, 70_000]])
def test_an_invocation_is_understood_in_however_many_pieces_it_comes(zygote, cuts):
    worker = zygote.spawn()
    try:
        for size in (2, 60_000, 200_000, 10, 2_000_000, 0):
            frame = worker.frame(json.dumps({"pad": "x" * size}).encode())
            start = 0
            for cut in [*[cut for cut in cuts if cut < len(frame)], len(frame)]:
                worker.channel.sendall(frame[start:cut])
                start = cut
                time.sleep(0.001)  # so that it reads a piece by itself
            answer = worker.answer()
            assert (answer.word, answer.value) == (RESULT, size), answer.body
    finally:
        zygote.end(worker)


def test_a_worker_that_is_told_nonsense_leaves(zygote):
    for said in (b"", b"x", bytes(16), bytes(40)):
        worker = zygote.spawn()
        worker.channel.sendall(said)
        worker.channel.shutdown(socket.SHUT_WR)
        assert zygote.bury(worker)["status"] == 0
