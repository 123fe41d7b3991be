from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfaas.workers.logs import (
    LINE_BYTES_MAX,
    LINE_COST_BYTES,
    RATE_LINE_COST_BYTES,
    Allowance,
    LogPipe,
    printable,
)

MIB = 1 << 20


class Pipe:
    """A log pipe, its writing end, and the lines that came out."""

    def __init__(self, loop, bytes_max, rate_max):
        reading, self.writing = os.pipe()
        self.lines = []
        self.wanted = True
        self.turns = 0
        self.loop = loop
        self.cuts = []  # told of
        self.allowance = Allowance(loop, rate_max, self.cuts.append)
        self.logs = LogPipe(
            loop, reading, bytearray(64 * 1024), bytes_max, allowance=self.allowance,
            write=self.lines.append, cut=self.cuts.append, wanted=lambda: self.wanted,
        )  # fmt: skip

    def write(self, data):
        assert os.write(self.writing, data) == len(data)

    async def end_invocation(self):
        done = self.loop.create_future()
        self.logs.drain(lambda: done.set_result(None))
        await done

    def close(self):
        self.logs.close()
        self.allowance.close()
        os.close(self.writing)


@contextmanager
def pipe(bytes_max=MIB, rate_max=100 * MIB):
    it = Pipe(asyncio.get_running_loop(), bytes_max, rate_max)
    try:
        yield it
    finally:
        it.close()


def run(scenario):
    asyncio.run(scenario())


def test_what_was_written_before_a_drain_is_there_after_it():
    async def scenario():
        with pipe() as it:
            it.write(b"one\ntwo\r\n\nthree")
            await it.end_invocation()
            assert it.lines == ["one", "two", "", "three"]
            await it.end_invocation()
            assert len(it.lines) == 4

    run(scenario)


@settings(max_examples=60)
@given(
    st.lists(st.text(st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=50)),
    st.lists(st.integers(1, 40), max_size=20),
)
def test_lines_are_the_same_in_however_many_pieces_they_come(lines, sizes):
    data = "".join(line + "\n" for line in lines).encode()

    async def scenario():
        with pipe() as it:
            rest = data
            for size in [*sizes, len(data) + 1]:
                it.write(rest[:size])
                rest = rest[size:]
                for _ in range(2):
                    await asyncio.sleep(0)
            await it.end_invocation()
            assert it.lines == lines

    run(scenario)


@settings(max_examples=200)
@given(
    st.lists(st.one_of(st.binary(max_size=300), st.just(b"\n" * 100)), max_size=8),
    st.integers(1, 700),
)
def test_of_any_output_no_more_than_the_cap_is_kept_and_the_rest_is_counted(pieces, bytes_max):
    data = b"".join(pieces)

    async def scenario():
        with pipe(bytes_max) as it:
            it.write(data)
            await it.end_invocation()
            marks = [line for line in it.lines if line.startswith("… output cut after")]
            kept = [line for line in it.lines if line not in marks]
            assert len(marks) <= 1
            assert len(kept) <= bytes_max // LINE_COST_BYTES + 2
            dropped = int(marks[0].split("(")[1].split()[0]) if marks else 0
            assert it.cuts == ([dropped] if dropped else [])
            assert len(data) - dropped <= bytes_max + 1
            it.write(b"next\n")
            await it.end_invocation()
            if bytes_max >= 4:
                assert it.lines[-1] == "next"

    run(scenario)


def test_a_line_without_an_end_is_cut_and_marked_and_costs_no_memory():
    async def scenario():
        with pipe() as it:
            writer = threading.Thread(
                target=write_all, args=(it.writing, b"x" * 500_000 + b"\nnext\n")
            )
            writer.start()
            while not any(line == "next" for line in it.lines):  # noqa: ASYNC110 - a look, not a wait
                await asyncio.sleep(0.001)
            writer.join()
            assert it.lines[0] == "x" * LINE_BYTES_MAX + " … line cut"
            assert it.lines[1:] == ["next"]

    run(scenario)


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data) :]


def test_nothing_in_a_line_can_forge_another_or_steer_a_terminal():
    assert printable(b"a\x1b[31mb\rc\x00\x7fd\te") == "a\\x1b[31mb\\rc\\x00\\x7fd\te"
    assert printable("a\u2028b\x85c".encode()) == "a\\u2028b\\x85c"
    assert printable(b"caf\xc3\xa9 \xff\xfe") == "café \\xff\\xfe"
    assert printable("\xa0 indented".encode()) == "\xa0 indented"


@given(st.binary(max_size=200).filter(lambda data: b"\n" not in data))
def test_a_line_is_always_one_line(data):
    assert len(printable(data).splitlines()) <= 1


def test_a_record_of_many_lines_stays_together():
    async def scenario():
        with pipe() as it:
            it.write(b"[ERROR] no\rTraceback:\r  x = \x1b1\nnext\r\n")
            await it.end_invocation()
            assert it.lines == ["[ERROR] no\nTraceback:\n  x = \\x1b1", "next"]

    run(scenario)


def test_every_line_of_a_record_costs_what_a_line_costs():
    async def scenario():
        with pipe(10 * LINE_COST_BYTES) as it:
            it.write(b"\r" * 10 + b"\n" + b"more\n")
            await it.end_invocation()
            assert it.lines[0] == "\n" * 9
            assert "output cut after" in it.lines[-1]

    run(scenario)


def test_a_traceback_is_one_record_whoever_prints_it():
    async def scenario():
        with pipe() as it:
            it.write(b"before\nTraceback (most recent call last):\n  File a\n    x = 1\n")
            await asyncio.sleep(0.01)
            it.write(b"KeyError: 'x'\nafter\nTraceback (most recent call last):\n  File b\n")
            await it.end_invocation()
            assert it.lines == [
                "before",
                "Traceback (most recent call last):\n  File a\n    x = 1\nKeyError: 'x'",
                "after",
                "Traceback (most recent call last):\n  File b",
            ]

    run(scenario)


def test_over_invocations_a_function_may_write_so_much_in_a_second_and_is_told_what_was_cut():
    async def scenario():
        with pipe(rate_max=10 * (RATE_LINE_COST_BYTES + 4)) as it:
            for _ in range(30):
                it.write(b"line\n")
                await it.end_invocation()
            assert it.lines == ["line"] * 10
            while not it.cuts:  # noqa: ASYNC110 - a look, not a wait
                await asyncio.sleep(0.01)
            assert it.cuts == [20 * 5]
            it.write(b"again\n")
            await it.end_invocation()
            assert it.lines[-1] == "again"

    run(scenario)


def test_what_follows_a_line_that_was_torn_is_not_its_rest():
    async def scenario():
        with pipe(rate_max=100) as it:
            it.write(b"x" * 100)
            while not it.allowance.spent:  # noqa: ASYNC110 - a look, not a wait
                await asyncio.sleep(0)
            it.write(b"dropped")
            await asyncio.sleep(0.05)
            assert it.lines == ["x" * 100 + " … line cut"]
            while it.allowance.spent:  # noqa: ASYNC110 - a look, not a wait
                await asyncio.sleep(0.01)
            it.write(b"too\nnext\n")
            await it.end_invocation()
            assert it.lines[1:] == ["next"]
            it.allowance.close()
            assert sum(it.cuts) == len("dropped" + "too")

    run(scenario)


def test_where_nobody_listens_nothing_is_made_of_the_output():
    async def scenario():
        with pipe(1000) as it:
            it.wanted = False
            it.write(b"x\n" * 5000)
            await it.end_invocation()
            assert it.lines == []
            it.wanted = True
            it.write(b"now\n")
            await it.end_invocation()
            assert it.lines == ["now"]

    run(scenario)


def test_a_drain_of_a_full_pipe_gives_the_loop_its_turns():
    async def scenario():
        with pipe() as it:
            it.write(b"\n" * 65536)
            ticks = 0
            done = False

            async def tick():
                nonlocal ticks
                while not done:
                    ticks += 1
                    await asyncio.sleep(0)

            ticking = asyncio.create_task(tick())
            await asyncio.sleep(0)
            await it.end_invocation()
            done = True
            await ticking
            assert ticks > 5

    run(scenario)


@pytest.mark.slow
def test_a_flood_costs_the_loop_little_and_is_held_back_by_its_own_pipe():
    async def scenario():
        with pipe(100_000) as it:
            stop = threading.Event()
            written = 0

            def flood():
                nonlocal written
                while not stop.is_set():
                    written += os.write(it.writing, b"y" * 65536)

            thread = threading.Thread(target=flood)
            thread.start()
            while it.logs.taken < 100_000:  # noqa: ASYNC110 - a look, not a wait
                await asyncio.sleep(0.001)
            busy, start, before = time.thread_time(), time.monotonic(), written
            await asyncio.sleep(1)
            busy, elapsed = time.thread_time() - busy, time.monotonic() - start
            stop.set()
            # the thread may hang in its last write
            os.set_blocking(it.writing, False)
            while thread.is_alive():
                await it.end_invocation()
                await asyncio.sleep(0.001)
            assert busy / elapsed < 0.1
            assert 20e6 < (written - before) / elapsed < 150e6

    run(scenario)


def test_the_end_of_the_pipe_is_no_reason_to_look_again_and_again():
    async def scenario():
        reading, writing = os.pipe()
        loop = asyncio.get_running_loop()
        lines = []
        logs = LogPipe(
            loop, reading, bytearray(65536), MIB, allowance=Allowance(loop, MIB, lines.append),
            write=lines.append, cut=lines.append, wanted=lambda: True,
        )  # fmt: skip
        os.write(writing, b"last words")
        os.close(writing)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not loop.remove_reader(reading)
        done = []
        logs.drain(lambda: done.append(1))
        assert done == [1]
        assert lines == ["last words"]
        logs.close()
        logs.close()

    run(scenario)
